"""Calls that cannot be made: refused where they are written, with a typed error that names what does not fit.

What needs no client is tested beside the code that refuses it: operands of ``|`` in ``tests/canvas``, routes
and settings in ``tests/settings``, serialisers in ``test_serializers.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

import nbq
from tests.processes.harness import World
from tests.processes.work import add, total

NOON = datetime(2030, 1, 1, 12)
ADD = "tests.processes.work.add(x, y): "
NO_ZONE = "=datetime.datetime(2030, 1, 1, 12, 0) has no time zone and none is configured: write datetime(…, "
TOO_LONG = "soft_time_limit (3 s) is longer than time_limit (2 s), so it would never be met"
NO_DICTIONARY = "kwargs must be a dictionary, not [2]"
DELAY: Any = add.delay
"""Without its types, which say the same."""
MISSING = f"{ADD}missing a required argument: 'y'"

ARGUMENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "delay": (lambda: DELAY(1), MISSING),
    "delay, too many": (lambda: DELAY(1, 2, 3), f"{ADD}too many positional arguments"),
    "delay, an unknown name": (lambda: DELAY(1, 2, z=3), f"{ADD}got an unexpected keyword argument 'z'"),
    "delay, one twice": (lambda: DELAY(1, 2, x=3), f"{ADD}multiple values for argument 'x'"),
    "apply_async": (lambda: add.apply_async((1,)), MISSING),
    "apply_async of no tuple": (lambda: add.apply_async(1), "args must be a list or tuple: write (1,)"),
    "apply_async of a text": (lambda: add.apply_async("ab"), "args must be a list or tuple: write ('ab',)"),
    "apply_async of no dictionary": (lambda: add.apply_async((1,), [2]), NO_DICTIONARY),
    "apply": (lambda: add.apply((1,)), MISSING),
    "a signature": (lambda: add.s(1).delay(), MISSING),
    "a signature that is called": (lambda: add.s(1).delay(2, 3), f"{ADD}too many positional arguments"),
    "a signature of no dictionary": (lambda: nbq.signature(add, (1,), [2]), NO_DICTIONARY),
    "a step that is fed": (
        (add.s(1, 2) | add.s(3, 4)).delay, f"{ADD}too many positional arguments",
    ),
    "a step that is not fed": ((add.s(1, 2) | add.si(3)).delay, MISSING),
    "a member": (lambda: nbq.group(add.s(1, 1), add.s(1)).delay(), MISSING),
    "a header": (lambda: nbq.chord([add.s(1)], total.s()).delay(), MISSING),
    "a body": (lambda: nbq.chord([add.s(1, 1)], add.s()).delay(), MISSING),
    "a link": (lambda: add.apply_async((1, 2), link=add.s()), MISSING),
    "an errback": (
        lambda: add.apply_async((1, 2), link_error=add.si()), f"{ADD}missing a required argument: 'x'",
    ),
    "a map": (lambda: add.map([1, 2]).delay(), MISSING),
    "a starmap": (lambda: add.starmap([(1, 2), (1,)]).delay(), MISSING),
    "a starmap of one that is known by its name": (
        lambda: nbq.signature(add.name).starmap([(1, 2), (1,)]).delay(), MISSING,
    ),
    "chunks": (lambda: add.chunks([(1, 2), (1,)], 1).delay(), MISSING),
}  # fmt: skip


@pytest.mark.parametrize(("call", "text"), ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.usefixtures("client")
def test_arguments_that_the_function_cannot_take(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(nbq.InvalidSignature) as caught:
        call()
    assert str(caught.value) == text


def test_arguments_of_what_a_client_submits(client: nbq.Client) -> None:
    for call, text in (
        (lambda: client.submit(add, 1), MISSING),
        (lambda: client.map(add, range(3)), MISSING),
        (lambda: client.map(add, range(3), range(3), range(3)), f"{ADD}too many positional arguments"),
        (lambda: client.send_task(add.name, (1,)), MISSING),
        (lambda: client.send_task("far.away", 5), "args must be a list or tuple: write (5,)"),
        (lambda: client.send_task("", (1,)), "the name of a task cannot be empty"),
    ):
        with pytest.raises(nbq.InvalidSignature) as caught:
            call()
        assert str(caught.value) == text


OPTIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "limits of a call": (lambda: add.apply_async((1, 2), soft_time_limit=3, time_limit=2), TOO_LONG),
    "limits of a task": (lambda: nbq.task(soft_time_limit=3, time_limit=2)(add.run), TOO_LONG),
    "limits of a task and a call": (
        lambda: nbq.Task(add.run, "limited", False, {"time_limit": 2}).apply_async((1, 2), soft_time_limit=3),
        TOO_LONG,
    ),
    "limits of a member and its group": (
        lambda: nbq.group(add.s(1, 2).set(soft_time_limit=3)).apply_async(time_limit=2), TOO_LONG,
    ),
    "an eta without a zone": (lambda: add.apply_async((1, 2), eta=NOON), f"eta{NO_ZONE}"),
    "one of a chain": (lambda: (add.s(1, 2) | add.s(1)).apply_async(eta=NOON), f"eta{NO_ZONE}"),
    "one of a member": (lambda: nbq.group(add.s(1, 2).set(eta=NOON)).delay(), f"eta{NO_ZONE}"),
    "an end without a zone": (lambda: add.apply_async((1, 2), expires=NOON), f"expires{NO_ZONE}"),
    "an option that does not exist": (lambda: add.apply_async((1, 2), qeue="x"), "there is no option 'qeue'"),
    "two that say the same": (
        lambda: add.apply_async((1, 2), countdown=1, eta=NOON), "eta and countdown say the same thing; give ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "text"), OPTIONS.values(), ids=OPTIONS)
@pytest.mark.usefixtures("client")
def test_options_that_cannot_mean_anything(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(nbq.InvalidSignature, match=f"^{re.escape(text)}"):
        call()


def test_a_queue_that_may_not_be_made_is_refused_with_near_names(client: nbq.Client) -> None:
    settings: dict[str, Any] = {"queues": ["reports"], "create_missing_queues": False}
    with nbq.connect(client.connection.path, **settings):
        for call in (
            lambda: add.apply_async((1, 2), queue="report"),
            lambda: nbq.group(add.s(1, 2), add.s(1, 2).set(queue="report")).delay(),
            lambda: nbq.send_task("far.away", queue="report"),
        ):
            with pytest.raises(
                nbq.UnknownQueue, match=r"^queue 'report' is not declared, .* did you mean reports"
            ):
                call()


def test_nothing_of_a_refused_call_reaches_the_hub(client: nbq.Client) -> None:
    before = len(client.runs(limit=1000))
    for call, _ in [*ARGUMENTS.values(), *OPTIONS.values()]:
        with pytest.raises(nbq.InvalidSignature):
            call()
    client.flush()
    assert len(client.runs(limit=1000)) == before


def test_a_task_that_is_not_registered_fails_at_once_wherever_it_is(world: World) -> None:
    near = "the engine knows no task named 'tests.processes.work.ad'; did you mean tests.processes.work.add"
    with nbq.Cluster(slots=1, include=["tests.processes.work"]) as client:
        unknown = nbq.signature("tests.processes.work.ad", (1, 2), immutable=True)
        for canvas in (
            unknown,
            add.s(1, 2) | unknown | add.s(1),
            nbq.chord([add.s(1, 2), unknown], total.s()),
        ):
            with pytest.raises(nbq.UnknownTask, match=f"^{re.escape(near)}"):
                canvas.delay().get(timeout=10)
        assert client.send_task(add.name, (1, 2)).get(timeout=10) == 3
