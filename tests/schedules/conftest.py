"""The cluster in virtual time, for what schedules do."""

from __future__ import annotations

from nbq.testing import nbq_cluster

__all__ = ["nbq_cluster"]
