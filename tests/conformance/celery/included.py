"""A module that no test imports: only engines that are told to include it know its task."""

from __future__ import annotations

import nbq


@nbq.task(name="only.there")
def only_there(x):
    return ["there", x]
