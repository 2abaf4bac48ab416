"""Figures: nbq beside bare ZeroMQ, ``ProcessPoolExecutor`` and other engines; ``python -m benchmarks``."""
