"""Tasks that the pages of these tests show."""

from __future__ import annotations

import time
from pathlib import Path

import nbq


@nbq.task
def add(x, y):
    return x + y


@nbq.task
def broken(what):
    print("looking for", what)
    raise ValueError(f"no {what}")


@nbq.task
def hold(mark):
    """Run until there is a file of this name."""
    while not Path(mark).exists():
        time.sleep(0.01)


@nbq.task(name="<img src=x onerror=\"document.title='owned'\">")
def hostile():
    raise RuntimeError("<script>document.title='owned'</script>")
