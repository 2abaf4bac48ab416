"""What a hub writes into its log: who comes and goes, what is refused, and what happens to what it holds.

It reads the chronicle. What becomes of single tasks is told at the level debug only; else nothing is done for
it. Changes nothing.
"""

from __future__ import annotations

from nbq.core.chronicle import Chronicle, Wanted
from nbq.core.views import Happening
from nbq.logs import Log
from nbq.peers import Session

__all__ = ["HubLog"]

_MOST = 10_000
_AGAIN_S = 10.0
"""How often it is told that somebody was refused, by its reason."""


class HubLog:
    """The log of a hub.

    Args:
        chronicle: What happens.
    """

    def __init__(self, chronicle: Chronicle) -> None:
        self._chronicle = chronicle
        self._peers = Log("peers")
        self._logs = {
            "engine": Log("engines"),
            "schedule": Log("schedules"),
            "queue": Log("queues"),
        }
        self._tasks = Log("tasks")
        self._all = self._tasks.tells("debug")
        self._told = chronicle.last
        self._refused_s: dict[str, float] = {}

    # -------------------------------------------------------------- peers

    def joined(self, session: Session) -> None:
        """A peer has said hello."""
        self._peers.info("a peer connected", peer=session.id.hex(), role=session.role, key=session.owner)

    def left(self, session: Session) -> None:
        """A peer is gone, or was given up."""
        self._peers.info("a peer is gone", peer=session.id.hex(), role=session.role, key=session.owner)

    def complained(self, session: Session, code: str, text: str) -> None:
        """A peer sent what it may not send."""
        self._peers.warning(
            "a message was rejected", peer=session.id.hex(), role=session.role, key=session.owner, code=code,
            error=text,
        )  # fmt: skip

    def refused(self, peer: bytes, code: str, text: str) -> None:
        """Somebody was not let in. Whoever keeps trying is told of once in a while."""
        now_s = self._chronicle.now_s
        if now_s - self._refused_s.get(code, 0.0) >= _AGAIN_S:
            self._refused_s[code] = now_s
            self._peers.warning("a peer was refused", peer=peer.hex(), code=code, error=text)

    # -------------------------------------------------------------- what happens

    def happened(self) -> None:
        """Tell what has happened since the last time."""
        if self._all:
            page = self._chronicle.read(self._told, Wanted(), _MOST, 1 << 30)
            for happening in page.events:
                self._tell(happening)
        elif self._chronicle.rare:
            for happening in self._chronicle.rare:
                self._tell(happening)
        self._chronicle.rare.clear()
        self._told = self._chronicle.last

    def _tell(self, one: Happening) -> None:
        what = one.kind.partition("-")[0]
        log = self._logs.get(what)
        if log is None:
            self._tasks.debug(
                f"{one.kind}: {one.task}", task=one.id, attempt=one.attempt, name=one.task, count=one.count,
                run=one.run, queue=one.queue, label=one.label, engine=one.engine, error=one.text,
                seq=one.seq,
            )  # fmt: skip
            return
        tell = log.warning if one.kind in ("engine-lost", "schedule-missed") else log.info
        name = one.engine if what == "engine" else one.id
        tell(
            f"{one.kind}: {name}" + (f", {one.text}" if one.text else ""),
            run=one.run, seq=one.seq, **{what: name},
        )  # fmt: skip
