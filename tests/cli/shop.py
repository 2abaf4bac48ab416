"""Tasks that the engine of these tests finds by name."""

from __future__ import annotations

import sys

import nbq


@nbq.task
def add(x, y):
    return x + y


@nbq.task
def given(*args, **kwargs):
    return args, kwargs


@nbq.task
def broken(what):
    raise ValueError("no " + what)


@nbq.task
def talk(text):
    print(text)
    print("aside", file=sys.stderr)


class Odd:
    """What an engine can send and nobody can rebuild."""

    def __reduce__(self):
        return int, ("odd",)


@nbq.task
def odd():
    return Odd()


@nbq.task(name="evil\x1b[31m[red]\nname")
def evil():
    return "quiet\x1b[31m"
