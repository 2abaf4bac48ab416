"""Which nbq, and which Python and cloudpickle: what peers tell each other when they meet."""

from __future__ import annotations

import functools
import platform

__all__ = ["__version__", "versions"]

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Return the versions that matter between peers."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # as slow to load as all of click

    try:
        pickler = version("cloudpickle")
    except PackageNotFoundError:
        pickler = "none"
    return {"nbq": __version__, "python": platform.python_version(), "cloudpickle": pickler}
