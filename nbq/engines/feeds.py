"""What leased elements are fed: values of other elements, and for errbacks the failures of some.

Blocks are unsealed and unpickled here, in the slot. What the hub sends is never trusted: a value that is
missing or not as it was sealed is an IntegrityError of the elements that it was for.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbq import payload
from nbq.blocks import Alias, Block, Failed
from nbq.core.ids import element_text
from nbq.core.model import NONE, Many, On, Slice
from nbq.engines.pipe import Feeding, Work
from nbq.errors import IntegrityError, ended_error
from nbq.request import Request
from nbq.stores.used import UsedStore

__all__ = ["Failure", "Feeds", "errback_arguments"]

_KEPT = 16
_DEPTH = 100
"""How deep lists may lie in each other; canvases have the same limit."""


class Failure:
    """What an errback is told.

    Args:
        task_id: The id of the task that failed.
        error: What it raised.
    """

    def __init__(self, task_id: str, error: Exception) -> None:
        self.task_id = task_id
        self.error = error


class Feeds:
    """The feeds of the latest leases, each built when its first element needs it.

    Args:
        key: The payload key.
    """

    stored = UsedStore("")
    """Where values lie that the hub only names."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._feeds: OrderedDict[int, Feeding | tuple[bool, Any] | Exception] = OrderedDict()
        self.tokens = self._feeds.keys()
        """Of the leases whose elements are fed."""

    def add(self, feeding: Feeding) -> None:
        """Keep what elements of a lease are fed; the oldest go (``Child`` knows of fewer)."""
        self._feeds[feeding.token] = feeding
        if len(self._feeds) > _KEPT:
            self._feeds.popitem(last=False)

    def get(self, work: Work, accept: Collection[str] | None) -> tuple[bool, Any]:
        """Return what elements of a lease are fed: False and a value for all, or True and one for each.

        Args:
            work: Some of the lease.
            accept: The serializers of what may be read here; None for all.

        Raises:
            Exception: It cannot be built; each time the same.
        """
        found = self._feeds[work.token]
        if isinstance(found, Feeding):
            try:
                found = found.feed.each, _Builder(self._key, found, accept, self.stored).build(work.on)
            except Exception as error:  # user code may run while values are unpickled
                found = error
            self._feeds[work.token] = found
        if isinstance(found, Exception):
            raise found.with_traceback(None)  # it is kept, and must not grow with each element
        return found


class _Builder:
    """Builds the value of one feed."""

    def __init__(
        self, key: bytes, feeding: Feeding, accept: Collection[str] | None, stored: UsedStore
    ) -> None:
        self._accept = accept
        self._run = feeding.run
        self._feed = feeding.feed
        self._places: dict[tuple[int, int], tuple[memoryview, str]] = {}
        for block in feeding.feed.blocks:
            run, node = block.place(feeding.run)
            where = payload.origin("result", run, node, block.lo)
            content = _content(block, feeding.blobs, stored)
            opened = payload.unseal(key, where, content, accept=accept)
            for index in range(block.use_lo, block.use_hi):
                self._places[block.node, index] = opened.element(index - block.lo), opened.serializer
        self._failed: dict[int, list[Failed]] = {}
        for failed in feeding.feed.failed:
            self._failed.setdefault(failed.node, []).append(failed)
        self._became: Mapping[tuple[int, int], Slice | Many] = {
            (alias.node, alias.index): alias.value
            for alias in feeding.feed.became
            if isinstance(alias, Alias)
        }

    def build(self, on: On) -> Any:
        """Return the value, or what errbacks are told of it."""
        value, each = self._feed.value, self._feed.each
        if on == On.FAILURE:
            if each and isinstance(value, Slice):
                return {index: self._told(value.node, index) for index in range(value.lo, value.hi)}
            return self._first()
        if each and isinstance(value, Slice):
            return {index: self._one(value.node, index, 0) for index in range(value.lo, value.hi)}
        built = list(self._tree(value, 0))
        return built[0] if isinstance(value, Slice) else built

    def _tree(self, tree: Slice | Many, depth: int) -> Iterator[Any]:
        if isinstance(tree, Slice):
            for index in range(tree.lo, tree.hi):
                yield self._one(tree.node, index, depth)
            return
        for item in tree.items:
            if isinstance(item, Slice):
                yield from self._tree(item, depth)
            else:
                yield list(self._tree(item, depth))

    def _one(self, node: int, index: int, depth: int) -> Any:
        for _ in range(len(self._became) + 1):
            failed = self._failure(node, index) if self._failed else None
            if failed is not None:
                return self._error(failed, index)
            became = self._became.get((node, index)) if self._became else None
            if became is None:
                return self._value(node, index)
            if isinstance(became, Many):
                if depth > _DEPTH:
                    break
                return list(self._tree(became, depth + 1))
            node, index = became.node, became.lo
        raise IntegrityError(f"element {index} of node {node} is replaced without end")

    def _value(self, node: int, index: int) -> Any:
        element = self._places.get((node, index))
        if element is None:
            raise IntegrityError(f"the hub sent no value of element {index} of node {node}")
        return payload.loads(*element)

    def _failure(self, node: int, index: int) -> Failed | None:
        return next((f for f in self._failed.get(node, ()) if f.lo <= index < f.hi), None)

    def _told(self, node: int, index: int) -> Failure:
        failed = self._failure(node, index)
        if failed is None:
            raise IntegrityError(f"the hub sent no failure of element {index} of node {node}")
        return Failure(self._id(failed, index), self._error(failed, index))

    def _first(self) -> Failure:
        if not self._feed.failed:
            raise IntegrityError("the hub sent no failure for an errback")
        failed = self._feed.failed[0]
        return Failure(self._id(failed, failed.lo), self._error(failed, failed.lo))

    def _id(self, failed: Failed, index: int) -> str:
        """Return the id of the element where the failure of an element began."""
        place = index if failed.cause_index == NONE else failed.cause_index
        return failed.id or element_text(self._run, failed.cause_node, place)

    def _error(self, failed: Failed, index: int) -> Exception:
        if failed.code:
            return ended_error(failed.code, failed.text, self._id(failed, index))
        place = index if failed.cause_index == NONE else failed.cause_index
        element = self._places.get((failed.cause_node, place))
        if element is None:
            raise IntegrityError(f"the hub sent no failure of element {place} of node {failed.cause_node}")
        return payload.load_failure(element[0], self._id(failed, index), self._accept)


def errback_arguments(
    function: Callable[..., Any], bound: bool, told: str, failure: Failure, args: tuple[Any, ...], kwargs: Any
) -> tuple[Any, ...]:
    """Return the arguments with which an errback is called.

    One that can take three more positional arguments than its own, and is not bound, gets the failed task's
    request, its exception and the traceback's text; any other gets the failed task's id.
    """
    task_id = told or failure.task_id
    if not bound and _takes(function, 3 + len(args), kwargs):
        text = str(failure.error.__cause__ or "")
        return Request(id=task_id), failure.error, text, *args
    return task_id, *args


def _takes(function: Callable[..., Any], count: int, kwargs: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count, **kwargs)
    except TypeError:
        return False
    except ValueError:  # some builtins have no signature: anything goes
        return True
    return True


def _content(block: Block, blobs: str, stored: UsedStore) -> Any:
    if block.store:
        return stored.content(block.blob, block.store)
    return payload.map_blob(Path(blobs), block.blob) if block.blob else block.data
