"""``python -m nbq``: the same as the ``nbq`` command."""

from __future__ import annotations

from nbq.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
