"""The first examples that a user meets run as they are written."""

from __future__ import annotations

from tests.processes.harness import World

EXAMPLE = """\
import nbq

@nbq.task
def add(x, y): return x + y

@nbq.task
def total(xs): return sum(xs)

with nbq.Cluster(slots=4) as client:  # embedded hub + 4 slots on this machine
    print(add.delay(2, 2).get())                       # 4
    print((nbq.group(add.s(i, i) for i in range(10)) | total.s()).delay().get())      # 90, a chord
    squares = client.map(add, range(1_000_000), range(1_000_000))  # one array job
    print(len(squares), sum(1 for i, value in enumerate(squares) if value == 2 * i))
"""

SHARED = """\
import sys
import nbq

@nbq.task
def add(x, y): return x + y

for where in [(), ("default",), (sys.argv[1],)]:
    with nbq.connect(*where) as client:
        assert client.connection.name == "default"
        print(add.delay(2, 2).get(), client.slots)

outer = nbq.connect()
inner = nbq.connect("second")
def count(client): return client.status().states.get("SUCCESS", 0)
before = count(outer), count(inner)
add.delay(1, 1).get()                    # the last one connected
with outer:
    add.delay(1, 1).get()                # the innermost with
    with inner:
        add.delay(1, 1).get()
        counted = count(outer) - before[0], count(inner) - before[1]
print(counted)
"""

CURRENT = """\
import nbq

@nbq.task
def leaf(x): return x + 1

@nbq.task(bind=True)
def inside(self, x):
    result = leaf.delay(x)               # inside a task it is the task's own hub
    return self.request.task, self.request.attempt, result.get(20)

print(inside.delay(41).get(30))
"""


def test_the_first_example_runs_as_written(world: World) -> None:
    assert world.output(EXAMPLE).splitlines() == ["4", "90", "1000000 1000000"]
    world.gone(seconds=5)


def test_the_same_code_runs_against_a_shared_hub(world: World) -> None:
    world.hub()
    world.hub(name="second")
    world.engine(2)
    world.engine(1, "--hub", "second")
    file = world.data / "default" / "client.json"
    assert world.output(SHARED, str(file)).splitlines() == ["4 2", "4 2", "4 2", "(1, 2)"]


def test_without_a_client_the_local_hub_is_used_and_in_a_task_its_own(world: World) -> None:
    world.hub()
    world.engine(2)
    assert world.output(CURRENT) == "('__main__.inside', 1, 42)\n"
