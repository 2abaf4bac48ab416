"""What a hub knows of the connections to it: sessions, what waits to be sent, and who watches what.

A session belongs to one connection and is named by a random token that rides in every frame. A
watch is a cursor in the log of a node's ends: what lies behind the cursor has been sent. So a slow
reader costs no memory, and one that comes back (to this hub or to the next) says where it was.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from nbq import wire
from nbq.core.runs import Run
from nbq.forward import Stored, ends_message
from nbq.transport import Delivery, HubTransport
from nbq.wire import ToPeer

__all__ = ["Peers", "Session"]

_OUTBOX_MESSAGES = 20_000
"""A peer that has not taken so many messages is given up."""


class Session:
    """One connection that has said hello."""

    __slots__ = (
        "accepted", "errors", "functions", "heard_s", "id", "outbox", "owner", "peer", "role", "taken",
        "token", "watches",
    )  # fmt: skip

    def __init__(self, peer: bytes, role: wire.Role, owner: str, own_id: bytes, heard_s: float) -> None:
        self.peer = peer
        self.token = os.urandom(wire.SESSION_BYTES)
        self.role: wire.Role = role
        self.owner = owner
        self.id = own_id
        self.heard_s = heard_s
        self.errors = 0
        self.accepted: list[bytes] = []
        """Runs to be acknowledged."""
        self.taken: list[int] = []
        """Numbers of reports to be acknowledged."""
        self.functions: set[bytes] = set()
        """Functions that this engine has been sent."""
        self.outbox: deque[ToPeer] = deque()
        self.watches: dict[int, dict[int, int]] = {}
        """By run number and node: how many ends have been sent."""


class Peers:
    """All sessions of a hub."""

    def __init__(self, endpoint: HubTransport) -> None:
        self._endpoint = endpoint
        self._sessions: dict[bytes, Session] = {}
        self._engines: dict[bytes, Session] = {}
        self._full: dict[bytes, Session] = {}
        self._watchers: dict[int, dict[bytes, Session]] = {}
        self._dirty: dict[int, None] = {}
        self.lost: list[Session] = []
        """Sessions found to be gone since this list was last emptied."""

    def __iter__(self) -> Iterator[Session]:
        """Iterate over a snapshot of all sessions."""
        return iter(list(self._sessions.values()))

    def add(self, session: Session) -> None:
        """Take in a session, in place of any that its peer (or engine) had before."""
        for old in [s for s in self if s.peer == session.peer or s.id == session.id]:
            self.remove(old)
        self._sessions[session.token] = session
        if session.role == "engine":
            self._engines[session.id] = session

    def remove(self, session: Session) -> None:
        """Forget a session and all that it watches."""
        self._sessions.pop(session.token, None)
        self._full.pop(session.token, None)
        if self._engines.get(session.id) is session:
            del self._engines[session.id]
        for run in session.watches:
            self._watchers.get(run, {}).pop(session.token, None)

    def session(self, token: bytes, peer: bytes) -> Session | None:
        """Return the session that a frame belongs to, if it comes from the session's own peer."""
        session = self._sessions.get(token)
        return session if session is not None and session.peer == peer else None

    def has(self, session: Session) -> bool:
        """Return whether a session still is one."""
        return self._sessions.get(session.token) is session

    def engine(self, engine: bytes) -> Session | None:
        """Return the session of an engine, or None while it is away."""
        return self._engines.get(engine)

    # -------------------------------------------------------------- sending

    def send(self, session: Session, message: ToPeer) -> None:
        """Send a message, or keep it until the peer takes more; in order."""
        if session.outbox:
            session.outbox.append(message)
            if len(session.outbox) > _OUTBOX_MESSAGES:
                self._lose(session)
        elif (delivery := self._endpoint.send(session.peer, session.token, message)) is Delivery.GONE:
            self._lose(session)
        elif delivery is Delivery.FULL:
            session.outbox.append(message)
            self._full[session.token] = session

    def answer(self, peer: bytes, message: ToPeer) -> None:
        """Send a message to a peer that has no session; if it cannot take it, it is dropped."""
        self._endpoint.send(peer, wire.NO_SESSION, message)

    def _lose(self, session: Session) -> None:
        self.remove(session)
        self.lost.append(session)

    def flush(self) -> None:
        """Try again what peers could not take before."""
        for session in list(self._full.values()):
            while session.outbox:
                delivery = self._endpoint.send(session.peer, session.token, session.outbox[0])
                if delivery is Delivery.GONE:
                    self._lose(session)
                    break
                if delivery is Delivery.FULL:
                    break
                session.outbox.popleft()
            if not session.outbox:
                self._full.pop(session.token, None)

    @property
    def waiting(self) -> bool:
        """Return whether anything could not be sent yet."""
        return bool(self._full)

    # -------------------------------------------------------------- watching

    def watch(self, session: Session, run: Run, cursors: dict[int, int]) -> None:
        """Send a session the ends of nodes from some positions on; positions beyond are reset."""
        watched = session.watches.setdefault(run.number, {})
        for number, cursor in cursors.items():
            if number < len(run.nodes):
                watched[number] = cursor if cursor <= len(run.nodes[number].ends) else 0
        self._watchers.setdefault(run.number, {})[session.token] = session
        self._dirty[run.number] = None

    def unwatch(self, session: Session, run: int) -> None:
        """Send a session nothing more of a run."""
        session.watches.pop(run, None)
        self._watchers.get(run, {}).pop(session.token, None)

    def changed(self, run: int) -> None:
        """Take notice that elements of a run ended."""
        if run in self._watchers:
            self._dirty[run] = None

    def forget(self, run: int) -> None:
        """Drop all watches of a run."""
        for session in self._watchers.pop(run, {}).values():
            session.watches.pop(run, None)

    def push(self, runs: dict[int, Run], stored: Stored) -> None:
        """Send watchers the ends that they have not seen; a reader that is full waits."""
        dirty, self._dirty = self._dirty, {}
        for number in dirty:
            run = runs.get(number)
            watchers = self._watchers.get(number, {})
            if run is None or not watchers:
                self._watchers.pop(number, None)
                continue
            for session in list(watchers.values()):
                self._push_run(session, run, stored)
            if not run.left:
                self._finish(run)

    def _push_run(self, session: Session, run: Run, stored: Stored) -> None:
        cursors = session.watches[run.number]
        for number in cursors:
            cursor, ends = cursors[number], run.nodes[number].ends
            while cursor < len(ends):
                if session.outbox:
                    self._dirty[run.number] = None
                    return
                message = ends_message(run, number, cursor, stored)
                cursor = cursors[number] = message.stop
                self.send(session, message)
                if session.token not in self._sessions:
                    return

    def _finish(self, run: Run) -> None:
        """Drop watches that have nothing more to come."""
        for session in list(self._watchers.get(run.number, {}).values()):
            cursors = session.watches[run.number]
            if all(cursor >= len(run.nodes[node].ends) for node, cursor in cursors.items()):
                self.unwatch(session, run.number)
        if not self._watchers.get(run.number):
            self._watchers.pop(run.number, None)
