"""Write arrays and text to files, whole or not at all; read arrays; lock files; find the cache folder.

The cache folder keeps results between runs. An ``OSError`` that is raised here names its file.
"""

from __future__ import annotations

import errno
import glob
import io
import math
import os
import stat
import sys
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy
from numpy.lib import format as npy

try:
    import fcntl
except ImportError:     # on Windows, where ``lock`` therefore locks nothing
    fcntl = None        # type: ignore[assignment]

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}      # of some network file systems


# The locks of this process. A forked child has them too, and would keep them for as long as it lives.
_lock_files: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()


def _close_lock_files() -> None:
    for file in _lock_files:
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_lock_files)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """An ``OSError`` in the block that names no file, as of a full disk, gets the name of ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        error.filename = os.fspath(path)
        raise


@contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the file ``path``, made if need be, for this thread alone.

    ``BlockingIOError`` if another thread or process holds it, unless ``wait`` says to wait for that one. A
    lock ends with its process, however that ends; the file may remain. A child that Python has forked does
    not hold it. The value is False where there are no
    locks: on Windows and some network file systems.
    """
    if fcntl is None:
        yield False
        return
    while True:
        with suppress(FileNotFoundError):
            _refuse_special(path)
        with path.open("ab") as file:
            _lock_files.add(file)
            held = True
            try:
                with naming(path):
                    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                held = False
            if not held or _is_at(file, path):      # else the holder before removed the file
                yield held
                return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that replaces ``path`` once it is complete on the disk, and is removed if that fails."""
    make_folder(path.parent)
    remove_unfinished(path.parent, glob.escape(path.name))
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    with naming(path), lock(part, wait=True):
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):      # the first error says more
                part.unlink()
            raise
        _sync_folder(path.parent)


def remove_unfinished(folder: Path, name: str) -> None:
    """Remove what killed processes left of files that they were just writing; ``name`` may have wildcards."""
    for part in folder.glob(f"{name}.[0-9]*.part"):
        with suppress(BlockingIOError), lock(part) as held:
            if held:
                part.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make the folder, with those above it, so that they outlast a power cut."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            try:
                folder.mkdir(exist_ok=True)
            except FileExistsError:
                raise NotADirectoryError(errno.ENOTDIR, "a folder expected, a file or a dangling link found",
                                         os.fspath(folder)) from None
            _sync_folder(folder.parent)


def sync(path: Path) -> None:
    """Wait until the content of the file is on the disk."""
    with naming(path), path.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Wait until the names in the folder are on the disk; Windows cannot do that."""
    if os.name != "nt":
        number = os.open(path, os.O_RDONLY)
        try:
            with naming(path):
                os.fsync(number)
        finally:
            os.close(number)


def save(path: Path, arrays: dict[str, Any]) -> None:
    """Write the arrays as an uncompressed .npz file, which gets its name only once complete on the disk.

    ``ValueError`` names an array of Python objects.
    """
    for name, array in arrays.items():
        if numpy.asarray(array).dtype.hasobject:
            raise ValueError(f"{path}: an array of numbers expected for {name}, {type(array).__name__} found")
    with replacing(path) as file:
        numpy.savez(file, **arrays)


def write_text(path: Path, text: str) -> None:
    """Write the text as UTF-8, whole or not at all, as ``save`` does."""
    with replacing(path) as file:
        file.write(text.encode())


def append_text(path: Path, text: str) -> None:
    """Append the text as UTF-8 to the file, which must exist."""
    with naming(path), path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(text.encode())


def load(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays of a file written by ``save``. If it is damaged, ``ValueError`` names the file."""
    if not _is_regular(path):
        raise ValueError(f"{path} is damaged: a regular file expected")
    content = read(path)        # first: an OSError from here on is about the content, not about the disk
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len({member.filename for member in members}) != len(members):
                raise ValueError("an array is in it twice")
            if sum(member.file_size for member in members) > len(content):
                raise ValueError("its arrays are larger than the file")
            return {member.filename.removesuffix(".npy"): _array(archive.read(member))
                    for member in members}      # reading compares the checksum
    except MemoryError:
        raise
    except Exception as error:      # on random bytes the readers raise almost anything
        raise ValueError(f"{path} is damaged: {error or type(error).__name__}") from error


def read(path: Path) -> bytes:
    """The content of the file; ``OSError`` if it is no regular file."""
    _refuse_special(path)
    with naming(path):
        return path.read_bytes()


def _refuse_special(path: Path) -> None:
    """``OSError`` for a folder, a pipe or a device, which might never end or even open."""
    if not _is_regular(path):
        raise OSError(errno.EINVAL, "a regular file expected", os.fspath(path))


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.stat().st_mode)


def _array(content: bytes) -> numpy.ndarray:
    """The array of the .npy file with this content; the header is believed only if it fits."""
    file = io.BytesIO(content)
    version = npy.read_magic(file)
    read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or dtype.itemsize * math.prod(shape) != len(content) - file.tell():
        raise ValueError(f"not the bytes of an array {dtype} {shape}")
    flat: Any = []
    if dtype.itemsize * math.prod(shape):
        flat = numpy.frombuffer(content, dtype, offset=file.tell())
    return numpy.array(flat, dtype).reshape(shape, order="F" if fortran else "C")


def expand(owner: str, path: str | os.PathLike[str]) -> Path:
    """The path, with a leading ``~`` replaced by the user's folder. Errors begin with ``owner``.

    ``TypeError`` or ``ValueError`` if it is no path; ``FileNotFoundError`` if the folder is unknown, or if
    the path is empty, which is an unset variable more often than the current folder.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"{owner}: a path expected, {type(path).__name__} found")
    if "\0" in text:
        raise ValueError(f"{owner}: a path without null characters expected, {text!r} found")
    if not text:
        raise FileNotFoundError(errno.ENOENT, f"{owner}: a path expected", "")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, f"{owner}: no home folder is known", text) from None


def cache_folder() -> Path:
    """``MINIGEN_CACHE`` if set, otherwise minigen's folder in the platform's usual cache directory, or, for a
    user without a home, among the temporary files."""
    if chosen := os.environ.get("MINIGEN_CACHE"):
        return expand("MINIGEN_CACHE", chosen)
    try:
        return _base() / "minigen"
    except FileNotFoundError:
        return Path(tempfile.gettempdir()) / "minigen-cache"


def _base() -> Path:
    if sys.platform == "win32":
        return expand("LOCALAPPDATA", os.environ.get("LOCALAPPDATA") or "~/AppData/Local")
    if sys.platform == "darwin":
        return expand("HOME", "~/Library/Caches")
    return expand("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache")
