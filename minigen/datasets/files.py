"""Files that others wrote: regular ones only, and no more of them than they may have."""

from __future__ import annotations

import stat
from pathlib import Path

from minigen import storage

_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device",
          stat.S_IFBLK: "device"}


def state(path: Path) -> tuple[int, tuple[int, int]]:
    """The bytes of a regular file, and when it was changed last: by its own account, which copies keep and
    anyone may set, and by the file system's. ``ValueError`` for anything else: to read a FIFO or a device
    might never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "special file")
        raise ValueError(f"{path}: a regular file expected, a {kind} found")
    return found.st_size, (found.st_mtime_ns, found.st_ctime_ns)


def read(path: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes; ``ValueError`` for any other."""
    size, _ = state(path)
    if size > most:
        raise ValueError(f"{path}: at most {most:,} bytes expected, {size:,} found")
    with storage.naming(path), path.open("rb") as file:
        return file.read(most)
