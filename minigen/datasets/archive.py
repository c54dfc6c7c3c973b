"""Zip archives that others made: members are read one by one, and nothing is ever unpacked to the disk."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from minigen import storage
from minigen.datasets import files

# Limits for one member, and for the list of them: a photograph in CelebA has 10 kB, its list 202,599 members
# in 22 MB.
_MOST_BYTES, _MOST_LISTED, _MOST_MEMBERS = 16 << 20, 32 << 20, 300_000


class Archive:
    """Those members of a zip archive whose last name is ``wanted``, by that name: a ``pictures.Source``.

    Members of an archive ``inner`` in it count as its own. ``ValueError`` names the archive and says what is
    wrong with it or with one of these members.
    """

    def __init__(self, path: Path, wanted: Callable[[str], Any], inner: str) -> None:
        self.path = path
        size, changed = files.state(path)
        self.stamp = [str(path.resolve()), size, *changed]
        self.members: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        self.file = path.open("rb")
        try:
            outer = self._open(_Span(self.file, 0, size))
            self._add(outer, wanted)
            for _, member in self._named(outer, lambda name: name == inner):
                self._add(self._open(self._inside(member)), wanted)
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.file.close()

    def read(self, name: str) -> bytes:
        """The content of a member. ``ValueError`` if it is damaged, which leaves it to the caller to name
        it."""
        archive, member = self.members[name]
        with storage.naming(self.path):
            try:
                with archive.open(member) as file:
                    return file.read(member.file_size)
            except (MemoryError, OSError):
                raise
            except Exception as error:          # on damaged archives zipfile raises almost anything
                raise ValueError(str(error) or type(error).__name__) from error

    def _open(self, span: _Span) -> zipfile.ZipFile:
        with storage.naming(self.path):
            try:
                return zipfile.ZipFile(span)
            except (MemoryError, OSError):
                raise
            except Exception as error:
                raise ValueError(f"{self.path}: a zip archive or a folder expected: {error}") from error

    def _named(self, archive: zipfile.ZipFile,
               wanted: Callable[[str], Any]) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        """The last names and the members that are wanted; those that cannot be read are refused."""
        for member in archive.infolist():
            parts = re.split(r"[/\\]", member.filename)
            if not wanted(parts[-1]) or "__MACOSX" in parts:
                continue
            name = f"{self.path}: the member {member.filename!r}"
            if ".." in parts or parts[0] == "" or ":" in parts[0]:
                raise ValueError(f"{name} would leave the folder it is unpacked to")
            if member.flag_bits & 1:
                raise ValueError(f"{name} is encrypted: unpack it with its password")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is compressed by method {member.compress_type}, not by deflate: "
                                 "unpack it")
            yield parts[-1], member

    def _add(self, archive: zipfile.ZipFile, wanted: Callable[[str], Any]) -> None:
        for name, member in self._named(archive, wanted):
            if name in self.members:
                raise ValueError(f"{self.path}: one member {name} expected, {member.filename!r} and "
                                 f"{self.members[name][1].filename!r} found")
            if max(member.file_size, member.compress_size) > _MOST_BYTES:
                raise ValueError(f"{self.path}: the member {member.filename!r} unpacks to "
                                 f"{member.file_size:,} bytes: at most {_MOST_BYTES:,} expected")
            self.members[name] = archive, member

    def _inside(self, member: zipfile.ZipInfo) -> _Span:
        """The bytes of a member that is an archive itself."""
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{self.path}: unpack it once and give the {member.filename} in it, which is "
                             "compressed twice")
        if member.header_offset < 0:
            raise ValueError(f"{self.path}: the member {member.filename!r} begins before the archive does")
        with storage.naming(self.path):
            self.file.seek(member.header_offset + 26)
            lengths = self.file.read(4).ljust(4, b"\0")         # of the name and the extra field before it
        start = member.header_offset + 30 + sum(struct.unpack("<2H", lengths))
        return _Span(self.file, start, member.file_size)


class _Span:
    """A part of a file, as a file for ``zipfile``. A read is limited in size, because ``zipfile`` reads the
    list of members whole, and a forged list could fill the memory."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self.file, self.start, self.size = file, start, size
        self.at = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2:         # where archives end is looked for at fixed distances from the file's end
            offset = max(0, self.size + offset)
        if offset < 0:
            raise ValueError("it begins before the archive does")
        self.at = offset
        return offset

    def read(self, n: int = -1) -> bytes:
        left = max(0, self.size - self.at)
        n = left if n < 0 else min(n, left)
        if n > _MOST_LISTED:
            raise ValueError(f"a list of at most {_MOST_LISTED:,} bytes expected, {n:,} found")
        self.file.seek(self.start + self.at)
        content = self.file.read(n)
        self.at += len(content)
        if (members := content.count(b"PK\1\2")) > _MOST_MEMBERS:
            raise ValueError(f"at most {_MOST_MEMBERS:,} members expected, {members:,} found")
        return content
