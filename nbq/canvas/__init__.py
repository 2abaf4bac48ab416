"""What users compose, and how it becomes a graph.

Pure: a canvas is plain data. ``plan`` is the only place where shapes are rewritten, and submission
goes through the hook that the client binds. Imports the standard library, ``msgspec``, ``nbq.core``
and ``nbq.errors``, and nothing that does I/O.
"""

from __future__ import annotations

from nbq.canvas.compose import chain, chord, group
from nbq.canvas.draw import draw_svg, draw_text
from nbq.canvas.options import OPTION_NAMES, run_options
from nbq.canvas.plan import Plan, PlannedNode, plan
from nbq.canvas.signature import (
    Canvas,
    Signature,
    TaskRef,
    bind_registry,
    bind_submitter,
    signature,
)
from nbq.canvas.tree import EMPTY, Branch, Empty, Leaf, Tree, parent_of, tree_of

__all__ = [
    "EMPTY",
    "OPTION_NAMES",
    "Branch",
    "Canvas",
    "Empty",
    "Leaf",
    "Plan",
    "PlannedNode",
    "Signature",
    "TaskRef",
    "Tree",
    "bind_registry",
    "bind_submitter",
    "chain",
    "chord",
    "draw_svg",
    "draw_text",
    "group",
    "parent_of",
    "plan",
    "run_options",
    "signature",
    "tree_of",
]
