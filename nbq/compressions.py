"""Compressions by name: gzip, bzip2, zlib, lz4, zstd, and those that users register.

What is expanded never has more bytes than its reader allows, whatever it says of itself. ``gzip`` and
``zlib`` are two formats here (in Celery both names mean zlib's).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbq.errors import ContentDisallowed, IntegrityError, SettingsError

__all__ = ["OF_BLOCKS", "check", "check_name", "compress", "expand", "register_compression"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,39}")
_READ_BYTES = 1 << 20
_WINDOW_BYTES = 1 << 27
"""What a zstd frame may ask a reader to remember; its own limit for all but ``--ultra --long``."""


@dataclass(frozen=True, slots=True)
class _Compression:
    """Its two functions; ``expand`` is given the most bytes that it may return."""

    compress: Callable[[bytes], bytes]
    expand: Callable[[bytes | memoryview, int], bytes]


def _streamed(make: Callable[[], Any], data: bytes | memoryview, max_size: int) -> bytes:
    """Expand with a stream that stops after the most bytes that there may be, and one."""
    stream = make()
    content = stream.decompress(data, max_size + 1)
    if len(content) > max_size:
        raise ValueError(f"it has more than {max_size:,} bytes")
    if not stream.eof or stream.unused_data:
        raise ValueError("it is cut short, or something follows it")
    return content


# Each module is loaded only where its compression is asked for or met.


def _gzip(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, 6, mtime=0)


def _gunzip(data: bytes | memoryview, max_size: int) -> bytes:
    import zlib

    try:
        return _streamed(lambda: zlib.decompressobj(wbits=31), data, max_size)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def _deflate(data: bytes) -> bytes:
    import zlib

    return zlib.compress(data)


def _inflate(data: bytes | memoryview, max_size: int) -> bytes:
    import zlib

    try:
        return _streamed(zlib.decompressobj, data, max_size)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def _bzip2(data: bytes) -> bytes:
    import bz2

    return bz2.compress(data)


def _bunzip2(data: bytes | memoryview, max_size: int) -> bytes:
    import bz2

    return _streamed(bz2.BZ2Decompressor, data, max_size)


def _lz4(data: bytes) -> bytes:
    import lz4.frame

    return lz4.frame.compress(data)


def _unlz4(data: bytes | memoryview, max_size: int) -> bytes:
    import lz4.frame

    return _streamed(lz4.frame.LZ4FrameDecompressor, data, max_size)


def _zstandard() -> Any:
    try:
        import zstandard  # an extra
    except ImportError:
        raise SettingsError(
            "the compression 'zstd' needs the package zstandard: install nbq[zstd] here and where engines run"
        ) from None
    return zstandard


def _zstd(data: bytes) -> bytes:
    return _zstandard().ZstdCompressor().compress(data)


def _unzstd(data: bytes | memoryview, max_size: int) -> bytes:
    zstandard = _zstandard()
    # decompress() would believe the size that the frame names.
    stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).stream_reader(data)
    parts: list[bytes] = []
    size = 0
    try:
        while part := stream.read(min(_READ_BYTES, max_size + 1 - size)):
            parts.append(part)
            size += len(part)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if size > max_size:
        raise ValueError(f"it has more than {max_size:,} bytes")
    return b"".join(parts)


_BUILT_IN = {
    "bzip2": _Compression(_bzip2, _bunzip2),
    "gzip": _Compression(_gzip, _gunzip),
    "lz4": _Compression(_lz4, _unlz4),
    "zlib": _Compression(_deflate, _inflate),
    "zstd": _Compression(_zstd, _unzstd),
}
OF_BLOCKS = frozenset({*_BUILT_IN, "auto", "none"})
"""What a whole block may be compressed with: the built-in ones; ``auto`` is lz4 where it pays."""
_compressions = dict(_BUILT_IN)


def register_compression(
    name: str, compress: Callable[[bytes], bytes], decompress: Callable[[bytes, int], bytes]
) -> None:
    """Make a compression known by a name, in this process.

    Clients and engines both have to do it: put the call in a module that engines import. The same name
    may be registered again, and then means the new functions. It is applied to each value on its own.

    Args:
        name: Lower-case letters, digits and ``_.+-``, at most 40.
        compress: From bytes to bytes.
        decompress: From those bytes, and the most bytes that the content may have, to the content. It
            has to stop there, and may raise or return more: both are refused.

    Raises:
        SettingsError: The name cannot be used, or ``decompress`` does not take two arguments.
    """
    check_name("compression", name, OF_BLOCKS)
    try:
        inspect.signature(decompress).bind(b"", 1)
    except TypeError as error:
        raise SettingsError(
            f"decompress of {name!r} cannot be called with (data, max_size) ({error}): it has to stop at "
            "max_size bytes, so that no payload expands beyond all bounds"
        ) from None
    except ValueError:  # some builtins have no signature
        pass
    _compressions[name] = _Compression(compress, lambda data, max_size: decompress(bytes(data), max_size))


def check_name(kind: str, name: str, taken: frozenset[str]) -> None:
    """Check the name of a serializer or compression that is being registered.

    Raises:
        SettingsError: It cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot be the name of a {kind}: lower-case letters, digits and _.+- only, at most 40"
        )
    if name in taken:
        raise SettingsError(f"{name!r} is a {kind} of nbq's own: register yours under another name")


def check(name: str) -> None:
    """Check that a compression can be used here.

    Raises:
        SettingsError: It is not known, or what it needs is missing.
    """
    if name not in _compressions and name not in OF_BLOCKS:
        known = ", ".join(sorted(_compressions.keys() | OF_BLOCKS))
        raise SettingsError(
            f"no compression {name!r} is known here; there are {known}; "
            "nbq.register_compression(name, compress, decompress) makes another"
        )
    if name == "zstd":
        _zstandard()


def compress(name: str, data: bytes) -> bytes:
    """Compress bytes.

    Raises:
        SettingsError: There is no such compression here, or it does not return bytes.
    """
    check(name)
    squeezed = _compressions[name].compress(data)
    if not isinstance(squeezed, bytes):
        raise SettingsError(f"compress of {name!r} returned {type(squeezed).__name__}, not bytes")
    return squeezed


def expand(name: str, data: bytes | memoryview, max_size: int) -> bytes:
    """Return what was compressed.

    Raises:
        ContentDisallowed: The compression is not known here.
        IntegrityError: It was not made by this compression, or has more bytes than it may have.
    """
    found = _compressions.get(name)
    if found is None:
        raise ContentDisallowed(
            f"a payload was compressed by {name!r}, which is not registered here: call "
            "nbq.register_compression in a module that this process imports (for an engine: --include MODULE)"
        )
    try:
        content = found.expand(data, max_size)
    except SettingsError as error:
        raise ContentDisallowed(f"a payload cannot be expanded here: {error}") from None
    except Exception as error:  # what was registered is user code; the built-in ones raise four kinds
        raise IntegrityError(f"a payload cannot be expanded by {name}: {error}") from error
    if not isinstance(content, bytes) or len(content) > max_size:
        raise IntegrityError(f"a payload would expand by {name} to more than {max_size:,} bytes")
    return content
