"""Slots: whatever user code does, its outcome is reported, and the slot or its evidence remains."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from nbq import payload
from nbq.core.model import Many, Slice
from nbq.engines import pipe
from nbq.engines.captured import OUTPUT_LIMIT
from nbq.errors import IntegrityError, NotSerializable, PayloadTooLarge, TaskFailed, UnknownTask
from nbq.wire import INLINE_LIMIT
from tests.engines.bench import KEY, RUN, Bench, feed_of
from tests.processes.harness import until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A slot for all tests that leave it as they found it."""
    made = Bench(tmp_path_factory.mktemp("slot")).started()
    yield made
    made.child.close()


@pytest.fixture
def slot(shared: Bench) -> Bench:
    shared.results.clear()
    shared.output.clear()
    shared.messages.clear()
    return shared


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Bench]:
    """A slot for one test, which may end it."""
    made = Bench(tmp_path).started()
    yield made
    made.child.close()


def test_elements_run_in_order_in_one_process(slot: Bench) -> None:
    slot.give(lambda x: (x * 2, os.getpid()), [(n,) for n in range(500)])
    pid = slot.child.process.pid
    assert slot.finish(slot._token) == {n: (True, (n * 2, pid)) for n in range(500)}


def test_a_failure_harms_its_own_element_only(slot: Bench) -> None:
    slot.give(lambda x: 6 // x, [(1,), (0,), (2,)])
    results = slot.finish(slot._token)
    assert (results[0], results[2]) == ((True, 6), (True, 3))
    assert results[1][0] is False
    assert type(results[1][1]) is ZeroDivisionError


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(5),
        MemoryError(),
        BaseException("b"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_is_raised_is_a_failure(slot: Bench, error: BaseException) -> None:
    def throw() -> None:
        raise error

    good, found = slot.call(throw)
    if isinstance(error, Exception):
        assert (good, type(found), found.args) == (False, type(error), error.args)
    else:  # raised as itself, it would end whoever asks for the result
        assert (good, type(found), found.args[0]) == (False, TaskFailed, payload.summary(error))
    assert slot.call(lambda: 1) == (True, 1)


def test_a_traceback_starts_in_the_users_code(slot: Bench) -> None:
    def inner() -> None:
        raise ValueError("deep")

    def outer() -> None:
        inner()

    text = str(slot.call(outer)[1].__cause__)
    assert text.index("in outer") < text.index("in inner")
    assert "runner.py" not in text


def test_endless_recursion_is_a_failure(slot: Bench) -> None:
    def down(n: int) -> int:
        return down(n + 1)

    good, found = slot.call(down, 0)
    assert (good, type(found)) == (False, RecursionError)
    assert slot.call(lambda: 1) == (True, 1)


def test_an_exception_with_impossible_text_is_a_failure(slot: Bench) -> None:
    def throw() -> None:
        raise ValueError("\ud800")

    good, found = slot.call(throw)
    assert (good, type(found), found.args) == (False, ValueError, ("\ud800",))


def test_a_result_that_cannot_be_serialised_is_a_failure(slot: Bench) -> None:
    good, found = slot.call(lambda: {"a": [sys._getframe()]})
    assert (good, type(found)) == (False, NotSerializable)
    assert str(found).startswith("result['a'][0] cannot be serialised: frame")


def test_a_coroutine_is_run(slot: Bench) -> None:
    async def double(x: int) -> int:
        import asyncio

        return await asyncio.sleep(0, x * 2)

    async def fail() -> None:
        raise LookupError("async")

    assert slot.call(double, 21) == (True, 42)
    assert type(slot.call(fail)[1]) is LookupError


def test_what_python_prints_belongs_to_its_element(slot: Bench) -> None:
    def talk(x: int) -> None:
        print("out", x)
        print("err", x, file=sys.stderr)
        sys.stdout.buffer.write(b"bytes\n")

    slot.give(talk, [(n,) for n in range(3)])
    slot.finish(slot._token)
    assert slot.output == {n: (f"out {n}\nbytes\n", f"err {n}\n") for n in range(3)}


def test_what_c_and_child_processes_print_belongs_to_its_element(slot: Bench) -> None:
    def talk(how: str) -> None:
        if how == "descriptor":
            os.write(1, b"from 1\n")
            os.write(2, b"from 2\n")
        elif how == "child":
            subprocess.run(["/bin/echo", "from a child"], check=True)
        elif how == "its own":
            subprocess.run(["/bin/echo", "to stdout"], stdout=sys.stdout, check=True)

    slot.give(talk, [("descriptor",), ("nothing",), ("child",), ("its own",), ("nothing",)])
    slot.finish(slot._token)
    assert slot.output == {
        0: ("from 1\nfrom 2\n", ""),
        2: ("from a child\n", ""),
        3: ("to stdout\n", ""),
    }


def test_text_that_cannot_be_encoded_is_escaped(slot: Bench) -> None:
    def talk() -> None:
        print("bad \ud800")
        os.write(1, b"\xff\n")

    assert slot.call(talk) == (True, None)
    assert slot.output == {0: ("bad \\ud800\n\ufffd\n", "")}


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
@pytest.mark.parametrize("how", ["print", "descriptor"])
def test_a_huge_output_is_cut(slot: Bench, letter: str, how: str) -> None:
    def talk() -> int:
        text = letter * 1_000_000
        if how == "print":
            print(text)
            print(text, file=sys.stderr)
        else:
            os.write(1, text.encode())
        return 5

    assert slot.call(talk) == (True, 5)
    out, err = slot.output[0]
    for text in [out] + ([err] if how == "print" else []):
        kept, _, note = text.partition("\n")
        assert note == "... the rest was cut\n"
        assert set(kept.removesuffix("\ufffd")) == {letter}
        assert OUTPUT_LIMIT - 4 <= len(kept.removesuffix("\ufffd").encode()) <= OUTPUT_LIMIT


def test_results_and_output_always_fit_in_a_message(slot: Bench) -> None:
    def talk(n: int) -> bytes:
        print("😀" * 100_000)
        print("😀" * 100_000, file=sys.stderr)
        return bytes(200_000)

    slot.give(talk, [(n,) for n in range(8)])
    slot.finish(slot._token)
    results = [message for message in slot.messages if isinstance(message, pipe.Results)]
    sizes = [
        sum(map(len, r.elements)) + sum(len(text.encode()) for pair in r.output.values() for text in pair)
        for r in results
    ]
    assert max(sizes) < 512 * 1024
    assert len(slot.output) == 8


def test_a_result_over_256_kib_becomes_a_blob(slot: Bench) -> None:
    def make(n: int) -> numpy.ndarray:
        print("made", n)
        return numpy.arange(n)

    slot.give(make, [(10,), (50_000,), (20,)])
    results = slot.finish(slot._token)
    assert [len(results[n][1]) for n in range(3)] == [10, 50_000, 20]
    blobs = [message for message in slot.messages if isinstance(message, pipe.Results) and message.blob]
    assert [(blob.lo, blob.hi, blob.elements) for blob in blobs] == [(1, 2, [])]
    assert blobs[0].size > INLINE_LIMIT
    assert (slot.folder / blobs[0].blob).stat().st_size == blobs[0].size
    assert slot.output == {0: ("made 10\n", ""), 1: ("made 50000\n", ""), 2: ("made 20\n", "")}


def test_a_failure_of_any_size_stays_a_failure(slot: Bench) -> None:
    def throw() -> None:
        raise ValueError("😀" * 300_000)

    assert slot.call(throw)[0] is False


def test_a_result_over_the_limit_is_a_failure(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limit=1000).started()
    good, found = bench.call(lambda: bytes(2000))
    assert (good, type(found)) == (False, PayloadTooLarge)
    bench.child.close()


def test_an_ignored_result_is_not_even_serialised(slot: Bench) -> None:
    slot.give(sys._getframe, [()], ignore_result=True)
    assert slot.finish(slot._token) == {0: (True, b"")}


def test_results_are_sent_while_later_elements_run(slot: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def wait(path: str) -> None:
        time.sleep(0.01)  # longer than a slot keeps what has ended
        while path and not Path(path).exists():
            time.sleep(0.002)

    slot.give(wait, [("",), (str(gate),)])
    slot.until(lambda: 0 in slot.results)
    slot.until(lambda: slot.child.running() == (slot._token, 1))
    gate.touch()
    slot.finish(slot._token)
    assert slot.results == {0: (True, None), 1: (True, None)}
    assert slot.child.running() is None


def test_os_exit_is_reported_with_evidence(own: Bench) -> None:
    def leave() -> None:
        print("into the void")
        os.write(2, b"last words\n")
        os._exit(7)

    token = own.give(leave, [()])
    running, evidence = own.died()
    assert running == (token, 0)
    pid = own.child.process.pid
    assert evidence == f"its slot (process {pid}) died with exit code 7; it last printed:\nlast words"


def test_a_segmentation_fault_is_reported_with_evidence(own: Bench) -> None:
    token = own.give(lambda n: n and ctypes.string_at(0), [(0,), (0,), (1,), (0,)])
    running, evidence = own.died()
    assert running == (token, 2)
    assert "died with signal SIGSEGV" in evidence


def test_a_kill_is_reported_with_evidence(own: Bench) -> None:
    token = own.give(lambda: os.kill(os.getpid(), signal.SIGKILL), [()])
    assert own.died() == ((token, 0), f"its slot (process {own.child.process.pid}) died with signal SIGKILL")


def test_garbage_written_to_the_pipe_ends_the_slot_and_nothing_else(own: Bench) -> None:
    def scribble() -> None:
        for handle in range(3, 64):
            try:
                os.write(handle, b"\x04\x00\x00\x00\xc1\xc1\xc1\xc1")
            except OSError:
                continue
        time.sleep(60)

    own.give(scribble, [()])
    own.until(lambda: not own.alive)
    assert own.child.process.poll() is None
    own.child.kill()
    assert "SIGKILL" in own.child.evidence()


def test_a_slot_ends_with_its_supervisors_end_of_the_pipe(own: Bench) -> None:
    own.child.pipe.sock.close()
    assert own.child.process.wait(20) == 0


def test_a_slot_ends_when_it_is_told_to(own: Bench) -> None:
    own.child.send(pipe.Bye())
    own.until(lambda: not own.alive)
    assert own.child.process.wait(20) == 0


def gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_what_a_task_starts_ends_with_the_slot(own: Bench) -> None:
    def start() -> int:
        return subprocess.Popen(["/bin/sleep", "300"]).pid

    pid = own.call(start)[1]
    own.child.kill()
    own.died()
    until(lambda: gone(pid))


TASKS = """
import nbq

@nbq.task
def add(x, y):
    return x + y

@nbq.task(bind=True, name="special.name")
def about(self):
    return self.request.id, self.request.task, self.request.hostname

broken = 1
"""


@pytest.fixture(scope="module")
def with_tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "slot_tasks.py").write_text(TASKS)
    (folder / "slot_broken.py").write_text("raise OSError('not today')\n")
    sys.path.append(str(folder))
    made = Bench(folder).started()
    sys.path.remove(str(folder))
    yield made
    made.child.close()


def test_a_task_is_found_by_its_name(with_tasks: Bench) -> None:
    address = with_tasks.named("slot_tasks.add", "slot_tasks")
    assert with_tasks.call(address, 40, 2) == (True, 42)
    found = with_tasks.call(with_tasks.named("special.name", "slot_tasks"))
    assert found == (True, (f"{RUN.hex()}-0-0", "bench.task", "bench"))


def test_an_unknown_task_names_those_that_are_near(with_tasks: Bench) -> None:
    with_tasks.call(with_tasks.named("slot_tasks.add", "slot_tasks"), 1, 1)
    for _ in range(2):
        good, found = with_tasks.call(with_tasks.named("slot_tasks.ad", "slot_tasks"))
        assert (good, type(found)) == (False, UnknownTask)
        assert "the engine knows no task named 'slot_tasks.ad'; did you mean slot_tasks.add?" in str(found)


def test_a_module_that_is_missing_is_named_each_time(with_tasks: Bench) -> None:
    for _ in range(2):
        good, found = with_tasks.call(with_tasks.named("nowhere.add", "nowhere"))
        assert (good, type(found)) == (False, UnknownTask)
        assert "the engine cannot import 'nowhere', where task 'nowhere.add' is" in str(found)


def test_a_module_that_fails_to_import_fails_each_time(with_tasks: Bench) -> None:
    address = with_tasks.named("slot_broken.f", "slot_broken")
    for _ in range(2):
        good, found = with_tasks.call(address)
        assert (good, type(found), found.args) == (False, OSError, ("not today",))


def test_a_function_that_cannot_be_loaded_fails_each_time(slot: Bench) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return exec, ("raise LookupError('cannot load')",)

    bad = Bad()
    address = slot.function(lambda: bad)
    slot.give(address, [(), ()])
    results = slot.finish(slot._token)
    assert [(good, type(error), str(error)) for good, error in results.values()] == [
        (False, LookupError, "cannot load")
    ] * 2


def test_a_function_that_was_changed_on_its_way_is_not_loaded(slot: Bench) -> None:
    address, data = payload.seal_function(KEY, b"evil")
    slot.child.send(pipe.FunctionBody(address, data + b"!", str(slot.folder)))
    good, found = slot.call(address)
    assert (good, type(found)) == (False, IntegrityError)


def test_a_large_function_comes_as_a_blob(slot: Bench) -> None:
    import msgspec

    table = os.urandom(400_000)
    data = msgspec.msgpack.encode(("pickle", payload.dump_function(lambda: table)))
    address, data = payload.seal_function(KEY, data)
    payload.write_blob(slot.folder, address.hex(), [data])
    slot.child.send(pipe.FunctionBody(address, b"", str(slot.folder)))
    assert slot.call(address) == (True, table)


def test_more_functions_than_are_kept_come_again(slot: Bench) -> None:
    functions = [slot.function(eval(f"lambda: {n}")) for n in range(1200)]
    assert slot.call(functions[1199]) == (True, 1199)
    assert slot.call(slot.function(eval("lambda: 0"))) == (True, 0)
    assert not slot.child.knows_function(functions[1])


def test_a_blob_of_arguments_is_opened_in_the_slot(slot: Bench) -> None:
    address = slot.function(len)
    where = payload.origin("args", RUN, 0, 3, address)
    name, parts = payload.seal_large(KEY, where, payload.dump_call((bytes(500_000),), {}))
    payload.write_blob(slot.folder, name, parts)
    slot.give_raw(address, None, blob=name, lo=3, count=1)
    assert slot.finish(slot._token) == {3: (True, 500_000)}
    slot.results.clear()
    slot.give_raw(address, None, blob=name, lo=4, count=1)
    good, found = slot.finish(slot._token)[4]
    assert (good, type(found)) == (False, IntegrityError)


def test_a_blob_that_is_gone_is_a_failure(slot: Bench) -> None:
    address = slot.function(lambda: 1)
    slot.give_raw(address, None, blob="ab" * 16, count=1)
    good, found = slot.finish(slot._token)[0]
    assert (good, type(found)) == (False, IntegrityError)
    assert "the file of a large payload cannot be read" in str(found)


def test_arguments_that_were_changed_are_a_failure_with_its_reason(slot: Bench) -> None:
    slot.give_raw(slot.function(lambda: 1), [b"", b""])
    results = slot.finish(slot._token)
    assert [(type(error), str(error)) for _, error in results.values()] == [
        (IntegrityError, "the arguments of this task are not as they were sealed")
    ] * 2


def test_shared_arguments_serve_every_element(slot: Bench) -> None:
    call = bytes(payload.dump_call((5,), {}))
    slot.give_raw(slot.function(lambda x: x + 1), [call], shared=True, count=4)
    assert slot.finish(slot._token) == dict.fromkeys(range(4), (True, 6))


FEEDS = {
    "a scalar": (Slice(5, 0, 1), False, {0: "v"}, "v"),
    "a list": (Many([Slice(5, 0, 3)]), False, {0: 0, 1: 10, 2: 20}, [0, 10, 20]),
    "a list in lists": (
        Many([Slice(5, 0, 1), Many([Slice(5, 1, 3)]), Many([])]),
        False,
        {0: 0, 1: 10, 2: 20},
        [0, [10, 20], []],
    ),
    "an empty list": (Many([]), False, {}, []),
}


@pytest.mark.parametrize(("tree", "each", "values", "fed"), FEEDS.values(), ids=FEEDS.keys())
def test_a_feed_is_built(slot: Bench, tree: Any, each: bool, values: dict[int, Any], fed: Any) -> None:
    call = bytes(payload.dump_call(("own",), {}))
    feed = feed_of(values, tree, each=each)
    slot.give_raw(slot.function(lambda *args: args), [call], feed)
    assert slot.finish(slot._token) == {0: (True, (fed, "own"))}


def test_each_element_is_fed_its_own(slot: Bench) -> None:
    call = bytes(payload.dump_call((), {}))
    feed = feed_of({n: n * 10 for n in range(4)}, Slice(5, 0, 4), each=True)
    slot.give_raw(slot.function(lambda x: x), [call] * 4, feed)
    assert slot.finish(slot._token) == {n: (True, n * 10) for n in range(4)}


def test_a_feed_that_was_changed_or_withheld_fails_its_elements(slot: Bench) -> None:
    call = bytes(payload.dump_call((), {}))
    function = slot.function(lambda *args: args)
    feed = feed_of({0: 1}, Slice(5, 0, 1))
    block = feed.blocks[0]
    import msgspec

    moved = msgspec.structs.replace(block, lo=1, use_lo=1, use_hi=2)
    wrong = [
        (Slice(5, 1, 2), [block]),
        (Slice(5, 1, 2), [moved]),
        (Slice(5, 0, 1), [msgspec.structs.replace(block, data=block.data[:-1] + b"!")]),
        (Slice(5, 0, 1), [msgspec.structs.replace(block, use_lo=0, use_hi=2)]),
    ]
    for tree, blocks in wrong:
        slot.results.clear()
        slot.give_raw(function, [call], msgspec.structs.replace(feed, value=tree, blocks=blocks))
        good, found = slot.finish(slot._token)[0]
        assert (good, type(found)) == (False, IntegrityError)


def test_modules_are_imported_at_the_start(tmp_path: Path) -> None:
    for name, trouble in [
        ("json", ""),
        ("no_such_module", "cannot import no_such_module: ModuleNotFoundError"),
    ]:
        bench = Bench(tmp_path, include=[name])
        assert bench.hello().trouble.startswith(trouble)
        assert bool(bench.hello().trouble) is bool(trouble)
        bench.child.close()


def test_a_module_that_exits_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit(4)\n")
    sys.path.append(str(tmp_path))
    bench = Bench(tmp_path, include=["leaves"])
    sys.path.remove(str(tmp_path))
    assert bench.hello().trouble == "cannot import leaves: SystemExit: 4"
    bench.child.close()
