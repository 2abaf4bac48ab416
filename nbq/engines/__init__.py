"""Engines: a supervisor process, and slots that run one element at a time each.

The supervisor owns the connection to the hub, heartbeats, unacknowledged results, interrupts and
kills; user code runs only in slots, which are fresh interpreters. Whatever user code does to its
process, the supervisor knows which element did it, and goes on.
"""
