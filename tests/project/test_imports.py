"""The layers of the package as one table, and the rules that hold beside it.

A new module needs a row. `x.*` is a package and all in it; the names are without `nbq.`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch

import pytest

import nbq
from tests.project.tree import imports, modules, parsed

# Which modules of nbq a module may import.
LAYERS = {
    # Pure.
    "errors": "",
    "version": "",
    "core.*": "core.*",
    "canvas.*": "canvas.* core.* errors",
    "request": "core.*",
    "context": "canvas.* core.* errors request",
    "zones": "",
    "schedules": "core.* current errors zones",
    # What both sides of a connection share.
    "settings": "errors",
    "configuration": "canvas.* errors settings zones",
    "security": "errors settings",
    "blocks": "core.*",
    "operations": "blocks core.*",
    "wire": "blocks core.* errors operations",
    "transport": "errors frames security settings wire",
    "frames": "wire",
    "bulk": "wire",
    "pickling": "errors",
    "compressions": "errors",
    "codecs": "compressions errors pickling",
    "failures": "codecs errors pickling",
    "payload": "codecs compressions errors failures pickling",
    # Results elsewhere than in the hub.
    "stores.*": "errors stores.*",
    # The hub: it never unpickles, and knows neither tasks nor canvases.
    "blobs": "errors",
    "journal": "core.* errors settings",
    "forward": "blocks core.* wire",
    "peers": "core.* forward transport wire",
    "answers": "core.* wire",
    "staging": "core.* peers wire",
    "followers": "core.* peers wire",
    "logs": "errors",
    "hublog": "core.* logs peers",
    "requests": "answers core.* followers hublog peers staging wire",
    "hub": "blobs core.* errors forward journal peers requests staging transport wire zones",
    "serve": "blobs core.* errors hub journal logs security settings transport version wire",
    # Engines.
    "engines": "",
    "engines.pipe": "blocks core.* wire",
    "engines.roster": "wire",
    "engines.notes": "wire",
    "engines.sealing": "core.* engines.pipe errors payload wire",
    "engines.session": "core.* engines.notes engines.roster wire",
    "engines.courier": "bulk engines.sealing engines.session wire",
    "engines.child": "engines.pipe",
    "engines.captured": "",
    "engines.coroutines": "",
    "engines.feeds": "blocks core.* engines.pipe errors payload request stores.*",
    "engines.additions": "batch blocks canvas.* core.* engines.pipe errors frames functions tasks",
    "engines.watching": "context core.* signals traits",
    "engines.ending": "context core.* engines.pipe errors payload",
    "engines.storing": "core.* engines.ending engines.pipe errors payload stores.*",
    "engines.runner": "context core.* current engines.* errors payload signals tasks traits wire",
    "engines.slot": "configuration engines.ending engines.pipe engines.runner engines.storing errors payload"
    " notebooks signals stores.* tasks waits",
    "engines.kernels": "errors settings",
    "engines.tunnel": "errors settings",
    "engines.telling": "core.* logs wire",
    "engines.slots": "configuration engines.child engines.pipe engines.session engines.telling settings",
    "engines.supervisor": "configuration core.* engines.child engines.courier engines.pipe engines.roster"
    " engines.sealing engines.session engines.slots engines.telling engines.tunnel errors logs payload"
    " settings transport version wire",
    "engines.launch": "engines.supervisor errors settings transport",
    # The client.
    "functions": "payload traits",
    "traits": "errors",
    "signals": "traits",
    "publishing": "canvas.* core.* signals",
    "tasks": "annotations canvas.* configuration context current errors functions traits",
    "notebooks": "canvas.* context engines.kernels errors tasks",
    "annotations": "canvas.* configuration errors traits",
    "routes": "annotations canvas.* configuration core.* errors tasks",
    "current": "canvas.* client configuration local.* routes zones",
    "session": "blocks core.* wire",
    "replica": "blocks core.* errors payload",
    "batch": "canvas.* core.* errors frames functions payload replica tasks wire",
    "interrupts": "",
    "waits": "",
    "callbacks": "errors",
    "posting": "batch asking callbacks core.* errors session settings waits wire",
    "asking": "blocks core.* errors replica stores.* wire",
    "link": "asking batch bulk callbacks core.* errors interrupts payload posting replica session settings"
    " transport version waits wire",
    "eventstream": "core.* errors link posting wire",
    "walks": "core.* errors",
    "results": "canvas.* choosing core.* current errors link members replica resultsets walks wire",
    "ends": "core.* errors link replica",
    "members": "canvas.* core.* ends errors link replica results resultsets",
    "resultsets": "callbacks canvas.* choosing core.* current ends errors link members replica results walks"
    " waits",
    "runhandle": "choosing core.* link results walks wire",
    "seeing": "canvas.* core.* errors eventstream link results resultsets runhandle wire",
    "choosing": "canvas.* core.* errors link members results resultsets runhandle wire",
    "commanding": "core.* errors operations seeing wire",
    "steering": "canvas.* choosing commanding core.* errors results resultsets runhandle wire",
    "declared": "canvas.* configuration core.* errors schedules tasks zones",
    "schedulehandle": "client core.* errors schedules scheduling zones",
    "scheduling": "batch canvas.* client core.* current declared errors payload schedulehandle schedules"
    " wire",
    "client": "batch canvas.* configuration context core.* current errors functions link payload"
    " publishing results resultsets routes scheduling settings signals steering stores.* tasks wire",
    "cluster": "client configuration errors security settings",
    # A whole cluster in one process, for apply(), eager mode and tests (docs/adr/0009).
    "local.*": "blobs callbacks canvas.* client configuration context core.* current engines.* errors hub"
    " journal link local.* replica results resultsets settings tasks transport version waits wire"
    " zones",
    "testing": "canvas.* local.* signals tasks",
    # The web page: a client, in a process of its own.
    "web.access": "",
    "web.state": "core.* errors schedules",
    "web.*": "client core.* errors results schedules settings web.* wire zones",
    "top": "cli.* client core.* errors",
    # What users reach all of it by.
    "": "*",
    "__main__": "cli.*",
    "magics": "cli.* current errors",
    "cli.*": "*",
    "demo.*": "demo.*",  # and the public names of nbq, as any user
}

# Who may import what is neither nbq's nor the standard library's.
THIRD_PARTY = {
    "msgspec": "*",
    "zmq": "security transport",
    "cloudpickle": "pickling",
    "lz4": "compressions",
    "yaml": "codecs",
    "zstandard": "compressions",
    "fsspec": "stores.files",
    "pymemcache": "stores.memcached",
    "redis": "stores.redis",
    "sqlalchemy": "stores.sql",
    "jupyter_client": "engines.kernels",
    "nbclient": "engines.kernels",
    "nbconvert": "engines.kernels",
    "nbformat": "engines.kernels",
    "psutil": "settings engines.*",
    "pytest": "testing",
    "tzdata": "zones",
    "click": "cli.* magics",
    "rich": "cli.* demo.* top",
    "textual": "top",
    "IPython": "magics widgets.*",
    "ipywidgets": "widgets.*",
    "tornado": "web.*",
    "prometheus_client": "web.metrics",
}

# All of the standard library that the pure packages use: no sockets, clocks, threads, randomness, logging,
# environment or files.
PURE = frozenset(
    "__future__ bisect collections dataclasses datetime enum hashlib heapq html itertools math re reprlib"
    " typing".split()
)
CLOCKS = {"now", "utcnow", "today"}


# Brings a hub and an engine into the process of a client, when it asks for that, and only then.
ON_PURPOSE = "nbq.local"


def short(name: str) -> str:
    return name.removeprefix("nbq").removeprefix(".")


def named(name: str, patterns: str) -> bool:
    """Whether one of the patterns names this module: by itself, `package.*`, or `*`."""
    return any(fnmatch(name, pattern) or f"{name}.*" == pattern for pattern in patterns.split())


def row(name: str) -> str | None:
    """Return what the table lets a module import; its own row goes before its package's."""
    if short(name) in LAYERS:
        return LAYERS[short(name)]
    rows = [allowed for key, allowed in LAYERS.items() if key.endswith("*") and named(short(name), key)]
    return rows[0] if rows else None


def within(*packages: str) -> list[str]:
    return [name for name in modules() if short(name).split(".")[0] in packages]


def reached(name: str) -> set[str]:
    """Return all modules that come with a module, but those that `import nbq` brings anyhow."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for part in imports(waiting.pop()):
            if part.startswith("nbq.") and part not in found and part != ON_PURPOSE:
                found.add(part)
                waiting.append(part)
    return {short(part) for part in found}


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_what_its_row_allows(name: str) -> None:
    allowed = row(name)
    assert allowed is not None, f"{name} has no row in LAYERS"
    own = {part for part in imports(name) if part.split(".")[0] == "nbq" and part != "nbq"}
    assert {part for part in own if not named(short(part), allowed)} == set()


@pytest.mark.parametrize("name", modules())
def test_other_packages_are_imported_only_where_they_belong(name: str) -> None:
    others = {part for part in imports(name) if part.split(".")[0] not in {"nbq", *sys.stdlib_module_names}}
    assert {part for part in others if not named(short(name), THIRD_PARTY.get(part, ""))} == set()


@pytest.mark.parametrize("name", within("core", "canvas"))
def test_the_pure_packages_reach_nothing_outside_them(name: str) -> None:
    outside = {part for part in imports(name) if part.split(".")[0] != "nbq"}
    assert outside - PURE == outside & {"msgspec"}
    clocks = {
        node.attr
        for node in ast.walk(parsed(modules()[name]))
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS and _is_datetime(node.value)
    }
    assert clocks == set()


def _is_datetime(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"datetime", "date"}


@pytest.mark.parametrize("name", [f"nbq.{name}" for name in ("hub", "serve") if f"nbq.{name}" in modules()])
def test_the_hub_never_comes_near_a_payload(name: str) -> None:
    far = {"payload", "pickling", "codecs", "tasks", "functions", "canvas", "client", "engines.slot"}
    assert reached(name) & far == set()


@pytest.mark.parametrize("name", ["nbq.client", "nbq.engines.supervisor", "nbq.engines.slot"])
def test_clients_and_engines_know_no_hub(name: str) -> None:
    assert reached(name) & {"hub", "journal", "peers", "forward", "blobs", "serve"} == set()


def test_only_one_module_unpickles() -> None:
    picklers = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve"}
    assert [name for name in modules() if imports(name) & picklers] == ["nbq.pickling"]


def test_only_settings_reads_the_environment() -> None:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv", "expandvars", "expanduser"}

    def used(path_tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(path_tree):
            if isinstance(node, ast.Attribute):
                yield node.attr
            elif isinstance(node, ast.alias):
                yield node.name

    assert [name for name, path in modules().items() if names & set(used(parsed(path)))] == ["nbq.settings"]


def test_no_module_takes_the_place_of_a_public_name() -> None:
    """Loading a module ``nbq.task`` would put it where users find the decorator ``nbq.task``."""
    assert {name for name in modules() if short(name) in nbq.__all__} == set()


def test_no_row_is_left_over_from_a_module_that_is_gone() -> None:
    coming = {"engines.launch"}
    rows = LAYERS.keys() - coming
    assert {
        key for key in rows if not any(named(short(n), key) or short(n) == key for n in modules())
    } == set()
