"""Settings: one typed object, merged from defaults, files, the environment, ``configure`` and arguments.

Lowest first: the defaults; ``[tool.nbq]`` of ``pyproject.toml`` and then ``nbq.toml`` beside it, in the
nearest folder from the working folder upward that has either (``NBQ_CONFIG`` names another ``nbq.toml``);
``NBQ_<SETTING>`` variables; ``configure(...)``; keyword arguments of ``connect``, ``Cluster`` and commands.
Each value is checked where it comes from, so that an error names its source. Nothing is applied here:
who needs a setting reads it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from nbq import settings as places
from nbq.canvas.options import RetryPolicy
from nbq.errors import SettingsError

__all__ = [
    "SERVING",
    "Settings",
    "check_scope",
    "configuration_files",
    "configure",
    "current_settings",
    "dump",
    "on_change",
    "override",
    "read_toml",
    "reset",
    "tool_table",
]

_WEEK_S = 7 * 24 * 3600.0
_CELERY = re.compile(r"^(celery|celeryd|celerybeat|broker)_")
"""How settings of Celery begin."""
_OF_SCHEDULES = {"beat_schedule", "schedule", "schedules"}
"""What is no setting, and looked for among them (without how Celery's begin)."""
_INLINE_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x", re.ASCII: "a"}


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Times in seconds, sizes in bytes."""

    # Calls.
    default_queue: str = "default"
    """Where calls go that nothing else sends elsewhere; an engine serves it unless told otherwise."""
    queues: tuple[str, ...] = ()
    """The declared queues; an engine serves them all unless told otherwise."""
    create_missing_queues: bool = True
    """Whether calls may name a queue that is not declared."""
    routes: tuple[Any, ...] = ()
    """Which call goes where: names, patterns or functions, each with a queue or options (``routes``)."""
    annotations: tuple[Any, ...] = ()
    """Options and attributes of tasks, by name, or ``*`` for all (``annotations``)."""
    task_serializer: str = "pickle"
    result_serializer: str = "pickle"
    compression: str = ""
    """How arguments are compressed; empty for what pays."""
    result_compression: str = ""
    ignore_result: bool = False
    """Whether values are dropped as soon as nothing needs them; failures are kept all the same."""
    time_limit: float | None = None
    soft_time_limit: float | None = None
    cancel_grace: float = 0.5
    """How long a task that is cancelled has from the interrupt to the kill."""
    disable_rate_limits: bool = False
    """Whether calls from here leave the rate limits of their tasks out of account."""
    retry_policy: RetryPolicy | None = None
    """How long a call waits for a hub that cannot be reached; None: it returns, and is sent when it can."""
    timezone: str = ""
    """The zone of an ``eta`` or ``expires`` that names none; empty: such a one is refused."""
    always_eager: bool = False
    """Whether calls run here, in the calling process, instead of being sent."""
    eager_propagates: bool = False
    """Whether such a call raises what its task raised, rather than its ``get()``."""

    # What is read and kept.
    accept_content: tuple[str, ...] = ("pickle", "json", "msgpack", "yaml")
    """Serializers whose payloads are read here; the rest is rejected unread."""
    result_backend: str = ""
    """URL of a store for results beside the hub's own; empty for none."""
    result_expires: float = _WEEK_S
    """How long a hub keeps what has ended."""
    result_bytes: int = 1 << 30
    """Over so much, a hub forgets the oldest of what has ended."""

    # Engines.
    include: tuple[str, ...] = ()
    """Modules that every slot imports at its start."""
    concurrency: int | None = None
    """Slots of an engine; None for one a core."""
    worker_direct: bool = False
    """Whether an engine also serves the queue ``<its name>.dq``."""
    max_tasks_per_child: int | None = None
    """After so many tasks, a slot is replaced by a fresh process."""
    max_memory_per_child: int | None = None
    """A slot that has more bytes in use after a task is replaced."""
    waiting_limit: int = 4
    """How many tasks for each slot may wait for other tasks at a time; others serve in their place."""


_FIELDS: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Settings)}
_AT_LEAST: dict[str, float] = {
    "concurrency": 1, "max_tasks_per_child": 1, "max_memory_per_child": 1, "waiting_limit": 0,
    "result_bytes": 0, "result_expires": 1, "cancel_grace": 0, "time_limit": 1e-6, "soft_time_limit": 1e-6,
}  # fmt: skip
SERVING = frozenset({
    "concurrency", "include", "max_memory_per_child", "max_tasks_per_child", "result_bytes", "result_expires",
    "waiting_limit",
})  # fmt: skip
"""Settings of hubs and engines, which mean nothing to a client."""

_OF_ALL = frozenset({"always_eager", "annotations", "eager_propagates"})
"""Settings that hold for a whole process, whatever client or cluster is used."""

_SPECIAL: dict[str, Callable[[Any], object]] = {}
"""Checks of settings that are more than their type, by name; a ValueError says what does not fit."""


class _Process:
    """What this process has read, and what it was told."""

    handed = ""
    """The settings that a parent process of nbq handed down, as text."""
    base: Settings | None = None
    configured: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed
    merged: Settings | None = None
    listeners: list[Callable[[], object]] = []  # noqa: RUF012 - one list for the process


def current_settings() -> Settings:
    """Return the settings of this process; files and environment are read when this is first called.

    Raises:
        SettingsError: A file, variable or value is wrong; the message says which.
    """
    merged = _Process.merged
    if merged is None:
        if _Process.base is None:
            _Process.base = _read()
        merged = _Process.merged = override(_Process.base, _Process.configured, "nbq.configure()")
    return merged


def configure(**settings: Any) -> Settings:
    """Change settings of this process, over files and environment, which are read again; return them all.

    Args:
        settings: Fields of ``nbq.Settings``.

    Raises:
        SettingsError: There is no such setting, or a value does not fit.
    """
    base = _read()
    configured = {**_Process.configured, **settings}
    merged = override(base, configured, "nbq.configure()")
    _Process.base, _Process.configured, _Process.merged = base, configured, merged
    _tell()
    return merged


def reset() -> None:
    """Forget what was read and configured, as in a new process."""
    _Process.handed = ""
    _Process.base = _Process.merged = None
    _Process.configured = {}
    _tell()


def on_change(forget: Callable[[], object]) -> None:
    """Call a function whenever the settings of this process may have become others."""
    _Process.listeners.append(forget)


def _tell() -> None:
    for forget in _Process.listeners:
        forget()


def check_scope(names: Iterable[str], source: str, serving: bool) -> None:
    """Check that settings can be those of one client or cluster.

    Args:
        names: The settings.
        source: Where they come from, for errors.
        serving: Whether hub and engines are started too.

    Raises:
        SettingsError: One of them would change nothing there.
    """
    for name in names:
        if name in _OF_ALL:
            raise SettingsError(f"{source}: {name!r} holds for a whole process: nbq.configure({name}=…)")
        if name in SERVING and not serving:
            raise SettingsError(
                f"{source}: {name!r} is for hubs and engines, which are there already: set it where they are "
                "started"
            )


def override(base: Settings, values: Mapping[str, Any], source: str) -> Settings:
    """Return settings with other values.

    Args:
        base: The settings.
        values: By name.
        source: Where they come from, for errors.

    Raises:
        SettingsError: There is no such setting, or a value does not fit.
    """
    given = {name: _checked(name, value, source, name) for name, value in values.items()}
    if not given:
        return base
    merged = msgspec.structs.replace(base, **given)
    soft, hard = merged.soft_time_limit, merged.time_limit
    if soft is not None and hard is not None and soft > hard:
        raise SettingsError(f"{source}: soft_time_limit ({soft:g} s) is longer than time_limit ({hard:g} s)")
    return merged


# ------------------------------------------------------------------ sources


def _read() -> Settings:
    """Merge defaults, files and environment; or take what a parent process of nbq hands down instead."""
    variables = places.setting_variables()
    handed = _Process.handed = variables.pop("SETTINGS", "") or _Process.handed
    if handed:
        return override(Settings(), msgspec.json.decode(handed), "the variable NBQ_SETTINGS")
    found = Settings()
    for path in configuration_files():
        table = tool_table(path, read_toml(path))
        table.pop("schedules", None)  # not a setting: ``declared`` reads them
        found = override(found, table, str(path))
    for name, text in variables.items():
        if text:  # an empty variable is as good as none
            key = name.lower()
            source = f"the variable NBQ_{name}"
            value = _from_text(key, text, source) if key in _FIELDS else text
            found = override(found, {key: value}, source)
    return found


def configuration_files() -> list[Path]:
    """Return the files of settings, lowest first.

    Raises:
        SettingsError: ``NBQ_CONFIG`` names a file that is not there.
    """
    named = places.named_configuration()
    here = Path.cwd()
    found: list[Path] = []
    for folder in (here, *here.parents):
        # What anybody may write into (such as /tmp) is nobody's project, unless one works right there.
        if folder != here and folder.stat().st_mode & 0o002:
            break
        found = [path for name in ("pyproject.toml", "nbq.toml") if (path := folder / name).is_file()]
        if found:
            break
    if named is None:
        return found
    if not named.is_file():
        raise SettingsError(f"NBQ_CONFIG names {named}, and there is no such file")
    return [*(path for path in found if path.name == "pyproject.toml"), named]


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a file. Raises SettingsError."""
    import tomllib  # only where there is something to read

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


def tool_table(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return what is nbq's of the content of a file of settings. Raises SettingsError."""
    if path.name != "pyproject.toml":
        return content
    tool = content.get("tool", {})
    table = tool.get("nbq", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: tool.nbq must be a table")
    return table


def _from_text(key: str, text: str, source: str) -> Any:
    """Return what the text of a variable means for a setting."""
    kind = _FIELDS[key]
    if kind is str:
        return text
    if kind == tuple[str, ...]:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind in (bool, int, float, int | None, float | None):
        try:
            return msgspec.convert(text, kind, strict=False)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{source}: {key} does not fit: {error}") from None
    import tomllib  # only where there is something to read

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source}: {text!r} is not a TOML value: {error}") from None


# ------------------------------------------------------------------ values


def _checked(name: str, value: Any, source: str, key: str) -> Any:
    """Return the value of one setting as its field holds it."""
    if name not in _FIELDS:
        plain = _CELERY.sub("", name.lower())
        near = difflib.get_close_matches(plain, _FIELDS, 3)
        hint = "; docs/guide/configuration.md lists them"
        if plain in _OF_SCHEDULES:
            hint = "; schedules are declared with client.schedules.update(...), or in a file as [schedules]"
        elif near:
            hint = f"; did you mean {' or '.join(near)}?"
        elif plain != name.lower():
            hint = "; docs/celery.md says what stands for Celery's"
        raise SettingsError(f"{source}: there is no setting {key!r}{hint}")
    try:
        special = _SPECIAL.get(name)
        found = msgspec.convert(value if special is None else special(value), _FIELDS[name])
        least = _AT_LEAST.get(name)
        if isinstance(found, float) and not math.isfinite(found):
            raise ValueError("it must be finite")
        if least is not None and found is not None and found < least:
            raise ValueError(f"it must be at least {least:g}, not {found:g}")
    except ValueError as error:  # msgspec's is one
        raise SettingsError(f"{source}: {key} does not fit: {error}") from None
    return found


def _routes(value: object) -> tuple[object, ...]:
    """Return routes as a tuple of functions, their names, and tables of options by name or pattern."""
    entries = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(_route(entry) for entry in entries)


def _route(entry: object) -> object:
    if isinstance(entry, str):
        if ":" not in entry:
            raise ValueError(f"{entry!r} is not a router: write 'module:function', or a table of names")
        return entry
    if callable(entry):
        return entry
    if isinstance(entry, (list, tuple)) and all(isinstance(part, (list, tuple)) for part in entry):
        entry = dict(entry)  # pairs, where the order of patterns is to be seen
    if not isinstance(entry, Mapping):
        raise ValueError(f"a router is a table, a function or 'module:function', not {entry!r}")
    return {_pattern(name): _target(name, target) for name, target in entry.items()}


def _pattern(name: object) -> str:
    if isinstance(name, re.Pattern):
        flags = "".join(letter for flag, letter in _INLINE_FLAGS.items() if name.flags & flag)
        return f"re:(?{flags}){name.pattern}" if flags else f"re:{name.pattern}"
    if not isinstance(name, str) or not name:
        raise ValueError(f"a route is for a name, a glob or a compiled pattern, not {name!r}")
    if name.startswith("re:"):
        try:
            re.compile(name[3:])
        except re.error as error:
            raise ValueError(f"{name[3:]!r} is not a regular expression: {error}") from None
    return name


def _target(name: object, target: object) -> dict[str, Any]:
    if isinstance(target, str):
        return {"queue": target}
    if isinstance(target, Mapping):
        return {str(option): value for option, value in target.items()}
    raise ValueError(f"the route of {name!r} is a queue or a table of options, not {target!r}")


def _annotations(value: object) -> tuple[object, ...]:
    entries = value if isinstance(value, (list, tuple)) else (value,)
    for entry in entries:
        if isinstance(entry, Mapping):
            for name, table in entry.items():
                if not isinstance(name, str) or not isinstance(table, Mapping):
                    raise ValueError(f"the annotation of {name!r} is a table of options, not {table!r}")
        elif not (hasattr(entry, "annotate") or (isinstance(entry, str) and ":" in entry)):
            raise ValueError(
                f"an annotation is a table by task name, an object with annotate(task), or "
                f"'module:object', not {entry!r}"
            )
    return tuple(dict(entry) if isinstance(entry, Mapping) else entry for entry in entries)


def _zone(value: Any) -> str:
    if value == "":
        return ""
    from nbq.zones import zone_name  # only where a zone is named

    return zone_name(value)


_SPECIAL.update(routes=_routes, annotations=_annotations, timezone=_zone)


# ------------------------------------------------------------------ for child processes


def dump(settings: Settings) -> str:
    """Return settings as text for the variable ``NBQ_SETTINGS`` of a child process.

    A function or object in them goes by its name; one that cannot be imported stays behind.
    """
    fields = msgspec.structs.asdict(settings)
    for name in ("routes", "annotations"):
        fields[name] = [plain for entry in fields[name] if (plain := _by_name(entry)) is not None]
    return msgspec.json.encode(fields).decode()


def _by_name(entry: Any) -> Any:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict):
        return {name: _plain(table) for name, table in entry.items()}
    module, name = getattr(entry, "__module__", None), getattr(entry, "__qualname__", "<locals>")
    if module in (None, "__main__") or "<" in name:
        return None
    return f"{module}:{name}"


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    kept = (str, int, float, bool, list, tuple, dict, type(None))
    return {name: value for name, value in table.items() if isinstance(value, kept)}
