"""The client of eager mode: a submit has ended when it returns, and may raise what its task raised."""

from __future__ import annotations

import pytest

from nbq.local import eager_client
from nbq.local.cluster import LocalCluster
from nbq.local.eager import EagerClient
from tests.local.work import add, fail, note, seen


def test_a_submit_has_ended_when_it_returns() -> None:
    client = EagerClient(LocalCluster(), lambda: False)
    result = client.submit_task(note, (1,), {}, {"countdown": 3600})
    assert (seen, result.get()) == ([(1,)], (1,))
    assert list(client.map(add, [1, 2], [3, 4])) == [4, 6]
    assert client.submit(fail, "no").state == "FAILURE"


def test_a_submit_raises_what_its_task_raised_if_that_is_wanted() -> None:
    client = EagerClient(LocalCluster(), lambda: True)
    assert client.submit(add, 1, 2).get() == 3
    with pytest.raises(ValueError, match="no"):
        client.submit(fail, "no")


def test_there_is_one_for_the_process() -> None:
    assert eager_client(bool) is eager_client(bool)
