"""A whole cluster inside this process, in virtual time: what ``apply()``, eager mode and ``nbq.testing`` use.

The hub, the engine's session, the slots' runner, the client's session and the handles are the real ones, and
every message between them is encoded and decoded. Only what is around them is other: no sockets, threads,
processes or files of facts, and a clock that jumps to the next deadline when nothing else can happen. So what
a canvas does here is what it does on a cluster, and a countdown of an hour takes no time.
Loaded only when one of these is used (``docs/adr/0009``).
"""

from __future__ import annotations

from nbq.local.cluster import LocalClient, LocalCluster
from nbq.local.eager import apply_plan, eager_client

__all__ = ["LocalClient", "LocalCluster", "apply_plan", "eager_client"]
