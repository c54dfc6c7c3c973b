"""Pictures are decoded as documented, and their cache is written whole, checked, and made once."""

import importlib
import io
import multiprocessing
import os
import struct
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from PIL import Image

from minigen import datasets, storage
from minigen.datasets import pictures

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(content, side=8, channels=3):
    pixels = pictures.decoded(content, (side, side, channels), None)
    return numpy.frombuffer(pixels, "uint8").reshape(side, side, channels)


def quarters():
    """Four quarters of different greys, from the top left to the bottom right."""
    return numpy.array([[0, 80], [160, 240]], "uint8").repeat(8, axis=0).repeat(8, axis=1)


@pytest.mark.parametrize("orientation, expected", [
    (1, [[0, 80], [160, 240]]), (2, [[80, 0], [240, 160]]), (3, [[240, 160], [80, 0]]),
    (4, [[160, 240], [0, 80]]), (5, [[0, 160], [80, 240]]), (6, [[160, 0], [240, 80]]),
    (7, [[240, 80], [160, 0]]), (8, [[80, 240], [0, 160]])])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_in_a_picture_is_respected(orientation, expected, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decoded(encoded(Image.fromarray(quarters()), kind, exif=exif), side=16, channels=1)
    assert abs(found[4::8, 4::8, 0].astype(int) - expected).max() <= 3


def transparent(mode):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))           # a colour that must not show
    image.paste((10, 20, 30, 255), (0, 0, 8, 4))
    return image.convert(mode)


def palette():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([200, 0, 0, 10, 20, 30])
    return image


@pytest.mark.parametrize("image, above, below", [
    (transparent("RGBA"), (10, 20, 30), (255,) * 3), (transparent("LA"), (18,) * 3, (255,) * 3),
    (Image.new("L", (8, 8), 77), (77,) * 3, (77,) * 3), (Image.new("1", (8, 8), 1), (255,) * 3, (255,) * 3),
    (Image.fromarray(numpy.full((8, 8), 0x4d99, "uint16")), (0x4d,) * 3, (0x4d,) * 3),
    (palette(), (10, 20, 30), (10, 20, 30)),
], ids=["colour and transparent", "grey and transparent", "grey", "black and white", "16 bits", "palette"])
def test_every_kind_of_pixels(image, above, below):
    found = decoded(encoded(image))
    assert (found[:4] == above).all() and (found[4:] == below).all()


def test_the_first_picture_of_a_gif_and_its_transparency():
    first = palette()
    first.paste(0, (0, 4, 8, 8))
    content = encoded(first, "GIF", save_all=True, append_images=[Image.new("P", (8, 8), 0)], transparency=0)
    found = decoded(content)
    assert (found[:4] == (10, 20, 30)).all() and (found[4:] == 255).all()


def test_printers_colours():
    found = decoded(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"))
    assert abs(found.astype(int) - (0, 255, 255)).max() < 3


def test_small_pictures_are_made_larger():
    assert (decoded(encoded(Image.new("RGB", (1, 1), (9, 8, 7))), 5) == (9, 8, 7)).all()


def header(width, height):
    """The beginning of a PNG of this size."""
    chunk = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
            + struct.pack(">I", 1000) + b"IDAT")


@pytest.mark.parametrize("content, message", [
    (b"", "not a picture in one of the formats JPEG, PNG, WEBP, BMP, GIF"),
    (b"%!PS-Adobe-3.0 EPSF", "not a picture"),
    (encoded(Image.new("RGB", (8, 8)), "TIFF"), "not a picture"),
    (encoded(Image.fromarray(quarters()), "JPEG")[:300], "."),
    (header(7072, 7072), "7072 x 7072 pixels are more than any photograph has"),
    (header(10 ** 6, 10 ** 6), "exceeds limit"), (header(8, 8), ".")])
def test_what_cannot_be_decoded_says_why(content, message):
    with pytest.raises(ValueError, match=message) as error:
        decoded(content)
    assert "object at" not in str(error.value) and str(error.value)


def make(folder, n=20):
    folder.mkdir(exist_ok=True)
    for i in range(n):
        Image.new("RGB", (8, 8), (i, 100, 200)).save(folder / f"{i}.png")
    return folder


def check(data, left=range(20)):
    names = [*data.train_labels, *data.test_labels]
    assert sorted(names) == sorted(f"{i}.png" for i in left)
    for image, name in zip([*data.train_images, *data.test_images], names):
        assert (image == (int(name.removesuffix(".png")), 100, 200)).all()


def test_the_second_time_nothing_is_decoded(tmp_path, monkeypatch):
    first = datasets.folder(make(tmp_path / "x"), 8)
    monkeypatch.setattr(pictures, "decoded", None)
    second = datasets.folder(tmp_path / "x", 8)
    check(second)
    assert all((one == other).all() for one, other in zip(first, second))
    assert isinstance(second.train_images, numpy.memmap) and not second.train_images.flags.writeable


def test_each_shape_has_its_own_cache(tmp_path, cache):
    make(tmp_path / "x")
    for size, channels in ((8, 3), (8, 1), (4, 3)):
        assert datasets.folder(tmp_path / "x", size, channels).image_shape == (size, size, channels)
    check(datasets.folder(tmp_path / "x", numpy.int64(8)))
    assert len(list(cache.glob("*.bin"))) == 3


def test_pictures_that_are_replaced_by_others_of_the_same_size_and_date_are_read_again(tmp_path):
    """As by cp -p from another folder."""
    for i in (7, 8):
        folder = make(tmp_path / "x") if i == 7 else tmp_path / "x"
        Image.new("RGB", (8, 8), (i, 100, 200)).save(folder / "7.bmp")
        os.utime(folder / "7.bmp", ns=(1, 1))
        data = datasets.folder(folder, 8)
        image, = (image for image, name in zip([*data.train_images, *data.test_images],
                                               [*data.train_labels, *data.test_labels]) if name == "7.bmp")
        assert (image == (i, 100, 200)).all()


PIXELS = 20 * 8 * 8 * 3
SPOILT = {
    "empty": lambda content: b"",
    "short": lambda content: content[:5],
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"?",
    "zeros": lambda content: bytes(len(content)),
    "8 zeros": lambda content: bytes(8),
    "12 zeros": lambda content: bytes(12),
    "black pixels": lambda content: bytes(PIXELS) + content[PIXELS:],
    "one bit": lambda content: content[:99] + bytes([content[99] ^ 4]) + content[100:],
    "no index": lambda content: content[:PIXELS] + bytes(len(content) - PIXELS),
    "another index": lambda content: content.replace(b"1.png", b"x.png"),
    "a list as index": lambda content: content.replace(b'{"names"', b'["names"'),
    "length of the index": lambda content: content[:-8] + b"\xff" + content[-7:],
}


def test_a_cache_that_ends_in_zeros_is_made_again_unread(tmp_path, cache):
    datasets.folder(make(tmp_path / "x"), 8)
    path, = cache.glob("*.bin")
    os.truncate(path, 20 << 30)
    with pytest.warns(UserWarning, match="is damaged: it is made again"):
        check(datasets.folder(tmp_path / "x", 8))


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_cache_is_made_again_with_one_line(tmp_path, cache, spoil):
    datasets.folder(make(tmp_path / "x"), 8)
    path, = cache.glob("*.bin")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.warns(UserWarning, match=f"{path} is damaged: it is made again") as found:
        check(datasets.folder(tmp_path / "x", 8))
    assert len(found) == 1 and found[0].filename == __file__
    check(datasets.folder(tmp_path / "x", 8))


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error"),
                                   MemoryError()], ids=["permission", "disk", "memory"])
def test_a_picture_that_cannot_be_read_now_is_not_remembered_as_damaged(tmp_path, cache, monkeypatch, error):
    make(tmp_path / "x")
    original = pictures.files.read

    def read(path, most):
        if path.name == "7.png":
            with storage.naming(path):
                raise error
        return original(path, most)
    with monkeypatch.context() as patch:
        patch.setattr(pictures.files, "read", read)
        with pytest.raises(type(error)) as found:
            datasets.folder(tmp_path / "x", 8)
        assert "7.png" in str(found.value) or isinstance(error, MemoryError)
    assert not list(cache.glob("*.bin")) and not list(cache.glob("*.part"))
    check(datasets.folder(tmp_path / "x", 8))


def test_a_damaged_picture_counts_again_once_it_is_mended(tmp_path):
    good = (make(tmp_path / "x") / "7.png").read_bytes()
    (tmp_path / "x" / "7.png").write_bytes(good[:50])
    (tmp_path / "x" / "8.png").write_bytes(header(9500, 9500))      # of which Pillow would warn
    for _ in range(2):
        with pytest.warns(UserWarning, match="x: 2 of 20 images cannot be read and are left out "
                                             r"\(7.png: .*; 8.png: 9500 x 9500 pixels are more .*\)"):
            check(datasets.folder(tmp_path / "x", 8), sorted({*range(20)} - {7, 8}))
    (tmp_path / "x" / "7.png").write_bytes(good)
    with pytest.warns(UserWarning, match=r"1 of 20 images .*\(8.png"):
        check(datasets.folder(tmp_path / "x", 8), sorted({*range(20)} - {8}))


def test_too_large_a_file_is_not_read(tmp_path):
    with open(make(tmp_path / "x") / "8.png", "r+b") as file:
        file.truncate(20 << 30)
    with pytest.warns(UserWarning, match="8.png: .*at most 67,108,864 bytes expected, 21,474,836,480 found"):
        check(datasets.folder(tmp_path / "x", 8), sorted({*range(20)} - {8}))


def test_if_all_are_damaged_there_is_nothing_to_learn_from(tmp_path):
    for path in make(tmp_path / "x").iterdir():
        path.write_bytes(b"noise")
    with (pytest.warns(UserWarning, match=r"20 of 20 images .*; \.\.\.\)"),
          pytest.raises(ValueError, match="x: no readable image for training among 20 images")):
        datasets.folder(tmp_path / "x", 8)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_leaves_nothing_that_is_taken_for_the_whole(tmp_path, cache, monkeypatch, error):
    make(tmp_path / "x")
    with monkeypatch.context() as patch:
        original = pictures._decoded

        def interrupted(*args):
            for i, item in enumerate(original(*args)):
                if i == 7:
                    raise error
                yield item
        patch.setattr(pictures, "_decoded", interrupted)
        with pytest.raises((KeyboardInterrupt, OSError)):
            datasets.folder(tmp_path / "x", 8)
    assert not list(cache.glob("*.bin")) and not list(cache.glob("*.part"))
    check(datasets.folder(tmp_path / "x", 8))


def die(folder, cache, image):
    """Make a cache up to this image, and no further."""
    os.environ["MINIGEN_CACHE"] = str(cache)
    original = pictures.Folder.read

    def read(self, name):
        if name == image:
            os._exit(3)
        return original(self, name)
    pictures.Folder.read = read
    datasets.folder(folder, 8)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, cache):
    process = SPAWN.Process(target=die, args=(make(tmp_path / "x"), cache, "9.png"))
    process.start()
    process.join()
    assert process.exitcode == 3 and len(list(cache.glob("*.part"))) == 1
    check(datasets.folder(tmp_path / "x", 8))
    assert not list(cache.glob("*.part")) and len(list(cache.glob("*.bin"))) == 1


def test_threads_make_it_once(tmp_path, cache, monkeypatch):
    make(tmp_path / "x")
    original, built, start = pictures._build, [], threading.Barrier(3)

    def build(*args):
        built.append(args)
        return original(*args)

    def work(_):
        start.wait()
        return datasets.folder(tmp_path / "x", 8)
    monkeypatch.setattr(pictures, "_build", build)
    with ThreadPoolExecutor(3) as pool:
        for data in pool.map(work, range(3)):
            check(data)
    assert len(built) == 1


def load(folder, cache):
    os.environ["MINIGEN_CACHE"] = str(cache)
    check(datasets.folder(folder, 8))


def test_processes_do_not_disturb_each_other(tmp_path, cache):
    make(tmp_path / "x")
    processes = [SPAWN.Process(target=load, args=(tmp_path / "x", cache)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(cache.glob("*.bin"))) == 1 and not list(cache.glob("*.part"))


def test_few_pictures_are_in_memory_at_once(tmp_path, monkeypatch, at_once):
    alive, most = [0], [0]
    original = pictures.decoded

    def counted(*args):
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        return original(*args)
    monkeypatch.setattr(pictures, "decoded", counted)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(pictures, "ThreadPoolExecutor", at_once)
    names = [f"{i}.png" for i in range(60)]
    source = pictures.Folder(make(tmp_path / "x", 60), names)
    for _ in pictures._decoded(source, names, (8, 8, 3), None):
        alive[0] -= 1
    assert most[0] == 9         # 8 for the one processor, and the one in use


def test_a_large_cache_is_checked_a_little_at_a_time(tmp_path, cache):
    datasets.folder(make(tmp_path / "x"), 1024)         # 60 MB
    tracemalloc.start()
    try:
        datasets.folder(tmp_path / "x", 1024)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_without_a_terminal_and_standard_error(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("sys"), "stderr", None)
    check(datasets.folder(make(tmp_path / "x"), 8))
