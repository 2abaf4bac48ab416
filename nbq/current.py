"""Which client is meant when none is named.

The innermost ``with``, else the last one connected in this process, else the hub that ``nbq.connect()``
finds; inside a task that is the task's own hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbq.canvas import Plan, bind_submitter

if TYPE_CHECKING:
    from nbq.client import Client

__all__ = ["current_client", "entered", "forget", "left", "note"]

_entered: list[Client] = []
_connected: list[Client] = []


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


def current_client() -> Client:
    """Return the client that is meant when none is named.

    Raises:
        HubUnreachable: There is none, and no hub to connect to.
    """
    for client in (*reversed(_entered), *reversed(_connected)):
        if not client.closed:
            return client
    from nbq.client import connect  # opens sockets: only when a client is needed

    return connect()


def _submit(plan: Plan) -> Any:
    return current_client().submit_plan(plan)


bind_submitter(_submit)
