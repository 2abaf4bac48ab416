"""Routes, queues and annotations: what a call has beside its own options, without any process."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import pytest

import nbq
from nbq.annotations import annotate
from nbq.canvas import chain, group, plan, signature
from nbq.canvas.options import bind_defaults
from nbq.configuration import Settings, override
from nbq.core.model import Options
from nbq.current import current_router
from nbq.errors import InvalidSignature, SettingsError, UnknownQueue
from nbq.routes import Router


def settings(**values: Any) -> Settings:
    return override(Settings(), values, "test")


def router(**values: Any) -> Router:
    return Router(settings(**values))


def make(name: str, **options: Any) -> Any:
    return nbq.task(name=name, **options)(lambda *args, **kwargs: args)


def queue(found: Router, task: Any, *args: Any, **options: Any) -> str:
    return found.way(task, args, {}, options).options.queue


# ------------------------------------------------------------------ routes


def test_names_then_patterns_in_their_order() -> None:
    routes = {
        "shop.*": "shop",
        re.compile(r"(video|audio)\."): {"queue": "media", "priority": 3},
        "shop.pay": "pay",
        "*": "rest",
    }
    found = router(routes=routes)
    names = ["shop.pay", "shop.report", "video.cut", "audio.cut", "my.video.cut"]
    assert [queue(found, name) for name in names] == ["pay", "shop", "media", "media", "rest"]
    assert found.way("video.cut", (), {}, {}).options == Options(queue="media", priority=3)


def test_what_no_route_fits_goes_to_the_default_queue() -> None:
    found = router(routes=[{"a": "x"}, {"b": "y"}], default_queue="usual")
    assert [queue(found, name) for name in ("a", "b", "c")] == ["x", "y", "usual"]
    assert queue(router(), "c") == "default"


def test_the_first_table_that_fits_wins() -> None:
    found = router(routes=[{"shop.*": "first"}, {"shop.pay": "second"}])
    assert queue(found, "shop.pay") == "first"


def test_a_call_goes_before_its_task_that_before_routes_and_those_before_settings() -> None:
    routes = {"routes.*": {"queue": "routed", "priority": 1, "cancel_grace": 1}}
    found = router(routes=routes, default_queue="usual", cancel_grace=9, ignore_result=True)
    task = make("routes.order", priority=2, queue="own")
    assert found.way(task, (), {}, {"queue": "called"}).options == Options(
        queue="called", priority=2, cancel_grace_s=1.0, ignore_result=True
    )
    assert queue(found, task) == "own"


def test_functions_see_the_call_and_say_a_queue_options_or_nothing() -> None:
    seen: list[Any] = []

    def by_size(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
        seen.append((name, args, kwargs, options, task))
        if not args:
            return None
        return "big" if args[0] > 10 else {"queue": "small", "priority": 5}

    found = router(routes=[by_size, {"*": "rest"}])
    task = make("routes.sized", priority=1)
    assert [queue(found, task, size) for size in (11, 3)] == ["big", "small"]
    assert queue(found, task) == "rest"
    assert queue(found, "sized.by.name", 12) == "big"
    assert found.way(task, (3,), {"k": 1}, {"countdown": 2}).options == Options(
        queue="small", priority=1, countdown_s=2.0
    )
    assert seen[-1] == ("routes.sized", (3,), {"k": 1}, {"priority": 1, "countdown": 2}, task)
    assert seen[-2] == ("sized.by.name", (12,), {}, {}, None)


def test_no_function_is_asked_about_the_tasks_of_nbq_itself() -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError

    assert queue(router(routes=refuse, default_queue="usual"), "nbq.empty") == "usual"


def test_a_function_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("routes_of_a_shop")
    module.choose = lambda *_, **__: "chosen"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert queue(router(routes=["routes_of_a_shop:choose"]), "a") == "chosen"
    with pytest.raises(SettingsError, match=r"routes: 'routes_of_a_shop:chose' cannot be loaded: "):
        router(routes=["routes_of_a_shop:chose"])
    with pytest.raises(SettingsError, match=r"routes: 'no_such_module:f' cannot be loaded: No module named"):
        router(routes="no_such_module:f")


def test_a_route_with_an_unknown_option_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"the route of 'a': there is no option 'qeue'"):
        router(routes={"a": {"qeue": "x"}})
    found = router(routes=lambda *_, **__: {"qeue": "x"})
    with pytest.raises(SettingsError, match=r"what the router .* returned: there is no option 'qeue'"):
        queue(found, "a")
    with pytest.raises(SettingsError, match=r"what the router .* returned is no queue and no table"):
        queue(router(routes=lambda *_, **__: 3), "a")


# ------------------------------------------------------------------ queues


def test_a_queue_that_is_not_declared_is_refused_where_none_may_be_made() -> None:
    found = router(queues=["reports", "pictures"], create_missing_queues=False)
    assert [queue(found, "a", queue=name) for name in ("reports", "default")] == ["reports", "default"]
    with pytest.raises(UnknownQueue) as error:
        queue(found, "a", queue="report")
    assert str(error.value) == (
        "queue 'report' is not declared, and create_missing_queues is off; did you mean reports? (the "
        "setting 'queues' declares default, pictures, reports)"
    )
    with pytest.raises(UnknownQueue):
        queue(found, "a", queue="e1.dq")


def test_direct_queues_need_not_be_declared() -> None:
    found = router(create_missing_queues=False, worker_direct=True)
    assert queue(found, "a", queue="e1.dq") == "e1.dq"


def test_calls_that_say_nothing_are_worked_out_once() -> None:
    found = router(routes={"a": "x"})
    assert found.way("a", (), {}, {}) is found.way("a", (1,), {}, {})
    asking = router(routes=lambda *_, **__: "x")
    assert asking.way("a", (), {}, {}) is not asking.way("a", (), {}, {})


# ------------------------------------------------------------------ canvases


@pytest.fixture
def planned(request: pytest.FixtureRequest) -> Any:
    yield lambda found: bind_defaults(lambda: found)
    bind_defaults(current_router)


def test_members_of_a_group_go_where_the_settings_send_them(planned: Any) -> None:
    def by_size(name: str, args: Any, *_: Any, **__: Any) -> Any:
        return "big" if name == "sized" and args[0] > 1 else None

    planned(router(routes=[by_size, {"other": "elsewhere"}], default_queue="usual"))
    canvas = group(signature("sized", (size,)) for size in (1, 2, 3, 0)) | signature("other")
    nodes = plan(canvas).nodes
    assert [(node.task, node.size, node.options.queue) for node in nodes] == [
        ("sized", 2, "usual"), ("sized", 2, "big"), ("other", 1, "elsewhere"),
    ]  # fmt: skip


def test_options_of_a_canvas_go_before_routes(planned: Any) -> None:
    planned(router(routes={"a": "x", "b": "y"}))
    nodes = plan(chain(signature("a").set(queue="own"), signature("b")), priority=4).nodes
    assert [node.options for node in nodes] == [
        Options(queue="own", priority=4), Options(queue="y", priority=4),
    ]  # fmt: skip


# ------------------------------------------------------------------ annotations


class _Slow:
    def annotate(self, task: Any) -> Any:
        return {"priority": 7} if task.name.endswith("slow") else None


def test_annotations_change_options_of_one_task_or_all() -> None:
    table = {"*": {"queue": "q", "priority": 1}, "annotated.one": {"priority": 2}}
    found = router(annotations=[table, _Slow()])
    tasks = [make(f"annotated.{name}", cancel_grace=3) for name in ("one", "two", "slow")]
    assert [found.way(task, (), {}, {}).options for task in tasks] == [
        Options(queue="q", priority=priority, cancel_grace_s=3.0) for priority in (2, 1, 7)
    ]


def test_other_settings_take_back_what_was_annotated() -> None:
    task = make("annotated.back", priority=1)
    task.colour = "red"
    first = settings(annotations={task.name: {"priority": 2, "colour": "blue"}})
    annotate(task, first)
    annotate(task, first)
    assert (task.options, task.colour) == ({"priority": 2}, "blue")
    annotate(task, settings(annotations={task.name: {"@colour": str.upper}}))
    assert (task.options, task.colour) == ({"priority": 1}, "RED")
    annotate(task, settings())
    assert (task.options, task.colour) == ({"priority": 1}, "red")


def test_a_function_in_the_place_of_a_method_becomes_one() -> None:
    task = make("annotated.method")

    def payload(self: Any) -> str:
        return f"payload of {self.name}"

    annotate(task, settings(annotations={task.name: {"payload": payload}}))
    assert task.payload() == "payload of annotated.method"
    annotate(task, settings())
    assert "payload" not in vars(task)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"prioritty": 3}, "it has no 'prioritty' that can be set; did you mean priority"),
        ({"run": print}, "it has no 'run' that can be set"),
        ({"priority": "high"}, "an option does not fit: Expected `int`, got `str`"),
        ({"task_id": "x"}, "task_id belongs to one call"),
    ],
)
def test_an_annotation_that_does_not_fit_is_refused(table: dict[str, Any], said: str) -> None:
    task = make("annotated.wrong")
    with pytest.raises(SettingsError, match=f"annotations of task annotated.wrong: {re.escape(said)}"):
        annotate(task, settings(annotations={"annotated.*": {}, task.name: table}))


def test_an_option_of_a_call_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidSignature, match="there is no option 'prioritty'"):
        router().way("a", (), {}, {"prioritty": 1})
