"""nbq: a cluster in your notebook.

    import nbq

    @nbq.task
    def add(x, y): return x + y

    with nbq.Cluster(slots=4) as client:
        add.delay(2, 2).get()

Names are loaded when they are first used, so that ``import nbq`` is quick and opens nothing. So no module
here may be called like a public name: loading it would put the module in the name's place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nbq.version import __version__

if TYPE_CHECKING:
    from nbq.canvas import Signature, chain, chord, group, signature
    from nbq.client import Client, connect, send_task
    from nbq.cluster import Cluster
    from nbq.codecs import register_serializer
    from nbq.compressions import register_compression
    from nbq.configuration import Settings, configure, current_settings
    from nbq.context import current_task
    from nbq.errors import (
        AuthenticationError,
        ContentDisallowed,
        HubBusy,
        HubError,
        HubUnreachable,
        Ignore,
        IntegrityError,
        InvalidNotebook,
        InvalidSchedule,
        InvalidSignature,
        MaxRetriesExceededError,
        NbqError,
        NotebookFailed,
        NotebookTooLong,
        NotSerializable,
        PayloadTooLarge,
        Refused,
        Reject,
        RemoteTraceback,
        ResultGone,
        ResultStoreError,
        Retry,
        SettingsError,
        SoftTimeLimitExceeded,
        Standstill,
        StoreError,
        TaskError,
        TaskFailed,
        TaskLost,
        TaskRevoked,
        TimeLimitExceeded,
        TooManyWaiting,
        UnknownEngine,
        UnknownQueue,
        UnknownResult,
        UnknownSchedule,
        UnknownTask,
        UsageError,
        VersionMismatch,
        WaitTimeout,
    )
    from nbq.notebooks import NotebookResult, notebook
    from nbq.results import AsyncResult
    from nbq.resultsets import GroupResult, MapResult, ResultSet, result_from_tuple
    from nbq.schedules import at, crontab, every
    from nbq.tasks import Task, task

_MODULES = {
    "nbq.canvas": ("Signature", "chain", "chord", "group", "signature"),
    "nbq.client": ("Client", "connect", "send_task"),
    "nbq.cluster": ("Cluster",),
    "nbq.codecs": ("register_serializer",),
    "nbq.compressions": ("register_compression",),
    "nbq.configuration": ("Settings", "configure", "current_settings"),
    "nbq.context": ("current_task",),
    "nbq.errors": (
        "InvalidNotebook", "NotebookFailed", "NotebookTooLong",
        "AuthenticationError", "ContentDisallowed", "HubBusy", "HubError", "HubUnreachable",
        "Ignore", "IntegrityError", "InvalidSchedule", "InvalidSignature", "MaxRetriesExceededError",
        "NbqError", "NotSerializable", "PayloadTooLarge", "Refused", "Reject", "RemoteTraceback",
        "ResultGone", "ResultStoreError", "Retry", "SettingsError", "SoftTimeLimitExceeded", "Standstill",
        "StoreError",
        "TaskError", "TaskFailed", "TaskLost", "TaskRevoked", "TimeLimitExceeded", "TooManyWaiting",
        "UnknownEngine", "UnknownQueue", "UnknownResult", "UnknownSchedule", "UnknownTask", "UsageError",
        "VersionMismatch", "WaitTimeout",
    ),
    "nbq.notebooks": ("NotebookResult", "notebook"),
    "nbq.results": ("AsyncResult",),
    "nbq.resultsets": ("GroupResult", "MapResult", "ResultSet", "result_from_tuple"),
    "nbq.schedules": ("at", "crontab", "every"),
    "nbq.tasks": ("Task", "task"),
}  # fmt: skip

_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604 - the table above names them all


def load_ipython_extension(shell: Any) -> None:
    """Make ``%nbq`` known in IPython and notebooks: ``%load_ext nbq``."""
    importlib.import_module("nbq.magics").load_ipython_extension(shell)


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'nbq' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
