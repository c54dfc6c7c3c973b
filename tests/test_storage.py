"""Arrays on the disk: whole or not at all."""

import errno
import fcntl
import io
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import zipfile

import numpy
import pytest

from minigen import datasets, storage, training

ARRAYS = {"a.weight": numpy.arange(2000.0), "steps": numpy.array(3), "empty": numpy.zeros((0, 2), "float32")}


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "x.npz"
    storage.save(path, ARRAYS)
    found = storage.load(path)
    assert list(found) == list(ARRAYS)
    assert all((found[k] == v).all() and found[k].dtype == v.dtype and found[k].shape == v.shape
               for k, v in ARRAYS.items())
    assert [p.name for p in path.parent.iterdir()] == ["x.npz"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    storage.save(path, ARRAYS)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        storage.save(path, {"b": numpy.ones(3)})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_a_file_is_complete_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, done = tmp_path / "x.txt", []
    replace = os.replace

    def note_sync(number):
        status = os.fstat(number)
        done.append(("fsync", "folder" if stat.S_ISDIR(status.st_mode) else status.st_size))
    monkeypatch.setattr("os.fsync", note_sync)
    monkeypatch.setattr("os.replace", lambda part, whole: (
        done.append(("replace", part.stat().st_size)), replace(part, whole)))
    storage.write_text(path, "twelve bytes")
    assert done == [("fsync", 12), ("replace", 12), ("fsync", "folder")]
    assert path.read_text() == "twelve bytes"


def test_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "x.txt"
    storage.write_text(path, "old \N{EN DASH}\n")
    monkeypatch.setattr("os.replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        storage.write_text(path, "new")
    assert path.read_text("utf-8") == "old \N{EN DASH}\n" and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("call, write", [
    ("os.fsync", lambda path: storage.save(path, ARRAYS)), ("os.fsync", lambda path: storage.sync(path)),
    ("numpy.savez", lambda path: storage.save(path, ARRAYS)),
    ("os.replace", lambda path: storage.write_text(path, "text"))])
def test_an_error_names_the_file(tmp_path, monkeypatch, call, write):
    path = tmp_path / "x.npz"
    path.write_text("old")

    def full(*args, **options):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(call, full)
    with pytest.raises(OSError, match="^.Errno 28. No space left on device: '.*x.npz'$"):
        write(path)


def test_an_error_without_a_number_names_the_file_too(tmp_path):
    with pytest.raises(OSError, match="^x.png: encoder error -2$"), storage.naming("x.png"):
        raise OSError("encoder error -2")
    with pytest.raises(OSError, match="'other'"), storage.naming("x.png"):
        raise OSError(2, "No such file", "other")


def test_text_is_appended_to_a_file_that_exists(tmp_path):
    path = tmp_path / "x.txt"
    with pytest.raises(FileNotFoundError, match="x.txt"):
        storage.append_text(path, "lost")
    storage.write_text(path, "one\n")
    storage.append_text(path, "zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf\n")
    assert path.read_text("utf-8") == "one\nzw\xf6lf\n"


def test_new_folders_are_on_the_disk_too(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda number: synced.append(os.fstat(number).st_ino))
    storage.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino]


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("gone")])
def test_what_is_in_the_place_of_a_folder_is_named(tmp_path, make):
    make(tmp_path / "a")
    with pytest.raises(NotADirectoryError, match="folder expected, a file or a dangling link found: .*/a'$"):
        storage.make_folder(tmp_path / "a" / "b")


def test_a_root_that_is_missing_is_an_error(monkeypatch):
    """As that of a drive which is not connected, on Windows."""
    monkeypatch.setattr("pathlib.Path.is_dir", lambda path: False)
    with pytest.raises(OSError, match=f"'{re.escape(os.sep)}'$"):
        storage.make_folder(storage.Path(os.sep, "a"))


@pytest.mark.parametrize("name", ["lock", "x.npz.4321-1.part"])
def test_a_pipe_in_the_place_of_a_lock_is_refused(tmp_path, name):
    """To open it would wait for a reader."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match=f"a regular file expected: '.*{name}'"):
        with storage.lock(tmp_path / "lock"):
            storage.save(tmp_path / "x.npz", ARRAYS)


def test_a_lock_keeps_others_out_until_it_ends(tmp_path):
    path = tmp_path / "lock"
    with storage.lock(path) as held:
        assert held
        with pytest.raises(BlockingIOError), storage.lock(path):
            pass
    with storage.lock(path) as held:
        assert held


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "lock"
    code = ("import os, pathlib, signal; from minigen import storage\n"
            f"with storage.lock(pathlib.Path({str(path)!r})): os.kill(os.getpid(), signal.SIGKILL)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert path.exists()
    with storage.lock(path) as held:
        assert held


def python(code):
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_lock_ends_with_its_process_although_that_had_forked(tmp_path):
    """As if a process that loads data outlived the one that trains."""
    path = tmp_path / "lock"
    code = (f"import os, pathlib, signal\nfrom minigen import storage\n"
            f"with storage.lock(pathlib.Path({str(path)!r})):\n"
            "    if os.fork():\n        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    os.write(1, b'x')\n    os.read(0, 1)\n    os._exit(0)")
    with python(code) as process:
        assert process.stdout.read(1) == b"x" and process.wait() == -signal.SIGKILL
        with storage.lock(path) as held:
            assert held


def test_a_child_that_ends_leaves_its_parent_the_lock(tmp_path):
    path = tmp_path / "lock"
    code = (f"import os, pathlib\nfrom minigen import storage\npath = pathlib.Path({str(path)!r})\n"
            "with storage.lock(path):\n    child = os.fork()\n    if not child:\n        os._exit(0)\n"
            "    os.waitpid(child, 0)\n    os.write(1, b'x')\n    os.read(0, 1)")
    with python(code) as process:
        assert process.stdout.read(1) == b"x"
        with pytest.raises(BlockingIOError), storage.lock(path):
            pass


def test_a_lock_is_not_taken_on_a_file_that_its_holder_has_removed(tmp_path, monkeypatch):
    path, flock = tmp_path / "lock", fcntl.flock

    def lock_too_late(file, how):
        if not calls:
            path.unlink()
        calls.append(how)
        return flock(file, how)
    calls = []
    monkeypatch.setattr("fcntl.flock", lock_too_late)
    with storage.lock(path) as held:
        assert held and path.exists() and len(calls) == 2


@pytest.mark.parametrize("number, expected", [(errno.ENOLCK, False), (errno.EIO, None)])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number, expected):
    def fail(*args):
        raise OSError(number, "no locks available")
    monkeypatch.setattr("fcntl.flock", fail)
    if expected is None:
        with pytest.raises(OSError, match="no locks"), storage.lock(tmp_path / "lock"):
            pass
    else:
        with storage.lock(tmp_path / "lock") as held:
            assert held is expected
        part = tmp_path / "x.npz.4321-1.part"       # somebody may be writing it
        part.write_text("unfinished")
        storage.save(tmp_path / "x.npz", ARRAYS)
        assert list(storage.load(tmp_path / "x.npz")) == list(ARRAYS) and part.exists()


def test_what_killed_processes_left_unfinished_is_removed(tmp_path):
    old, other = tmp_path / "x.npz.4321-1.part", tmp_path / "film.part"
    for path in (old, other):
        path.write_text("unfinished")
    storage.save(tmp_path / "x.npz", ARRAYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.part", "x.npz"]


def test_threads_that_write_the_same_file_do_not_meet(tmp_path):
    path = tmp_path / "x.txt"
    with storage.replacing(path) as file:
        file.write(b"first")
        thread = threading.Thread(target=storage.write_text, args=(path, "second"))
        thread.start()
        thread.join()
        assert path.read_text() == "second" and len(list(tmp_path.iterdir())) == 2
    assert path.read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        storage.load(tmp_path / "x.npz")


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_cut_short(tmp_path, keep):
    path = tmp_path / "x.npz"
    storage.save(path, ARRAYS)
    content = path.read_bytes()
    path.write_bytes(content[:int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="x.npz is damaged"):
        storage.load(path)


def test_noise_anywhere_is_never_taken_for_data(tmp_path):
    path = tmp_path / "x.npz"
    storage.save(path, ARRAYS)
    content = path.read_bytes()
    rng = numpy.random.default_rng(0)
    for _ in range(200):
        start = int(rng.integers(0, len(content)))
        noisy = bytearray(content)
        noisy[start:start + 40] = rng.bytes(len(noisy[start:start + 40]))
        path.write_bytes(noisy)
        try:
            found = storage.load(path)
        except ValueError as error:
            assert "x.npz is damaged" in str(error)
        else:       # only where it does not matter
            assert all((found[k] == v).all() for k, v in ARRAYS.items())


def with_method(content, method):
    """The archive with another number as the method that its first member is compressed by."""
    local, listed = content.index(b"PK\3\4"), content.index(b"PK\1\2")
    number = method.to_bytes(2, "little")
    return content[:local + 8] + number + content[local + 10:listed + 10] + number + content[listed + 12:]


@pytest.mark.parametrize("damage", [
    *[lambda b, n=n: b[n:] for n in range(60, 240, 20)], lambda b: with_method(b, zipfile.ZIP_BZIP2),
    lambda b: with_method(b, zipfile.ZIP_LZMA), lambda b: with_method(b, 99)])
def test_what_the_reader_takes_for_an_error_of_the_disk_is_damage(tmp_path, damage):
    """It looks for a place before the beginning of the file; a decompressor finds no beginning."""
    path = tmp_path / "x.npz"
    storage.save(path, ARRAYS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="x.npz is damaged"):
        storage.load(path)


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    numpy.savez(path, a=numpy.array([{}], dtype=object))
    with pytest.raises(ValueError, match="x.npz is damaged"):
        storage.load(path)
    with pytest.raises(ValueError, match="x.npz: an array of numbers expected for b, NoneType found"):
        storage.save(path, {"b": None})


def member(content, name="a.npy"):
    """A zip archive with this member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def npy(header, content=b""):
    return member(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content)


def bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(1 << 24))
    return file.getvalue()


def header(descr, shape):
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()


@pytest.mark.parametrize("content, message", [
    (npy(header("<f4", (10 ** 12,))), "not the bytes of an array"),
    (npy(header("<f4", (2,)), bytes(7)), "not the bytes of an array"),
    (npy(header("|O", (1,)), bytes(8)), "not the bytes of an array"),
    (npy(b"{'descr': '<f4'}\n"), "keys"), (member(b"text"), "magic"), (bomb(), "larger than the file")])
def test_what_claims_more_than_it_holds_is_damaged(tmp_path, content, message):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"x.npz is damaged: .*{message}"):
        storage.load(path)


def test_regular_files_only(tmp_path):
    path = tmp_path / "x.npz"
    for make in (os.mkfifo, os.mkdir):
        make(path)
        with pytest.raises(ValueError, match="x.npz is damaged: a regular file expected"):
            storage.load(path)
        with pytest.raises(OSError, match="a regular file expected: '.*x.npz'"):
            storage.read(path)
        (os.unlink if make is os.mkfifo else os.rmdir)(path)


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    storage.save(tmp_path / "x.npz", ARRAYS)

    def short(*args, **options):
        raise MemoryError
    monkeypatch.setattr("numpy.array", short)
    with pytest.raises(MemoryError):
        storage.load(tmp_path / "x.npz")


def test_arrays_of_every_order_and_byte_order_come_back(tmp_path):
    arrays = {"f": numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)), "b": numpy.arange(3, dtype=">i2"),
              "u": numpy.array("text \xe9"), "t": numpy.array([True, False])}
    storage.save(tmp_path / "x.npz", arrays)
    for name, array in storage.load(tmp_path / "x.npz").items():
        assert (array == arrays[name]).all() and array.dtype == arrays[name].dtype and array.flags.writeable


@pytest.mark.parametrize("platform, variables, expected", [
    ("linux", {"MINIGEN_CACHE": "/chosen", "XDG_CACHE_HOME": "/xdg"}, "/chosen"),
    ("linux", {"MINIGEN_CACHE": "~/chosen", "HOME": "/me"}, "/me/chosen"),
    ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/minigen"), ("linux", {"HOME": "/me"}, "/me/.cache/minigen"),
    ("linux", {"XDG_CACHE_HOME": "", "HOME": "/me"}, "/me/.cache/minigen"),
    ("linux", {"XDG_CACHE_HOME": "~/x", "HOME": "/me"}, "/me/x/minigen"),
    ("darwin", {"HOME": "/me"}, "/me/Library/Caches/minigen"),
    ("win32", {"LOCALAPPDATA": "/local"}, "/local/minigen")])
def test_cache_folder(monkeypatch, platform, variables, expected):
    for name in ("MINIGEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert storage.cache_folder().as_posix() == expected


@pytest.fixture
def no_home(monkeypatch):
    """A user id without an entry among the users, and no HOME."""
    def unknown(uid):
        raise KeyError(uid)
    for name in ("HOME", "MINIGEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_the_cache_folder_of_a_user_without_a_home(no_home, monkeypatch):
    assert storage.cache_folder().as_posix() == f"{tempfile.gettempdir()}/minigen-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert storage.cache_folder().as_posix() == "/xdg/minigen"


def test_an_empty_path_is_not_the_current_folder():
    with pytest.raises(FileNotFoundError, match="Run: a path expected: ''"):
        storage.expand("Run", "")
    assert storage.expand("Run", ".").as_posix() == "."


def test_a_path_in_the_home_of_a_user_without_one(no_home, monkeypatch):
    with pytest.raises(FileNotFoundError, match="Run: no home folder is known: '~/x'"):
        storage.expand("Run", "~/x")
    assert storage.expand("Run", "x/~").as_posix() == "x/~"
    monkeypatch.setenv("MINIGEN_CACHE", "~/x")
    with pytest.raises(FileNotFoundError, match="MINIGEN_CACHE: no home folder is known: '~/x'"):
        storage.cache_folder()


@pytest.mark.parametrize("call, owner", [
    (training.Run, "Run"), (training.load, "Run"), (datasets.mnist, "mnist"), (datasets.celeba, "celeba"),
    (datasets.folder, "folder"), (datasets.photographs, "photographs")])
def test_what_is_no_path_is_refused_by_name(call, owner):
    for wrong in (5, b"x", ["x"]):
        with pytest.raises(TypeError, match=f"^{owner}: a path expected, {type(wrong).__name__} found$"):
            call(wrong)
    with pytest.raises(ValueError, match=f"^{owner}: a path without null characters expected, .* found$"):
        call("a\0b")
