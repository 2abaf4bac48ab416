"""What users compose, and how it becomes a graph.

Pure: a canvas is plain data. ``plan`` is the only place where shapes are rewritten, and submission
goes through the hook that the client binds. Imports the standard library, ``msgspec``, ``nbq.core``
and ``nbq.errors``, and nothing that does I/O.
"""

from __future__ import annotations

from nbq.canvas.compose import chain, chord, group
from nbq.canvas.draw import draw_svg, draw_text
from nbq.canvas.maps import MAP, STARMAP
from nbq.canvas.options import (
    OPTION_NAMES,
    ClientOptions,
    RetryPolicy,
    bind_timezone,
    client_options,
    run_options,
)
from nbq.canvas.plan import Plan, PlannedNode, plan, plan_replacement
from nbq.canvas.signature import (
    Canvas,
    Signature,
    TaskRef,
    bind_applier,
    bind_registry,
    bind_submitter,
    found_task,
    keyword,
    positional,
    signature,
)
from nbq.canvas.tree import EMPTY, Branch, Empty, Leaf, Tree, parent_of, tree_of

__all__ = [
    "EMPTY",
    "MAP",
    "OPTION_NAMES",
    "STARMAP",
    "Branch",
    "Canvas",
    "ClientOptions",
    "Empty",
    "Leaf",
    "Plan",
    "PlannedNode",
    "RetryPolicy",
    "Signature",
    "TaskRef",
    "Tree",
    "bind_applier",
    "bind_registry",
    "bind_submitter",
    "bind_timezone",
    "chain",
    "chord",
    "client_options",
    "draw_svg",
    "draw_text",
    "found_task",
    "group",
    "keyword",
    "parent_of",
    "plan",
    "plan_replacement",
    "positional",
    "run_options",
    "signature",
    "tree_of",
]
