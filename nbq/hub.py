"""The hub process: receive, decide, journal, perform; one turn after another, and nothing else.

One thread, one poll loop. What a turn received is decided by the scheduler, its facts are committed
in one transaction, and only then is anything said of them. So an acknowledgement or a result is never
ahead of the journal. Only leases leave before the commit: engines begin while the journal is written, and
if that fails, the next hub knows nothing of those leases and disowns them. What nobody is to be told yet may
wait for the next turn's commit. The hub forwards payloads and never looks inside one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from nbq import wire
from nbq.blobs import BlobFolder
from nbq.core import actions as act
from nbq.core import events as ev
from nbq.core.facts import Accepted, Became, Ended, Fact, Forgotten, Inherited, Leased, Settled
from nbq.core.graph import value_nodes
from nbq.core.model import NONE, Graph, Now
from nbq.core.scheduler import Limits, Scheduler
from nbq.errors import ProtocolError
from nbq.forward import engine_message, lease_messages
from nbq.journal import Batch, Store
from nbq.peers import Peers, Session
from nbq.requests import Requests
from nbq.staging import Stagings
from nbq.transport import Arrival, HubTransport
from nbq.wire import ToHub
from nbq.zones import zone

__all__ = ["Hub", "HubInfo"]

_IDLE_S = 0.002
_LATEST_S = 0.005
"""How long what nobody waits for may stay uncommitted and unacknowledged."""
_BATCH_BLOCKS = 1024
_BEAT_S = 1.0
_CLIENT_SILENCE_S = 60.0
_ERRORS = 10
_FULL_WAIT_S = 0.005
_SAVED = 10_000

_ALLOWED: dict[str, tuple[type, ...]] = {
    "client": (
        wire.Ping, wire.PutFunctions, wire.Stage, wire.Submit, wire.Watch, wire.Unwatch, wire.Cancel,
        wire.Forget, wire.Ask, wire.Upload, wire.Fetch, wire.Leaving, wire.Abort, wire.Save, wire.Steer,
        wire.PutSchedule, wire.ChangeSchedule, wire.Follow, wire.SteerQueue, wire.SetRate, wire.SteerEngine,
    ),
    "engine": (
        wire.Ping, wire.Report, wire.GaveBack, wire.Began, wire.SlotDied, wire.Beat,
        wire.NeedFunctions, wire.Upload, wire.Fetch, wire.Leaving, wire.Note, wire.Waiting, wire.Knows,
        wire.Resized,
    ),
    "viewer": (wire.Ping, wire.Ask, wire.Follow, wire.Leaving),
}  # fmt: skip
"""What each role may say (design, promise 8)."""

Identify = Callable[[str | None, bytes], tuple[str, wire.Role] | None]
"""From the user id of CURVE (None over ipc) and the token of a hello: key id and role, or None."""


class HubInfo(Struct, frozen=True):
    """What a hub says of itself."""

    name: str
    durability: str
    pid: int
    versions: dict[str, str]


class Hub:
    """One hub: a scheduler, the store of its facts, and the peers around it.

    Args:
        endpoint: Where peers are heard and spoken to.
        store: Where facts and blocks are kept; it is recovered from here.
        clock: Reads both clocks.
        info: What to say of itself.
        identify: Who a peer is.
        blobs: The folder of large blocks, or None if there is to be none.
        limits: The scheduler's bounds.
    """

    def __init__(
        self,
        endpoint: HubTransport,
        store: Store,
        clock: Callable[[], Now],
        info: HubInfo,
        identify: Identify,
        blobs: BlobFolder | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.scheduler = self._make_scheduler(store.epoch, limits)
        self.peers = Peers(endpoint)
        self.commits = 0
        self.served_s = 0.0
        """Monotonic time at which there was last something to do (for ``--idle-exit``)."""
        self._endpoint = endpoint
        self._store = store
        self._clock = clock
        self._info = info
        self._identify = identify
        self._blobs = blobs
        self._batch = Batch()
        self._actions: list[act.Action] = []
        self._replies: list[tuple[Session, wire.ToPeer]] = []
        self._owed: dict[bytes, Session] = {}
        """Sessions whose acknowledgements are not sent yet."""
        self._since_s = 0.0
        """When there was last nothing uncommitted or unacknowledged."""
        self._ends = False
        """Whether the batch holds more than runs that were taken and leases."""
        self.stagings = Stagings()
        self._requests = Requests(self)
        self._beat_s = 0.0
        self._known: set[bytes] = set()
        """Functions found in the store."""
        self._recover()

    def _make_scheduler(self, epoch: int, limits: Limits | None) -> Scheduler:
        return Scheduler(epoch, limits, zone)

    def _recover(self) -> None:
        now = self._clock()
        self._started_s = self.served_s = now.mono_s
        for fact in self._store.recover():
            self.scheduler.apply(fact)
        facts, actions = self.scheduler.recovered(now)
        self._batch.facts.extend(facts)
        self._actions.extend(actions)
        if self._blobs is not None:
            ledger = self.scheduler.ledger
            names = {name for run in ledger.runs.values() for name in run.blobs()}
            self._blobs.keep_only(names.union(ledger.shared, (a.hex() for a in ledger.functions)))
        self._batch.orphans += self._store.addresses()
        self._commit()

    # -------------------------------------------------------------- the turn

    def turn(self, timeout_s: float) -> None:
        """Receive what there is (waiting up to ``timeout_s``), decide, commit, perform.

        Raises:
            StoreError: What was decided could not be committed. Nothing of it was acknowledged; the
                hub must end, and recover from what is on disk.
        """
        now = self._clock()
        wait_s = _FULL_WAIT_S if self.peers.waiting else self.scheduler.wait_s(now)
        wait_s = min(wait_s, timeout_s, max(0.0, self._beat_s + _BEAT_S - now.mono_s))
        wait_s = min(wait_s, self._requests.followers.wait_s(now))
        if self._owed or self._batch:
            wait_s = min(wait_s, _IDLE_S)
        else:
            self._since_s = now.mono_s
        arrivals = self._endpoint.receive(wait_s)
        now = self._clock()
        for arrival in arrivals:
            self._receive(arrival, now)
        self._notice_lost(now)
        self._handle(ev.Ticked(), now, [])
        self._requests.look(now)
        self._send_leases()
        lull = not arrivals or now.mono_s - self._since_s > _LATEST_S
        if lull or self._is_due():
            self._commit()
            self._perform()
        if now.mono_s - self._beat_s >= _BEAT_S:
            self._beat(now)
        if lull:
            self._acknowledge(list(self._owed.values()))
        self.peers.flush()

    def _is_due(self) -> bool:
        """Return whether somebody is to be told of what is not committed, or it is a lot.

        Runs that were taken and leases wait otherwise, for a lull or a few milliseconds: nobody's work
        waits for an acknowledgement, and often the outcome of a call is in the same transaction then.
        """
        batch = self._batch
        return bool(self._replies or self._actions) or self._ends or len(batch.blocks) > _BATCH_BLOCKS

    def _handle(self, event: ev.Event, now: Now, sources: Sequence[bytes]) -> act.Reject | None:
        """Let the scheduler decide; ``sources`` are the bytes of the blocks in the event."""
        facts, actions = self.scheduler.handle(event, now)
        self._batch.facts.extend(facts)
        self._ends = self._ends or any(not isinstance(fact, Accepted | Leased) for fact in facts)
        rejected = None
        for action in actions:
            if isinstance(action, act.Keep):
                self._batch.blocks[action.run, action.block] = sources[action.source]
            elif isinstance(action, act.Copy):
                self._batch.blocks[action.run, action.block] = self._stored(action.of_run, action.of_block)
            elif isinstance(action, act.Done):
                self._requests.done(action)
            elif isinstance(action, act.Reject):
                rejected = action
            else:
                self._actions.append(action)
        return rejected

    def _commit(self) -> None:
        batch, self._batch = self._batch, Batch()
        self._ends = False
        named = self.scheduler.ledger.functions
        batch.orphans = [a for a in batch.orphans if a not in named and a not in batch.functions]
        if batch:
            self._store.commit(batch)
            self.commits += 1
        for fact in batch.facts:
            self._announce(fact)
        self._known.update(batch.functions)
        replies, self._replies = self._replies, []
        for session, message in replies:
            if session.token in self._owed:
                self._acknowledge([session])
            self.peers.send(session, message)

    def _acknowledge(self, sessions: list[Session]) -> None:
        """Tell sessions what has been taken from them, all of which is committed."""
        for session in sessions:
            self._owed.pop(session.token, None)
            runs, session.accepted = session.accepted, []
            numbers, session.taken = session.taken, []
            if runs:
                self.peers.send(session, wire.Accepted(runs))
            if numbers:
                self.peers.send(session, wire.Taken(numbers))

    def _announce(self, fact: Fact) -> None:
        if isinstance(fact, Settled | Ended | Inherited | Became):
            self.peers.changed(fact.run)
        elif isinstance(fact, Forgotten):
            self.peers.forget(fact.run)

    def _send_leases(self) -> None:
        """Send what was granted in this turn, and what those leases are fed."""
        rest: list[act.Action] = []
        for action in self._actions:
            if isinstance(action, act.Grant) and not action.after_commit:
                self._send_lease(action)
            else:
                rest.append(action)
        self._actions = rest

    def _stored(self, run: int, number: int) -> bytes:
        """Return a block of the store, or one that is not committed yet."""
        found = self._batch.blocks.get((run, number))
        return self._store.block(run, number) if found is None else found

    def _function(self, address: bytes) -> bytes | None:
        found = self._batch.functions.get(address)
        return self._store.function(address) if found is None else found

    def _perform(self) -> None:
        actions, self._actions = self._actions, []
        for action in actions:
            if isinstance(action, act.Discard):
                self._discard(action)
            elif isinstance(action, act.Grant):
                self._send_lease(action)
            elif isinstance(action, (act.Recall, act.Interrupt, act.Disown, act.Abort, act.Resize)):
                session = self.peers.engine(action.engine)
                if session is not None:
                    self.peers.send(session, engine_message(action))
        self.peers.push(self.scheduler.ledger.runs, self._stored)

    def _discard(self, discard: act.Discard) -> None:
        named = self.scheduler.ledger.functions  # a run that was taken since may name one again
        functions = [address for address in discard.functions if address not in named]
        if self._blobs is not None:
            self._blobs.discard(discard.blobs)
        self._batch.dropped += [discard.run] if discard.run != NONE else []
        self._known.difference_update(functions)
        self._batch.orphans += functions

    def _beat(self, now: Now) -> None:
        """Once a second: see who is still there, and show engines that the hub is."""
        self._beat_s = now.mono_s
        engines = self.scheduler.ledger.fleet.engines
        rss = self._requests.rss
        self._requests.rss = {engine: rss[engine] for engine in rss if engine in engines}
        if self.scheduler.ledger.left or any(s.role == "client" for s in self.peers):
            self.served_s = now.mono_s
        for session in self.peers:
            if session.role == "engine":
                self.peers.send(session, wire.Pong(self.commits))
            elif now.mono_s - session.heard_s > _CLIENT_SILENCE_S:
                self._drop(session)

    def _notice_lost(self, now: Now) -> None:
        lost, self.peers.lost = self.peers.lost, []
        for session in lost:
            if session.role == "engine" and self.peers.engine(session.id) is None:
                self._handle(ev.EngineGone(session.id), now, [])
            self._drop(session)

    def _drop(self, session: Session) -> None:
        self._requests.log.left(session)
        self.peers.remove(session)
        self._owed.pop(session.token, None)
        for run in self.stagings.of(session):
            self.unstage(run)

    # -------------------------------------------------------------- what peers say

    def _receive(self, arrival: Arrival, now: Now) -> None:
        message = arrival.message
        if isinstance(message, wire.Hello):
            self._on_hello(arrival, message, now)
            return
        session = self.peers.session(arrival.session, arrival.peer)
        if session is None:
            self.peers.answer(arrival.peer, wire.Denied("session", "say hello first"))
            return
        session.heard_s = now.mono_s
        if isinstance(message, ProtocolError):
            self._complain(session, "malformed", str(message))
        elif not isinstance(message, _ALLOWED[session.role]):
            self._complain(session, "role", f"a {session.role} may not send {type(message).__name__}")
        elif session.role == "engine":
            self._from_engine(session, message, now)
        else:
            self._from_client(session, message, now)

    def _complain(self, session: Session, code: str, text: str) -> None:
        session.errors += 1
        self._requests.log.complained(session, code, text)
        self._replies.append((session, wire.Denied(code, text)))
        if session.errors >= _ERRORS:
            self.peers.answer(session.peer, wire.Denied(code, f"{text}; too many errors, goodbye"))
            self.peers.lost.append(session)
            self.peers.remove(session)

    def _refuse(self, peer: bytes, denied: wire.Denied) -> None:
        self._requests.log.refused(peer, denied.code, denied.text)
        self.peers.answer(peer, denied)

    def _on_hello(self, arrival: Arrival, hello: wire.Hello, now: Now) -> None:
        if hello.protocol != wire.PROTOCOL:
            theirs = hello.versions.get("nbq", "unknown")
            text = (
                f"the hub speaks protocol {wire.PROTOCOL} (nbq {self._info.versions.get('nbq')}), "
                f"you speak {hello.protocol} (nbq {theirs}): install the same nbq on both sides"
            )
            self._refuse(arrival.peer, wire.Denied("version", text))
            return
        known = self._identify(arrival.user, hello.token)
        if known is None:
            text = "the hub does not know this key: use the connection file of its data folder"
            self._refuse(arrival.peer, wire.Denied("key", text))
            return
        owner, role = known
        if role != hello.role or (role == "engine") != (hello.engine is not None):
            text = f"this key is for the role {role}, not {hello.role}: use {hello.role}.json"
            self._refuse(arrival.peer, wire.Denied("role", text))
            return
        session = Session(arrival.peer, role, owner, hello.id, now.mono_s)
        self.peers.add(session)
        self._requests.log.joined(session)
        local = self._blobs is not None and arrival.user is None
        blobs = str(self._blobs.folder) if self._blobs is not None and local else ""
        welcome = wire.Welcome(
            session.token, self._info.name, self._store.store_id, self._store.epoch,
            self._info.durability, self._info.versions, self.scheduler.limits.lease_s, blobs,
        )  # fmt: skip
        self.peers.send(session, welcome)
        if hello.engine is not None:
            self._handle(ev.EngineJoined(hello.id, hello.engine, hello.held), now, [])

    def _from_engine(self, session: Session, message: ToHub, now: Now) -> None:
        engine = session.id
        if isinstance(message, wire.Report):
            reported = ev.Reported(engine, message.outcomes)
            sources = [*message.blocks, *message.added]
            added = sum(outcome.added_blocks() for outcome in message.outcomes)
            if len(message.blocks) == len(message.outcomes) and len(message.added) == added:
                self._batch.functions.update(message.functions)
                self._handle(reported, now, sources)
                session.taken.append(message.number)
                self._owed[session.token] = session
            else:
                self._complain(session, "malformed", "a report with other than one block an outcome")
        elif isinstance(message, wire.Beat):
            if engine not in self.scheduler.ledger.fleet.engines:
                self.peers.lost.append(session)
                self._replies.append((session, wire.Denied("session", "you were taken for lost")))
                return
            self._requests.rss[engine] = message.rss
            self._handle(ev.Beat(engine, message.held), now, [])
        elif isinstance(message, wire.GaveBack):
            for token, lo, hi in message.ranges:
                self._handle(ev.GaveBack(engine, token, lo, hi), now, [])
        elif isinstance(message, wire.Began):
            self._handle(ev.Began(engine, message.running), now, [])
        elif isinstance(message, wire.SlotDied):
            died = ev.SlotDied(engine, message.token, message.index, message.text)
            self._handle(died, now, [])
            session.taken.append(message.number)
            self._owed[session.token] = session
        elif isinstance(message, wire.NeedFunctions):
            self._send_functions(session, message.addresses)
        elif isinstance(message, wire.Note):
            event = ev.Noted(engine, message.token, message.index, message.state, message.meta)
            self._handle(event, now, [])
        elif isinstance(message, wire.Waiting):
            self._handle(ev.WaitsFor(engine, message.count), now, [])
        elif isinstance(message, wire.Knows):
            self._handle(ev.KnowsTasks(engine, message.tasks), now, [])
        elif isinstance(message, wire.Resized):
            self._handle(ev.EngineResized(engine, message.slots, message.least, message.most), now, [])
        elif isinstance(message, wire.Leaving):
            self._handle(ev.EngineLeaving(engine), now, [])
        else:
            self._from_anyone(session, message)

    def _from_client(self, session: Session, message: ToHub, now: Now) -> None:
        if isinstance(message, wire.Submit):
            self._on_submit(session, message, now)
        elif isinstance(message, wire.Stage):
            self._on_stage(session, message)
        elif isinstance(message, wire.PutFunctions):
            self._batch.functions.update(message.functions)
        elif isinstance(message, wire.Watch):
            run = self.scheduler.ledger.by_id.get(message.run)
            if run is None:
                reply = wire.Rejected("unknown", "the hub has no such run (any more)", message.run)
                self._replies.append((session, reply))
            else:
                self.peers.watch(session, run, message.cursors)
                self._ends = True  # those that are known are told now, not at the next beat
        elif isinstance(message, wire.Unwatch):
            run = self.scheduler.ledger.by_id.get(message.run)
            if run is not None:
                self.peers.unwatch(session, run.number)
        elif isinstance(message, wire.Save):
            self._on_save(session, message)
        elif isinstance(message, wire.Request):
            self._requests.receive(session, message, now)
        elif isinstance(message, wire.Leaving):
            self._drop(session)
        else:
            self._from_anyone(session, message)

    def _from_anyone(self, session: Session, message: ToHub) -> None:
        if isinstance(message, wire.Ping):
            self._replies.append((session, wire.Pong(self.commits)))
        elif isinstance(message, wire.Upload | wire.Fetch):
            try:
                self._replies.append((session, self._on_blob(message)))
            except ProtocolError as error:
                self._complain(session, "malformed", str(error))

    def _on_blob(self, message: wire.Upload | wire.Fetch) -> wire.Uploaded | wire.Chunk:
        if self._blobs is None:
            raise ProtocolError("this hub keeps no blobs")
        if isinstance(message, wire.Upload):
            stored = self._blobs.write(message.name, message.offset, message.total, message.data)
            return wire.Uploaded(message.name, stored)
        found = self._blobs.read(message.name, message.offset)
        if found is None:
            return wire.Chunk(message.request, message.name, message.offset, 0, b"")
        return wire.Chunk(message.request, message.name, message.offset, found[0], found[1])

    # -------------------------------------------------------------- submits

    def _on_stage(self, session: Session, message: wire.Stage) -> None:
        taken = self.stagings.take(session, message, self.scheduler.reserve)
        if taken.dropped != NONE:
            self._batch.dropped.append(taken.dropped)
        self._batch.blocks.update(taken.blocks)
        self._replies.append((session, taken.reply))

    def unstage(self, run: bytes) -> None:
        """Drop the blocks that are staged under an id."""
        self._batch.dropped.append(self.stagings.drop(run))

    def _on_submit(self, session: Session, message: wire.Submit, now: Now) -> None:
        staging = self.stagings.get(message.run)
        if message.run not in self.scheduler.ledger.by_id:
            missing = self.missing_functions(message.graph)
            if missing:
                self._replies.append((session, wire.NeedFunctions(missing)))
                return
            staged = len(staging.blocks) if staging is not None else 0
            if staged != message.staged:
                self._replies.append((session, wire.Staged(message.run, staged)))
                return
            blocks = staging.blocks if staging is not None else []
            number = staging.number if staging is not None else NONE
            metas = [*blocks, *(block.meta() for block in message.blocks)]
            event = ev.Submitted(message.run, session.owner, message.graph, metas, number, staged)
            rejected = self._handle(event, now, [block.data for block in message.blocks])
            if rejected is not None:
                if staging is not None:
                    self.unstage(message.run)
                reply = wire.Rejected(rejected.code, rejected.text, message.run)
                self._replies.append((session, reply))
                return
            if staging is not None:
                self.stagings.drop(message.run)
        elif staging is not None:
            self.unstage(message.run)
        session.accepted.append(message.run)
        self._owed[session.token] = session
        if message.watch:
            run = self.scheduler.ledger.by_id[message.run]
            if run.number not in session.watches:
                self.peers.watch(session, run, dict.fromkeys(value_nodes(run.graph), 0))

    def missing_functions(self, graph: Graph) -> list[bytes]:
        """Return which functions that a graph names are not stored."""
        wanted = dict.fromkeys(node.function for node in graph.nodes)
        return [address for address in wanted if not self._has_function(address)]

    def _has_function(self, address: bytes) -> bool:
        if address in self._known or address in self._batch.functions:
            return True
        if self._store.function(address) is None:
            return False
        self._known.add(address)
        return True

    # -------------------------------------------------------------- leases

    def _send_lease(self, grant: act.Grant) -> None:
        session = self.peers.engine(grant.engine)
        if session is None:
            return  # it has just gone; its leases return with the grace period
        run = self.scheduler.ledger.runs[grant.run]
        function = run.nodes[grant.node].spec.function
        if function not in session.functions:
            self._send_functions(session, [function])
        for message in lease_messages(run, grant, self._stored):
            self.peers.send(session, message)

    def _send_functions(self, session: Session, addresses: list[bytes]) -> None:
        functions = {address: self._function(address) for address in addresses}
        found = {address: data for address, data in functions.items() if data is not None}
        session.functions.update(found)
        for address, data in found.items():
            self.peers.send(session, wire.Functions({address: data}))

    def _on_save(self, session: Session, message: wire.Save) -> None:
        kept = self.saved(message.id)
        if message.data and kept is None and self._store.saved_count() + len(self._batch.saved) >= _SAVED:
            text = f"the hub keeps {_SAVED:,} saved results already: delete some first"
            self._replies.append((session, wire.Rejected("busy", text, request=message.request)))
            return
        self._batch.saved[message.id] = message.data
        self._replies.append((session, wire.Answer(message.request, int(kept is not None))))

    def saved(self, name: str) -> bytes | None:
        """Return what a client keeps under an id, or None."""
        found = self._batch.saved.get(name)
        return self._store.saved(name) if found is None else found or None

    # -------------------------------------------------------------- for who answers for it

    def decide(
        self, event: ev.Event, now: Now, sources: Sequence[bytes] = ()
    ) -> tuple[act.Reject | None, list[act.Action]]:
        """Let the scheduler decide; returns why it refused, and what it wants done (which is done)."""
        waiting = len(self._actions)
        rejected = self._handle(event, now, sources)
        return rejected, self._actions[waiting:]

    def reply(self, session: Session, message: wire.ToPeer) -> None:
        """Send a message once what was decided is committed."""
        self._replies.append((session, message))

    def about(self, now: Now) -> dict[str, str | int | float]:
        """Return what the hub says of itself."""
        return {
            "name": self._info.name,
            "pid": self._info.pid,
            "durability": self._info.durability,
            **self._info.versions,
            "store": self._store.store_id.hex(),
            "epoch": self._store.epoch,
            "uptime_s": now.mono_s - self._started_s,
            "time_s": now.wall_s,
            "commits": self.commits,
            "clients": sum(1 for peer in self.peers if peer.role == "client"),
        }

    # -------------------------------------------------------------- the end

    def stop(self) -> None:
        """Tell every peer that the hub is stopping, after what is decided is committed."""
        self._commit()
        self._perform()
        self._acknowledge(list(self._owed.values()))
        for session in self.peers:
            self.peers.send(session, wire.Stopping())
        self.peers.flush()
