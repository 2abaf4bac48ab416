"""The client's half of the protocol, without sockets, clocks or threads.

What the hub sends goes into ``receive``; out come messages for the hub (``outbox``) and what happened
(the returned events). Until the hub has accepted a run, everything of it is kept and sent again; every
watch is a cursor, so that an end which comes twice, or in the wrong order, or not at all, is noticed and
asked for again. So a hub can be killed and started anew at any moment, and nothing is lost or doubled.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from nbq import wire
from nbq.blocks import Alias, Block
from nbq.core.facts import End
from nbq.wire import ToHub, ToPeer

__all__ = [
    "Accepted", "Answered", "ClientSession", "Connected", "Ended", "Event", "Lost", "RunRefused",
]  # fmt: skip

_PING_S = 1.0
_SILENCE_S = 3.5
_DIAL_S = 1.0
"""A hub that has not answered a hello for so long is dialled again."""
_RESEND_S = 3.0
_RENEW_S = 15.0
_RENEW_AT_ONCE = 100
_WINDOW_BYTES = 16 * 1024 * 1024


class Connected(Struct, frozen=True):
    """The hub answered the hello."""

    welcome: wire.Welcome


class Lost(Struct, frozen=True):
    """The hub refused this client for good."""

    code: str
    text: str


class Accepted(Struct, frozen=True):
    """A run is committed."""

    run: bytes


class RunRefused(Struct, frozen=True):
    """A run was not taken, or is not known (any more)."""

    run: bytes
    code: str
    text: str


class Ended(Struct, frozen=True):
    """Elements of a run ended. Each end of a watched node comes once, in the hub's order."""

    run: bytes
    node: int
    facts: list[End]
    blocks: list[Block]
    became: list[Alias] = []
    """Values of replaced elements; the nodes that they name are watched from now on."""


class Answered(Struct, frozen=True):
    """A request was answered."""

    request: int
    answer: ToPeer


Event = Connected | Lost | Accepted | RunRefused | Ended | Answered


class _Submission:
    """A run that the hub has not accepted yet, or a schedule that it has not taken."""

    __slots__ = (
        "acked", "functions", "more", "ready", "sent", "sent_s", "size", "sizes", "stages", "submit",
        "submitted",
    )  # fmt: skip

    def __init__(
        self,
        functions: dict[bytes, bytes],
        stages: list[wire.Stage],
        submit: wire.Submit | wire.PutSchedule,
    ) -> None:
        self.functions = functions
        self.stages = stages
        self.submit = submit
        self.sizes = [sum(len(block.data) for block in stage.blocks) for stage in stages]
        self.size = sum(self.sizes) + sum(len(block.data) for block in submit.blocks)
        self.ready = True
        self.more = False
        """Whether more nodes are to be watched than the submit itself asks for."""
        self.restart()

    def restart(self) -> None:
        self.sent = self.acked = 0
        self.submitted = False
        self.sent_s = 0.0


class _Watch:
    __slots__ = ("cursor", "left")

    def __init__(self, left: int) -> None:
        self.cursor = 0
        self.left = left


class ClientSession:
    """One client, as the hub knows it.

    Args:
        client: The client's id, the same for its life.
        role: ``client``, or ``viewer`` (which can only ask).
        token: What proves the role over ipc.
        versions: Versions to say hello with.
    """

    def __init__(self, client: bytes, role: wire.Role, token: bytes, versions: dict[str, str]) -> None:
        self.id = client
        self.outbox: deque[ToHub] = deque()
        self.connected = False
        self.commits = 0
        self._role: wire.Role = role
        self._token = token
        self._versions = versions
        self._epoch = 0
        self._submissions: dict[bytes, _Submission] = {}
        self.unacknowledged_bytes = 0
        """Bytes of the arguments of runs that the hub has not accepted yet."""
        self._watches: dict[bytes, dict[int, _Watch]] = {}
        self._requests: dict[int, tuple[ToHub, float]] = {}
        self._request = 0
        self._puts: dict[int, bytes] = {}
        """Ids of schedules that wait for an answer, by request."""
        self._functions: set[bytes] = set()
        self._heard_s = 0.0
        self._pinged_s = 0.0
        self._renewed_s = 0.0

    # -------------------------------------------------------------- what the client does

    def hello(self, now_s: float) -> wire.Hello:
        """Return what to say first on a new connection."""
        self.connected = False
        self._heard_s = now_s
        self.outbox.clear()
        return wire.Hello(wire.PROTOCOL, self._role, self._token, self.id, self._versions, epoch=self._epoch)

    def silent(self, now_s: float) -> bool:
        """Return whether the hub has not been heard for so long that the connection is given up."""
        return now_s - self._heard_s > (_SILENCE_S if self.connected else _DIAL_S)

    def submit(
        self,
        functions: dict[bytes, bytes],
        stages: list[wire.Stage],
        submit: wire.Submit,
        watch: dict[int, int],
        *,
        ready: bool = True,
    ) -> None:
        """Submit a run: the functions it names, its staged blocks, and the run itself.

        Args:
            functions: By content address; sent once a connection.
            stages: Blocks sent ahead, in messages, in order.
            submit: The run; what is accepted is answered by ``Accepted``.
            watch: The sizes of the nodes to watch, by number.
            ready: False if blobs of it are still on their way; then ``release`` follows.
        """
        submission = self._submissions[submit.run] = _Submission(functions, stages, submit)
        self.unacknowledged_bytes += submission.size
        submission.ready = ready
        if watch:
            self._watches[submit.run] = {node: _Watch(size) for node, size in watch.items()}
        if self.connected:
            self._pump(submission, self._heard_s)

    def put(
        self,
        functions: dict[bytes, bytes],
        stages: list[wire.Stage],
        put: wire.PutSchedule,
        *,
        ready: bool = True,
    ) -> None:
        """Set a schedule with what it runs, which is sent as of a run; it is answered by ``Answered``.

        Args:
            functions: As for ``submit``.
            stages: As for ``submit``, under its id.
            put: The schedule.
            ready: As for ``submit``.
        """
        submission = self._submissions[put.id] = _Submission(functions, stages, put)
        self._puts[put.request] = put.id
        self.unacknowledged_bytes += submission.size
        submission.ready = ready
        if self.connected:
            self._pump(submission, self._heard_s)

    def release(self, run: bytes, now_s: float) -> None:
        """All blobs of a run are with the hub: submit it."""
        submission = self._submissions.get(run)
        if submission is not None:
            submission.ready = True
            if self.connected:
                self._pump(submission, now_s)

    def watch(self, run: bytes, nodes: dict[int, int]) -> bool:
        """Watch nodes of a run, given with their sizes, from their first end on.

        Returns:
            Whether any of them was not watched yet.
        """
        watches = self._watches.get(run, {})
        new = {node: _Watch(size) for node, size in nodes.items() if node not in watches}
        if not new:
            return False
        self._watches[run] = {**watches, **new}
        submission = self._submissions.get(run)
        if submission is not None:
            submission.more = True
        elif self.connected:
            self._send_watch(run)
        return True

    def unwatch(self, run: bytes) -> None:
        """Watch nothing of a run any more."""
        if self._watches.pop(run, None) is not None and self.connected:
            self.outbox.append(wire.Unwatch(run))

    def next_request(self) -> int:
        """Return the number for the next request."""
        self._request += 1
        return self._request

    def ask(self, message: wire.Request, now_s: float) -> None:
        """Send a request; it is sent again until it is answered by ``Answered``."""
        self._requests[message.request] = message, now_s
        if self.connected:
            self.outbox.append(message)

    def drop_request(self, request: int) -> None:
        """Nobody waits for an answer any more."""
        self._answered(request)

    @property
    def unacknowledged(self) -> list[bytes]:
        """Return the runs that the hub has not accepted yet."""
        return list(self._submissions)

    # -------------------------------------------------------------- what the hub says

    def receive(self, message: ToPeer, now_s: float) -> list[Event]:
        """Take in a message from the hub; returns what happened."""
        if self.connected:  # before the welcome, nothing says that the hub knows this connection
            self._heard_s = now_s
        match message:
            case wire.Welcome():
                self._on_welcome(message, now_s)
                return [Connected(message)]
            case wire.Denied():
                return self._on_denied(message)
            case wire.Pong():
                self.commits = max(self.commits, message.commits)
            case wire.Accepted():
                return [Accepted(run) for run in message.runs if self._accept(run)]
            case wire.Staged():
                self._on_staged(message, now_s)
            case wire.NeedFunctions():
                self._on_need(message.addresses, now_s)
            case wire.Rejected():
                return self._on_rejected(message)
            case wire.Ends():
                return self._on_ends(message)
            case wire.Answer() | wire.Found() | wire.Events():
                if self._answered(message.request):
                    return [Answered(message.request, message)]
            case _:
                pass  # Stopping says that the hub will be silent; that is noticed anyway
        return []

    def _on_welcome(self, welcome: wire.Welcome, now_s: float) -> None:
        self.connected = True
        self._heard_s = now_s
        self._epoch = max(self._epoch, welcome.epoch)
        self._functions.clear()
        for submission in self._submissions.values():
            submission.restart()
            self._pump(submission, now_s)
        for run in self._watches:
            if run not in self._submissions:
                self._send_watch(run)
        for request, (message, _) in self._requests.items():
            self._requests[request] = message, now_s
            self.outbox.append(message)
        self._renewed_s = now_s

    def _on_denied(self, message: wire.Denied) -> list[Event]:
        self.connected = False
        if message.code == "session":
            self._heard_s = float("-inf")  # dial again, at once
            return []
        return [Lost(message.code, message.text)]

    def _on_staged(self, message: wire.Staged, now_s: float) -> None:
        submission = self._submissions.get(message.run)
        if submission is None:
            return
        stored = 0
        acked = 0
        for stage in submission.stages:
            stored += len(stage.blocks)
            if stored > message.upto:
                break
            acked += 1
        if submission.submitted and acked < len(submission.stages):
            submission.sent = acked  # the hub has less than was sent: go on from there
            submission.submitted = False
        submission.acked = max(submission.acked, acked)
        self._pump(submission, now_s)

    def _on_need(self, addresses: list[bytes], now_s: float) -> None:
        self._functions.difference_update(addresses)
        for submission in self._submissions.values():
            if not submission.functions.keys().isdisjoint(addresses):
                submission.submitted = False
                self._pump(submission, now_s)

    def _on_rejected(self, message: wire.Rejected) -> list[Event]:
        if message.request:
            return [Answered(message.request, message)] if self._answered(message.request) else []
        submission = self._settle(message.run)
        if submission is not None and isinstance(submission.submit, wire.PutSchedule):
            self._puts.pop(submission.submit.request, None)
            return [Answered(submission.submit.request, message)]
        self._watches.pop(message.run, None)
        return [RunRefused(message.run, message.code, message.text)]

    def _on_ends(self, message: wire.Ends) -> list[Event]:
        watches = self._watches.get(message.run, {})
        watch = watches.get(message.node)
        if watch is None or message.stop <= watch.cursor:
            return []
        if message.start != watch.cursor:
            self._send_watch(message.run)  # something before this was lost, or this overlaps
            return []
        watch.cursor = message.stop
        own = [fact for fact in message.facts if fact.node == message.node]
        watch.left -= sum(fact.hi - fact.lo for fact in own)
        if watch.left <= 0:
            del watches[message.node]
            if not watches:
                del self._watches[message.run]
        events: list[Event] = [
            Ended(message.run, message.node, message.facts, message.blocks, message.became)
        ]
        if message.sizes:
            self.watch(message.run, message.sizes)
        if self._accept(message.run):
            events.insert(0, Accepted(message.run))  # its acknowledgement was lost
        return events

    def _answered(self, request: int) -> bool:
        """Send a request no more; returns whether anybody waited for its answer."""
        put = self._puts.pop(request, None)
        if put is not None:
            self._settle(put)
            return True
        return self._requests.pop(request, None) is not None

    def _settle(self, run: bytes) -> _Submission | None:
        """The hub has answered a submit; returns it, if that is news."""
        submission = self._submissions.pop(run, None)
        if submission is not None:
            self.unacknowledged_bytes -= submission.size
        return submission

    def _accept(self, run: bytes) -> bool:
        """A run is committed; returns whether that is news."""
        submission = self._settle(run)
        if submission is None:
            return False
        if submission.more and run in self._watches:
            self._send_watch(run)
        return True

    # -------------------------------------------------------------- sending

    def _pump(self, submission: _Submission, now_s: float) -> None:
        """Send as much of a submission as the window allows."""
        if not submission.ready or submission.submitted:
            return
        submission.sent_s = now_s
        missing = {a: d for a, d in submission.functions.items() if a not in self._functions}
        for address, data in missing.items():
            self._functions.add(address)
            self.outbox.append(wire.PutFunctions({address: data}))
        while submission.sent < len(submission.stages):
            if sum(submission.sizes[submission.acked : submission.sent]) > _WINDOW_BYTES:
                return
            self.outbox.append(submission.stages[submission.sent])
            submission.sent += 1
        self.outbox.append(submission.submit)
        submission.submitted = True

    def _send_watch(self, run: bytes) -> None:
        cursors = {node: watch.cursor for node, watch in self._watches[run].items()}
        self.outbox.append(wire.Watch(run, cursors))

    def tick(self, now_s: float) -> None:
        """Send what is due: a ping, and again what was not answered."""
        if not self.connected:
            return
        if now_s - self._pinged_s >= _PING_S:
            self._pinged_s = now_s
            self.outbox.append(wire.Ping())
            for submission in self._submissions.values():
                if submission.ready and now_s - submission.sent_s > _RESEND_S:
                    submission.sent = submission.acked
                    submission.submitted = False
                    self._pump(submission, now_s)
            for request, (message, sent_s) in list(self._requests.items()):
                if now_s - sent_s > _RESEND_S:
                    self._requests[request] = message, now_s
                    self.outbox.append(message)
        if now_s - self._renewed_s >= _RENEW_S:
            self._renewed_s = now_s
            for run in list(self._watches)[:_RENEW_AT_ONCE]:
                if run not in self._submissions:
                    self._watches[run] = self._watches.pop(run)  # to the end: each has its turn
                    self._send_watch(run)
