"""What is told when calls are submitted: to callbacks of signals, and to the task that submits them.

A client looks here only when somebody listens, or when it is used inside a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbq.canvas import Plan
from nbq.core.ids import element_text
from nbq.core.model import Options
from nbq.signals import TaskPublish, after_task_publish, before_task_publish

__all__ = ["after_call", "after_plan", "before_call", "before_plan"]


def before_call(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Options) -> None:
    """A call is about to be submitted."""
    before_task_publish.send(TaskPublish(name, args, kwargs, options), name)


def after_call(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Options, task_id: str
) -> None:
    """A call was submitted."""
    after_task_publish.send(TaskPublish(name, args, kwargs, options, task_id), name)


def before_plan(plan: Plan) -> None:
    """A canvas is about to be submitted: each of its calls is told."""
    for node in plan.nodes:
        for index in range(node.size):
            args, kwargs = node.calls[0 if node.shared else index]
            before_call(node.task, args, kwargs, node.options)


def after_plan(plan: Plan, run: bytes) -> None:
    """A canvas was submitted."""
    for number, node in enumerate(plan.nodes):
        for index in range(node.size):
            args, kwargs = node.calls[0 if node.shared else index]
            task_id = node.ids.get(index) or element_text(run, number, index)
            after_call(node.task, args, kwargs, node.options, task_id)
