"""What the tests of settings share."""

from __future__ import annotations

from tests.settings.kit import fresh

__all__ = ["fresh"]
