"""The log's handler: a reader that is gone is no matter, a line that cannot be made is."""

from __future__ import annotations

import io
import logging

import pytest

from nbq import logs


class Gone(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def tell(stream: io.StringIO, text: str, *values: object) -> None:
    handler = logs._Handler(stream)
    handler.handle(logging.LogRecord("nbq", logging.INFO, "", 0, text, values, None))


def test_a_reader_that_is_gone_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Gone(), "a line")
    assert capsys.readouterr() == ("", "")


def test_a_line_that_cannot_be_made_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    tell(io.StringIO(), "%d", "no number")
    assert "TypeError: %d format: a real number is required" in capsys.readouterr().err
