"""One script per peer, run in the peer's own environment; none may import nbq."""
