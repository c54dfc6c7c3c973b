"""Arrays on the disk: whole or not at all."""

import os

import numpy
import pytest

from minigen import storage

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
    monkeypatch.setattr("os.fsync", lambda number: done.append(("fsync", os.fstat(number).st_size)))
    monkeypatch.setattr("os.replace", lambda part, whole: (
        done.append(("replace", part.stat().st_size)), replace(part, whole)))
    storage.write_text(path, "twelve bytes")
    assert done == [("fsync", 12), ("replace", 12)] and path.read_text() == "twelve bytes"


def test_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "x.txt"
    storage.write_text(path, "old \N{EN DASH}\n")
    monkeypatch.setattr("os.replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        storage.write_text(path, "new")
    assert path.read_text("utf-8") == "old \N{EN DASH}\n" and len(list(path.parent.iterdir())) == 1


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


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    numpy.savez(path, a=numpy.array([{}], dtype=object))
    with pytest.raises(ValueError, match="x.npz is damaged"):
        storage.load(path)


@pytest.mark.parametrize("platform, variables, expected", [
    ("linux", {"MINIGEN_CACHE": "/chosen", "XDG_CACHE_HOME": "/xdg"}, "/chosen"),
    ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/minigen"), ("linux", {"HOME": "/me"}, "/me/.cache/minigen"),
    ("darwin", {"HOME": "/me"}, "/me/Library/Caches/minigen"),
    ("win32", {"LOCALAPPDATA": "/local"}, "/local/minigen")])
def test_cache_folder(monkeypatch, platform, variables, expected):
    for name in ("MINIGEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert storage.cache_folder().as_posix() == expected
