"""A serializer and a compression that clients and slots know only when they import this."""

from __future__ import annotations

import ast

import nbq


def dumps(value: object) -> bytes:
    return repr(value).encode()


def loads(data: bytes) -> object:
    return ast.literal_eval(data.decode())


def mirrored(data: bytes, max_size: int | None = None) -> bytes:
    return data[: None if max_size is None else max_size + 1][::-1]


nbq.register_serializer("literal", dumps, loads, content_type="text/x-literal")
nbq.register_compression("mirror", mirrored, mirrored)
