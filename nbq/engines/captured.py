"""What the running element prints, from Python, from C or from a child process: kept, and bounded."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

__all__ = ["OUTPUT_LIMIT", "Captured"]

OUTPUT_LIMIT = 64 * 1024
"""Characters and bytes of each of the two streams: results and output have to fit in one message."""


class _Bytes(io.RawIOBase):
    """The binary side of a captured stream."""

    def __init__(self, text: _Capture) -> None:
        self._text = text

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Keep bytes as text."""
        content = bytes(data)
        self._text.write(content.decode(errors="replace"))
        return len(content)


class _Capture(io.TextIOBase):
    """Standard output or error of an element: bounded, and nothing but a list while it is short.

    Args:
        handle: The descriptor of the same stream, for code that asks for it.
    """

    encoding = "utf-8"

    def __init__(self, handle: int) -> None:
        self.parts: list[str] = []
        self.buffer = _Bytes(self)
        """What code writes bytes to, as to any standard stream."""
        self._handle = handle
        self._size = 0

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._handle

    def write(self, text: str) -> int:
        """Keep a text; from the limit on, count it only."""
        if text and self._size <= OUTPUT_LIMIT:
            self.parts.append(text[: OUTPUT_LIMIT + 1 - self._size])
        self._size += len(text)
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def take(self) -> str:
        """Return what was written since the last time."""
        text = "".join(self.parts)
        self.parts.clear()
        self._size = 0
        return text


class Captured:
    """Both streams of a slot.

    Args:
        output: The descriptor of the file that standard output and error of the process go to.
    """

    def __init__(self, output: int) -> None:
        self._output = output
        self._output_size = 0
        self.out, self.err = _Capture(1), _Capture(2)

    def redirect(self) -> None:
        """Let print and logging of user code come here."""
        sys.stdout = self.out
        sys.stderr = self.err

    def take(self) -> tuple[str, str] | None:
        """Return what was printed since the last time, or None."""
        written = b""
        size = os.lseek(self._output, 0, os.SEEK_END)
        if size != self._output_size:
            count = min(size - self._output_size, OUTPUT_LIMIT + 1)
            written = os.pread(self._output, count, self._output_size) if count > 0 else b""
            self._output_size = size
        if not (written or self.out.parts or self.err.parts):
            return None
        return _cut(self.out.take() + written.decode(errors="replace")), _cut(self.err.take())


def _cut(text: str) -> str:
    """Return a text that can be encoded, and has not more bytes than the limit."""
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= OUTPUT_LIMIT:
        return text if text.isascii() else raw.decode()
    return raw[:OUTPUT_LIMIT].decode(errors="ignore") + "\n... the rest was cut\n"
