"""Ctrl-C, held back while the main thread does something that must not be cut in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupts"]


class Interrupts:
    """Holds SIGINT back inside a ``with`` block of the main thread; then the usual handler has it.

    Args:
        wake: Called when it comes, so that a wait in the block can end.

    Attributes:
        came: The signal and frame that came, or None.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.came: tuple[int, FrameType | None] | None = None
        self._wake = wake
        self._handler: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> Self:
        """Begin, if this is the main thread and SIGINT has a handler in Python."""
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                signal.signal(signal.SIGINT, self._on_signal)
                self._handler = handler
        return self

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.came = signum, frame
        self._wake()

    def __exit__(self, *_exc: object) -> None:
        """End; what came is handled now, and may raise KeyboardInterrupt."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self.came is not None:
                self._handler(*self.came)
