"""Who waits to hear what happens: long polls, each answered when there is something for it.

An answer says how far the hub has looked, so that whoever asks again goes on there. What a peer does not
fetch in time is not kept for it, but counted. Sends nothing, and reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from nbq import wire
from nbq.core.chronicle import Chronicle, Wanted
from nbq.core.model import Now
from nbq.peers import Session

__all__ = ["Followers"]

_PAUSE_S = 0.05
"""A session is answered at most so often."""
_WAITING = 64
"""How many polls of a session may wait; the oldest makes room, and is sent again if it is still wanted."""
_BYTES = 512 * 1024
_LOOKED = 1000
"""After so many numbers in which there was nothing for it, a poll is answered without events."""
_TURN = 10_000
"""How many numbers are looked at in a turn (design, promise 10: no turn over 50 ms)."""


class _Poll:
    __slots__ = ("after", "follow", "missed", "since", "wanted")

    def __init__(self, follow: wire.Follow, after: int) -> None:
        chosen = follow.filter
        self.follow = follow
        self.after = self.since = after
        self.missed = 0
        self.wanted = Wanted(frozenset(chosen.kinds), chosen.task, chosen.queue, chosen.label, chosen.run)

    def look(self, chronicle: Chronicle) -> wire.Events:
        page = chronicle.read(self.after, self.wanted, self.follow.limit, _BYTES)
        self.after = page.last
        self.missed += page.missed
        return wire.Events(self.follow.request, page.events, self.missed, page.last)


class _Follower:
    __slots__ = ("next_s", "polls", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.next_s = 0.0
        self.polls: dict[int, _Poll] = {}


class Followers:
    """All polls of a hub.

    Args:
        chronicle: What happens.
        is_here: Whether a session still is one.
    """

    def __init__(self, chronicle: Chronicle, is_here: Callable[[Session], bool]) -> None:
        self._chronicle = chronicle
        self._is_here = is_here
        self._followers: dict[bytes, _Follower] = {}

    def take(self, session: Session, follow: wire.Follow) -> wire.Events | None:
        """Take in a poll, and return its answer if it does not wait; one that is sent again waits once."""
        after = follow.after if 0 <= follow.after <= self._chronicle.last else self._chronicle.last
        if not follow.wait:
            return _Poll(follow, after).look(self._chronicle)
        follower = self._followers.get(session.token)
        if follower is None:
            follower = self._followers[session.token] = _Follower(session)
        if follow.request not in follower.polls:
            follower.polls[follow.request] = _Poll(follow, after)
        if len(follower.polls) > _WAITING:
            del follower.polls[next(iter(follower.polls))]
        return None

    def answers(self, now: Now) -> list[tuple[Session, wire.Events]]:
        """Return what can be answered now."""
        found: list[tuple[Session, wire.Events]] = []
        left = _TURN
        for token, follower in list(self._followers.items()):
            if not self._is_here(follower.session):
                del self._followers[token]
            elif now.mono_s >= follower.next_s:
                answered = []
                for request, poll in follower.polls.items():
                    if left <= 0:
                        break
                    left -= self._chronicle.behind(poll.after)
                    events = poll.look(self._chronicle)
                    if events.events or events.missed or events.last - poll.since >= _LOOKED:
                        answered.append(request)
                        found.append((follower.session, events))
                for request in answered:
                    del follower.polls[request]
                    follower.next_s = now.mono_s + _PAUSE_S
        return found

    def wait_s(self, now: Now) -> float:
        """Return for how many seconds there is nothing to answer, if nothing happens."""
        last = self._chronicle.last
        waits = [
            follower.next_s - now.mono_s
            for follower in self._followers.values()
            if any(poll.after < last for poll in follower.polls.values())
        ]
        return max(0.0, min(waits, default=math.inf))
