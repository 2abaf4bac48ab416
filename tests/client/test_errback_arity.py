"""That calls of errbacks are checked at the call site as what they will be called with."""

from __future__ import annotations

import pytest

import nbq
from nbq.batch import _check_calls
from nbq.canvas import Signature, plan
from nbq.errors import InvalidSignature
from nbq.tasks import Task


@nbq.task
def by_id(task_id: str) -> None: ...


@nbq.task
def by_all(request: object, exc: object, traceback: object, name: str = "") -> None: ...


@nbq.task(bind=True)
def bound(self: object, task_id: str, name: str) -> None: ...


def check(errback: Signature) -> None:
    node = plan(Signature("t"), link_error=errback).nodes[1]
    assert isinstance(node.ref, Task)
    _check_calls(node, node.ref)


@pytest.mark.parametrize("errback", [by_id.s(), by_all.s(), by_all.s("x"), bound.s("x"), by_id.si("own")])
def test_an_errback_that_can_be_called_passes(errback):
    check(errback)


@pytest.mark.parametrize("errback", [by_id.s(1), by_all.s(1, 2, 3, 4), bound.s(), bound.s(1, 2), by_id.si()])
def test_an_errback_that_cannot_be_called_is_refused(errback):
    with pytest.raises(InvalidSignature, match="argument"):
        check(errback)
