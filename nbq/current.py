"""Which client is meant when none is named, and with which settings calls are planned.

The innermost ``with``, else the last one connected in this process, else the hub that ``nbq.connect()``
finds; inside a task that is the task's own hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbq.canvas import Plan, bind_applier, bind_submitter
from nbq.canvas.options import bind_defaults, bind_timezone
from nbq.configuration import Settings, current_settings, override, zone
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
]

_entered: list[Client] = []
_connected: list[Client] = []


class RouterOf:
    """The router of the process's settings with others over them, made again when they have changed.

    Args:
        own: The other settings, checked.
        source: Where they come from, for errors.
    """

    def __init__(self, own: dict[str, Any], source: str) -> None:
        self._own = own
        self._source = source
        self._base: Settings | None = None
        self._router: Router | None = None

    def __call__(self) -> Router:
        """Return it."""
        base = current_settings()
        router = self._router
        if router is None or base is not self._base:
            router = self._router = Router(override(base, self._own, self._source))
            self._base = base
        return router


_process = RouterOf({}, "")


def entered(client: Client) -> None:
    """A ``with`` block of a client begins."""
    _entered.append(client)


def left(client: Client) -> None:
    """A ``with`` block of a client ends."""
    if client in _entered:
        _entered.remove(client)


def note(client: Client) -> None:
    """A client was connected."""
    _connected.append(client)


def forget(client: Client) -> None:
    """A client was closed."""
    left(client)
    if client in _connected:
        _connected.remove(client)


def _open_client() -> Client | None:
    for client in (*reversed(_entered), *reversed(_connected)):
        if not client.closed:
            return client
    return None


def current_client() -> Client:
    """Return the client that is meant when none is named.

    Raises:
        HubUnreachable: There is none, and no hub to connect to.
    """
    client = _open_client()
    if client is not None:
        return client
    from nbq.client import connect  # opens sockets: only when a client is needed

    return connect()


def current_router() -> Router:
    """Return the routes and settings of the client that is meant; of the process, where there is none."""
    client = _open_client()
    return _process() if client is None else client.router


def _submit(plan: Plan) -> Any:
    return current_client().submit_plan(plan)


def _apply(plan: Plan) -> Any:
    from nbq.local import apply_plan  # a whole cluster: only when it is used

    return apply_plan(plan)


bind_submitter(_submit)
bind_applier(_apply)
bind_defaults(current_router)
bind_timezone(lambda: zone(current_router().settings.timezone))
