"""Tasks that end in every way; importable, so that they go by name."""

from __future__ import annotations

import nbq
from tests.processes.work import add


@nbq.task(bind=True)
def replaced(self, x):
    raise self.replace(add.s(x, 1) | add.s(10))


@nbq.task(bind=True, max_retries=1)
def retried(self, text):
    """Return the length of its second arguments, which are large."""
    if self.request.retries == 0:
        raise self.retry(countdown=0.0, args=(text * 400_000,))
    return len(text)


@nbq.task(bind=True)
def one_more(self, x):
    self.add_to_chord(add.s(x, 100))
    return x
