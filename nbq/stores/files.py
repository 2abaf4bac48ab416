"""Results as files, wherever fsspec finds them: folders, buckets, shares. A file is whole or not there.

A file begins with the time at which it expires. Files lie in 256 folders by the first two digits of
their names, and each purge looks through a part of one of them.
"""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import fsspec

from nbq.errors import SettingsError
from nbq.stores.base import Backend

__all__ = ["FileStore", "connect"]

_HEAD = struct.Struct("!d")
_FOLDERS = 256
_PURGED = 200
_PART_S = 24 * 3600.0
"""From this age on, a file that was never renamed is of a writer that died."""
# Where a put is seen as a whole or not at all, and a rename would be a copy.
_WHOLE = {"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos"}
_WORDS: dict[str, object] = {"true": True, "false": False, "none": None}


class FileStore:
    """A store in a folder.

    Args:
        system: The file system.
        root: The folder; made if it is missing.
    """

    piece_bytes = 1 << 40

    def __init__(self, system: Any, root: str) -> None:
        names = system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)
        self._system = system
        self._root = root.rstrip("/")
        self._local = "file" in names
        self._whole = not _WHOLE.isdisjoint(names)
        self._next = random.randrange(_FOLDERS)  # noqa: S311  processes shall not all look at one folder

    def put(self, name: str, data: bytes, expires_s: float | None) -> None:
        """Keep a value: written beside its place, then renamed."""
        content = _HEAD.pack(float("inf") if expires_s is None else time.time() + expires_s) + data
        path = self._path(name)
        if self._whole:
            self._system.pipe_file(path, content)
            return
        part = f"{path}.{random.getrandbits(64):016x}.part"
        self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
        if self._local:
            _write(part, path, content)
        else:
            self._system.pipe_file(part, content)
            self._system.mv(part, path)

    def get(self, name: str) -> bytes | None:
        """Return a value, or None."""
        try:
            content = self._system.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return None if _expires_s(content) <= time.time() else content[_HEAD.size :]

    def delete(self, names: Sequence[str]) -> None:
        """Drop values."""
        for name in names:
            self._remove(self._path(name))

    def purge(self) -> None:
        """Look through some files of the next folder, and drop those that have expired."""
        folder = f"{self._root}/{self._next:02x}"
        self._next = (self._next + 1) % _FOLDERS
        try:
            paths = self._system.ls(folder, detail=False, refresh=True)
        except FileNotFoundError:
            return
        now_s = time.time()
        for path in random.sample(paths, min(len(paths), _PURGED)):
            try:
                if path.endswith(".part"):
                    expires_s = self._system.modified(path).timestamp() + _PART_S
                else:
                    expires_s = _expires_s(self._system.cat_file(path, start=0, end=_HEAD.size))
            except FileNotFoundError:
                continue  # another process was here
            if expires_s <= now_s:
                self._remove(path)

    def close(self) -> None:
        """Do nothing: fsspec keeps and shares its connections itself."""

    def _path(self, name: str) -> str:
        return f"{self._root}/{name[:2]}/{name}"

    def _remove(self, path: str) -> None:
        try:
            self._system.rm_file(path)
        except FileNotFoundError:
            return


def _write(part: str, path: str, content: bytes) -> None:
    """Write a file of this machine so that it is there, whole, after a loss of power too."""
    try:
        with open(part, "xb") as file:  # noqa: PTH123  names are fsspec's, and stay texts
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)  # noqa: PTH105
    except OSError:
        _drop(part)
        raise
    folder = os.open(os.path.dirname(path), os.O_RDONLY)  # noqa: PTH120
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _drop(part: str) -> None:
    try:
        os.unlink(part)  # noqa: PTH108
    except OSError:
        return  # the reason why it cannot be written says more


def _expires_s(content: bytes) -> float:
    """Return when a file's value expires; what is no value has expired already."""
    return _HEAD.unpack_from(content)[0] if len(content) >= _HEAD.size else 0.0


def connect(url: str) -> Backend:
    """Return the back end of a URL; its query is given to the file system as options.

    Raises:
        SettingsError: fsspec does not know the scheme, or the package of the scheme is not installed.
    """
    place, _, query = url.partition("?")
    options = {key: _WORDS.get(value.lower(), value) for key, value in parse_qsl(query)}
    scheme = place.partition("://")[0]
    try:
        system, root = fsspec.url_to_fs(place, use_listings_cache=False, **options)
    except ImportError as error:
        said = str(error)
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise
        said = "no store has such URLs; an entry point nbq.results can add one"
    else:
        if not root.strip("/"):
            raise SettingsError(f"{scheme}:// needs a folder or bucket after it")
        if scheme in ("file", "local") and not place.partition("://")[2].startswith("/"):
            raise SettingsError(
                f"{place} is no folder that all processes agree on: write file:///and/the/path"
            )
        return FileStore(system, root)
    raise SettingsError(f"result_backend = {scheme}://…: {said}")
