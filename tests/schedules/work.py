"""Tasks that schedules run."""

from __future__ import annotations

import nbq


@nbq.task
def add(x, y):
    return x + y


@nbq.task
def total(numbers):
    return sum(numbers)


@nbq.task(bind=True)
def fired(self):
    return self.request.schedule, self.request.fire_time


@nbq.task(bind=True, max_retries=1)
def twice(self):
    """Fails once, and then says for which fire time that was."""
    if not self.request.retries:
        raise self.retry(countdown=7)
    return self.request.fire_time, self.request.retries
