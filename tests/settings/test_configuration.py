"""Settings: where they come from, which one wins, and what is said of one that is wrong."""

from __future__ import annotations

import os
import re
from datetime import UTC, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

import nbq
from nbq import configuration, settings
from nbq.canvas.options import RetryPolicy
from nbq.configuration import Settings, configure, current_settings, dump, override
from nbq.errors import SettingsError

pytestmark = pytest.mark.usefixtures("fresh")


def changed() -> dict[str, object]:
    """Return the settings of this process that are not the defaults."""
    found, usual = msgspec.structs.asdict(current_settings()), msgspec.structs.asdict(Settings())
    return {name: value for name, value in found.items() if value != usual[name]}


def refused(**values: object) -> str:
    with pytest.raises(SettingsError) as error:
        configure(**values)
    return str(error.value)


# ------------------------------------------------------------------ sources


def test_without_anything_the_settings_are_the_defaults() -> None:
    assert current_settings() == Settings()
    assert nbq.current_settings() is current_settings()


def test_each_source_goes_over_the_one_before(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("default_queue", "time_limit", "cancel_grace", "waiting_limit", "compression")
    project = fresh.parent
    (project / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.nbq]\n'
        'default_queue = "py"\ntime_limit = 1\ncancel_grace = 1\nwaiting_limit = 1\ncompression = "py"\n'
    )
    (project / "nbq.toml").write_text(
        'time_limit = 2\ncancel_grace = 2\nwaiting_limit = 2\ncompression = "nbq"'
    )
    monkeypatch.setenv("NBQ_CANCEL_GRACE", "3")
    monkeypatch.setenv("NBQ_WAITING_LIMIT", "3")
    monkeypatch.setenv("NBQ_COMPRESSION", "variable")
    configure(waiting_limit=4, compression="configured")
    client = override(current_settings(), {"compression": "argument"}, "connect()")
    found = {key: getattr(client, key) for key in keys}
    assert found == {
        "default_queue": "py", "time_limit": 2.0, "cancel_grace": 3.0, "waiting_limit": 4,
        "compression": "argument",
    }  # fmt: skip


def test_the_nearest_folder_with_a_file_is_the_project(fresh: Path) -> None:
    (fresh.parent / "nbq.toml").write_text("waiting_limit = 1")
    assert changed() == {"waiting_limit": 1}
    (fresh / "pyproject.toml").write_text("")
    configuration.reset()
    assert changed() == {}


def test_a_folder_that_anybody_may_write_to_is_nobodys_project(fresh: Path) -> None:
    (fresh.parent / "nbq.toml").write_text("waiting_limit = 1")
    fresh.parent.chmod(0o777)
    assert changed() == {}


def test_nbq_config_names_a_file_in_the_place_of_nbq_toml(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh / "pyproject.toml").write_text("[tool.nbq]\nwaiting_limit = 1\ncancel_grace = 1")
    (fresh / "nbq.toml").write_text("waiting_limit = 2")
    other = fresh.parent / "other.toml"
    other.write_text("waiting_limit = 3")
    monkeypatch.setenv("NBQ_CONFIG", str(other))
    assert changed() == {"waiting_limit": 3, "cancel_grace": 1.0}
    other.unlink()
    configuration.reset()
    with pytest.raises(SettingsError, match=r"NBQ_CONFIG names .*other\.toml, and there is no such file"):
        current_settings()


def test_variables_are_lists_with_commas_texts_numbers_and_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "NBQ_INCLUDE": "shop.tasks, shop.reports",
        "NBQ_DEFAULT_QUEUE": "slow",
        "NBQ_CREATE_MISSING_QUEUES": "false",
        "NBQ_ALWAYS_EAGER": "1",
        "NBQ_CONCURRENCY": "3",
        "NBQ_RESULT_EXPIRES": "60",
        "NBQ_TIMEZONE": "Asia/Shanghai",
        "NBQ_ROUTES": '{"shop.*" = "shop"}',
        "NBQ_RETRY_POLICY": "{max_retries = 1}",
        "NBQ_COMPRESSION": "",
        "NBQ_HUB": "no-setting",
    }.items():
        monkeypatch.setenv(name, text)
    assert changed() == {
        "include": ("shop.tasks", "shop.reports"),
        "default_queue": "slow",
        "create_missing_queues": False,
        "always_eager": True,
        "concurrency": 3,
        "result_expires": 60.0,
        "timezone": "Asia/Shanghai",
        "routes": ({"shop.*": {"queue": "shop"}},),
        "retry_policy": RetryPolicy(max_retries=1),
    }


def test_files_are_read_once_and_again_by_configure(fresh: Path) -> None:
    assert changed() == {}
    (fresh / "nbq.toml").write_text("waiting_limit = 1")
    assert changed() == {}
    configure(cancel_grace=1)
    assert changed() == {"waiting_limit": 1, "cancel_grace": 1.0}
    configure(queues=["a"])
    assert changed() == {"waiting_limit": 1, "cancel_grace": 1.0, "queues": ("a",)}


# ------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "nbq.toml",
            "defualt_queue = 'a'",
            "there is no setting 'defualt_queue'; did you mean default_queue?",
        ),
        ("nbq.toml", "zzz = 1", "there is no setting 'zzz'; docs/guide/configuration.md lists them"),
        ("nbq.toml", "default_queue = 3", "default_queue does not fit: Expected `str`, got `int`"),
        ("nbq.toml", "queues = 'a,b'", "queues does not fit: Expected `array`, got `str`"),
        ("nbq.toml", "concurrency = 0", "concurrency does not fit: it must be at least 1, not 0"),
        ("nbq.toml", "result_expires = inf", "result_expires does not fit: it must be finite"),
        ("pyproject.toml", "tool.nbq = 3", "tool.nbq must be a table"),
    ],
)
def test_an_error_names_the_file_and_the_key(fresh: Path, name: str, text: str, said: str) -> None:
    path = fresh / name
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        current_settings()
    assert str(error.value).startswith(f"{path}: {said}")


def test_a_file_that_is_not_toml_is_named(fresh: Path) -> None:
    (fresh / "nbq.toml").write_text("a = = 1")
    with pytest.raises(SettingsError, match=rf"^{re.escape(str(fresh))}/nbq.toml is not TOML: "):
        current_settings()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("NBQ_DEFUALT_QUEUE", "a", "there is no setting 'defualt_queue'; did you mean default_queue?"),
        ("NBQ_CONCURRENCY", "many", "concurrency does not fit: Expected `int | null`, got `str`"),
        ("NBQ_ROUTES", "{", "'{' is not a TOML value: "),
    ],
)
def test_an_error_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError) as error:
        current_settings()
    assert str(error.value).startswith(f"the variable {name}: {said}")


def test_what_is_refused_changes_nothing() -> None:
    configure(default_queue="a")
    said = refused(default_queue="b", create_missing_queue=3)
    assert said == (
        "nbq.configure(): there is no setting 'create_missing_queue'; did you mean create_missing_queues?"
    )
    assert changed() == {"default_queue": "a"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"time_limit": 1, "soft_time_limit": 2}, "soft_time_limit (2 s) is longer than time_limit (1 s)"),
        ({"timezone": "Mars/Olympus"}, "timezone does not fit: there is no time zone 'Mars/Olympus'"),
        ({"timezone": 8}, "timezone does not fit: it is the name of a zone or a ZoneInfo, not 8"),
        (
            {"retry_policy": {"retries": 1}},
            "retry_policy does not fit: Object contains unknown field `retries`",
        ),
        (
            {"routes": {"a": 3}},
            "routes does not fit: the route of 'a' is a queue or a table of options, not 3",
        ),
        (
            {"routes": {3: "a"}},
            "routes does not fit: a route is for a name, a glob or a compiled pattern, not 3",
        ),
        ({"routes": "a"}, "routes does not fit: 'a' is not a router: write 'module:function', or a table"),
        ({"routes": {"re:(": "a"}}, "routes does not fit: '(' is not a regular expression: "),
        ({"annotations": {"a": 3}}, "annotations does not fit: the annotation of 'a' is a table of options"),
        ({"annotations": 3}, "annotations does not fit: an annotation is a table by task name, an object"),
    ],
)
def test_values_that_cannot_mean_anything(value: dict[str, object], said: str) -> None:
    assert refused(**value).startswith(f"nbq.configure(): {said}")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("always_eager", True, "'always_eager' holds for a whole process: nbq.configure(always_eager=…)"),
        ("concurrency", 2, "'concurrency' is for hubs and engines, which are there already"),
        ("no_such", 2, "there is no setting 'no_such'"),
    ],
)
def test_settings_that_would_change_nothing_are_refused_by_connect(
    name: str, value: object, said: str
) -> None:
    connection = settings.Connection("h", "client", [], "", "", "", "")
    with pytest.raises(SettingsError, match=re.escape(f"connect(): {said}")):
        nbq.Client(connection, settings={name: value})
    if name == "always_eager":
        with pytest.raises(SettingsError, match=re.escape(f"Cluster(): {said}")):
            nbq.Cluster(**{name: value})


# ------------------------------------------------------------------ values


def test_zones_by_name_and_as_objects() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    given = ["", "UTC", UTC, "Asia/Shanghai", ZoneInfo("Asia/Shanghai"), east, timezone(-timedelta(hours=3))]
    names = [configure(timezone=value).timezone for value in given]
    assert names == ["", "UTC", "UTC", "Asia/Shanghai", "Asia/Shanghai", "UTC+05:30", "UTC-03:00"]


def test_compiled_patterns_keep_their_flags() -> None:
    routes = {re.compile("a.b"): "x", re.compile("c", re.IGNORECASE | re.DOTALL): "y"}
    assert configure(routes=routes).routes == ({"re:a.b": {"queue": "x"}, "re:(?is)c": {"queue": "y"}},)


# ------------------------------------------------------------------ child processes


def choose(name: str, args: object, kwargs: object, options: object, **_: object) -> str | None:
    return "x" if name == "a" else None


def test_a_child_process_gets_all_settings_in_place_of_files(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(
        default_queue="a", time_limit=3, queues=["b"], retry_policy={"max_retries": None}, timezone=UTC,
        routes=[{"t.*": "u"}, choose, lambda *_, **__: None, "shop:choose"],
        annotations=[{"*": {"rate_limit": "1/m", "on_failure": choose}}],
    )  # fmt: skip
    text = dump(current_settings())
    expected = override(
        current_settings(),
        {
            "routes": [{"t.*": "u"}, f"{__name__}:choose", "shop:choose"],
            "annotations": [{"*": {"rate_limit": "1/m"}}],
        },
        "test",
    )
    configuration.reset()
    (fresh / "nbq.toml").write_text("waiting_limit = 1")
    monkeypatch.setenv("NBQ_SETTINGS", text)
    monkeypatch.setenv("NBQ_CANCEL_GRACE", "9")
    assert current_settings() == expected
    assert "NBQ_SETTINGS" not in os.environ
    assert configure(waiting_limit=7) == override(expected, {"waiting_limit": 7}, "test")


def test_the_environment_of_a_child_has_the_settings() -> None:
    assert "NBQ_SETTINGS" not in settings.child_environment()
    assert settings.child_environment("{}")["NBQ_SETTINGS"] == "{}"
    assert settings.slot_environment("/nowhere/engine.json", "{}")["NBQ_SETTINGS"] == "{}"
