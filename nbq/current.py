"""Which client is meant when none is named, and with which settings calls are planned.

The innermost ``with``, else the last one connected in this process, else the hub that ``nbq.connect()``
finds; inside a task that is the task's own hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from nbq.canvas import Plan, bind_applier, bind_submitter
from nbq.canvas.options import bind_defaults, bind_timezone
from nbq.configuration import current_settings, on_change, override
from nbq.routes import Router

if TYPE_CHECKING:
    from nbq.client import Client

__all__ = [
    "RouterOf",
    "current_client",
    "current_router",
    "entered",
    "forget",
    "left",
    "note",
    "settle",
]

_entered: list[Client] = []
_connected: list[Client] = []


class RouterOf:
    """The router of the process's settings with others over them, made again when they have changed.

    Args:
        own: The other settings.
        source: Where they come from, for errors.
    """

    def __init__(self, own: Mapping[str, Any], source: str) -> None:
        self._own = dict(own)
        self._source = source
        self.made: Router | None = None
        """The router; None if it has to be made (again)."""
        _routers.add(self)

    def __call__(self) -> Router:
        """Return it."""
        if self.made is None:
            self.made = Router(override(current_settings(), self._own, self._source))
        return self.made


class _Eager:
    """Whether calls run here."""

    on: bool | None = None
    """None: the settings have to be asked."""


_routers: WeakSet[RouterOf] = WeakSet()


def _forget() -> None:
    _Eager.on = None
    for router in list(_routers):
        router.made = None


_process = RouterOf({}, "")


def entered(client: Client) -> None:
    """A ``with`` block of a client begins."""
    _entered.append(client)


def left(client: Client) -> None:
    """A ``with`` block of a client ends."""
    for place in reversed(range(len(_entered))):
        if _entered[place] is client:
            del _entered[place]  # the innermost: another client's block may lie between two of its own
            return


def note(client: Client) -> None:
    """A client was connected."""
    _connected.append(client)


def forget(client: Client) -> None:
    """A client was closed."""
    left(client)
    if client in _connected:
        _connected.remove(client)


def _open_client() -> Client | None:
    for clients in (_entered, _connected):
        if clients and not clients[-1].closed:  # nearly always
            return clients[-1]
        for client in reversed(clients):
            if not client.closed:
                return client
    return None


def settle(timeout: float) -> None:
    """Wait until what this process submitted is acknowledged, at most so many seconds for each hub."""
    for client in {*_entered, *_connected}:
        if not client.closed:
            client.settle(timeout)


def current_client() -> Client:
    """Return the client that is meant when none is named; with ``always_eager``, one that runs calls here.

    Raises:
        HubUnreachable: There is none, and no hub to connect to.
    """
    if _Eager.on is not False:
        _Eager.on = current_settings().always_eager
        if _Eager.on:
            return _eager_client()
    client = _open_client()
    if client is not None:
        return client
    from nbq.client import connect  # opens sockets: only when a client is needed

    return connect()


def _eager_client() -> Client:
    from nbq.local import eager_client  # a whole cluster: only when calls run here

    return eager_client(_propagates)


def _propagates() -> bool:
    return current_settings().eager_propagates


def current_router() -> Router:
    """Return the routes and settings of the client that is meant; of the process, where there is none."""
    client = _open_client()
    return _process() if client is None else client.router


def _submit(plan: Plan) -> Any:
    return current_client().submit_plan(plan)


def _apply(plan: Plan) -> Any:
    from nbq.local import apply_plan  # a whole cluster: only when it is used

    return apply_plan(plan)


def _timezone() -> tzinfo | None:
    name = current_router().settings.timezone
    if not name:
        return None
    from nbq.zones import zone  # only where a zone is named

    return zone(name)


on_change(_forget)
bind_submitter(_submit)
bind_applier(_apply)
bind_defaults(current_router)
bind_timezone(_timezone)
