"""The tasks of these tests."""

import time
from pathlib import Path

import nbq


@nbq.task
def add(x, y):
    return x + y


@nbq.task
def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.01)
    return path


@nbq.task
def fail():
    raise ValueError("[bold]no[/bold] \x1b[31mway")
