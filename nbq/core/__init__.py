"""The part that decides.

Pure: no sockets, clocks, threads, randomness, logging or environment. Events go in; facts and
actions come out. ``Scheduler.handle(event, now)`` decides, ``apply(fact)`` is the only code that
changes durable state, both live and in recovery. Modules here import the standard library,
``msgspec`` and each other, nothing else.
"""
