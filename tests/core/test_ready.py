"""Ready queues: priority, FIFO within one, and what is given back goes first."""

from nbq.core.ready import ReadyQueue, ReadyRange


def taken(queue: ReadyQueue) -> list[int]:
    """Take all ranges out and return the runs that they are of."""
    runs = []
    while (head := queue.head()) is not None:
        runs.append(head.run)
        queue.drop_head()
    return runs


def test_an_empty_queue_has_no_head():
    assert ReadyQueue("q").head() is None


def test_within_a_priority_the_first_comes_first():
    queue = ReadyQueue("q")
    for run in (1, 2, 3):
        queue.push(0, ReadyRange(run, 0, 0, 1))
    assert taken(queue) == [1, 2, 3]


def test_a_higher_priority_goes_before_all_lower_ones():
    queue = ReadyQueue("q")
    for run, priority in ((1, 0), (2, 5), (3, -1), (4, 5), (5, 0), (6, 9)):
        queue.push(priority, ReadyRange(run, 0, 0, 1))
    assert taken(queue) == [6, 2, 4, 1, 5, 3]


def test_what_is_given_back_is_next_of_its_priority_only():
    queue = ReadyQueue("q")
    queue.push(1, ReadyRange(1, 0, 0, 1))
    queue.push(0, ReadyRange(2, 0, 0, 1))
    queue.push(0, ReadyRange(3, 0, 0, 1), front=True)
    assert taken(queue) == [1, 3, 2]


def test_a_level_can_empty_and_fill_again():
    queue = ReadyQueue("q")
    queue.push(3, ReadyRange(1, 0, 0, 1))
    assert taken(queue) == [1]
    queue.push(3, ReadyRange(2, 0, 0, 1))
    queue.push(4, ReadyRange(3, 0, 0, 1))
    assert taken(queue) == [3, 2]


def test_the_head_stays_until_it_is_dropped():
    queue = ReadyQueue("q")
    queue.push(0, ReadyRange(7, 1, 0, 10))
    head = queue.head()
    assert head is not None
    head.lo = 4
    again = queue.head()
    assert again is head
    assert (again.run, again.node, again.lo, again.hi) == (7, 1, 4, 10)
