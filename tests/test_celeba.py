"""CelebA's reader on a small data set laid out like it."""

import importlib
import io
import json
import os
import warnings
import zipfile

import numpy
import pytest
from PIL import Image

from minigen import datasets, storage

reader = importlib.import_module("minigen.datasets.celeba")       # not the function of the same name
N = 20
NAMES = [f"{i:06d}.jpg" for i in range(1, N + 1)]


def jpeg(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


def photograph(i, width=178, height=218):
    """Colours that tell i and the place in the picture."""
    rows, columns = numpy.mgrid[:height, :width]
    y, x = (rows + 0.5) / height * 218, (columns + 0.5) / width * 178
    picture = numpy.stack([1.2 * (y - 40) + 3 * i] + 2 * [1.2 * (x - 15) + 3 * i], axis=2)
    return picture.clip(0, 255).astype("uint8")


def expected(i, side=64):
    """The middle of the picture that ``photograph`` draws, pixel by pixel."""
    places = (numpy.arange(side) + 0.5) / side * 148
    y, x = places[:, None] + 40, places[None, :] + 15
    return numpy.stack(numpy.broadcast_arrays(1.2 * (y - 40) + 3 * i, *2 * [1.2 * (x - 15) + 3 * i]), axis=2)


def assert_close(image, i, side=64):
    """The image shows ``photograph(i)``, less than half a pixel out of place everywhere: 1.2 times that in
    brightness."""
    # The conversion to whole numbers cut off a half on average.
    difference = image + 0.5 - expected(i, side)
    assert (abs(difference.mean(axis=(0, 1))) < 0.3).all(), i
    assert abs(difference).max() < 3, i


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def contents():
    return {name: jpeg(photograph(i)) for i, name in enumerate(NAMES)}


def make_folder(folder, contents, partition=None, at=""):
    (folder / at).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / at / name).write_bytes(content)
    if partition:
        (folder / reader.PARTITION).write_bytes(partition)
    return folder


def make_zip(path, contents, prefix="img_align_celeba/"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(prefix + name, content)
    return path


def partition(parts):
    """CelebA's file, with the line ends that it has; two numbers of images that are not there in it as
    well."""
    lines = [f"{name} {part}" for name, part in zip(NAMES, parts)] + ["999998.jpg 1", "999999.jpg 2"]
    return "".join(line + "\r\n" for line in lines).encode()


def check(data, train, test):
    assert data.train_labels.tolist() == [NAMES[i] for i in train]
    assert data.test_labels.tolist() == [NAMES[i] for i in test]
    for images, which in ((data.train_images, train), (data.test_images, test)):
        assert images.shape == (len(which), 64, 64, 3) and images.dtype == "uint8"
        for image, i in zip(images, which):
            assert_close(image, i)
    assert isinstance(data.train_images, numpy.memmap) and not data.train_images.flags.writeable


def test_every_layout(contents, tmp_path):
    everything = (range(16), range(18, 20))
    check(datasets.celeba(make_folder(tmp_path / "a", contents)), *everything)
    check(datasets.celeba(make_folder(tmp_path / "b", contents, at="img_align_celeba")), *everything)
    archive = make_zip(tmp_path / "c" / "img_align_celeba.zip", contents)
    check(datasets.celeba(archive), *everything)
    check(datasets.celeba(tmp_path / "c"), *everything)
    check(datasets.celeba(str(make_zip(tmp_path / "faces.zip", contents, prefix=""))), *everything)


@pytest.mark.parametrize("where", ["beside", "in the archive", "beside the folder", "in the folder", "Eval"])
def test_the_partition(contents, tmp_path, where):
    parts = [2, 0, 1] * 6 + [0, 2]
    train, test = ([i for i, part in enumerate(parts) if part == number] for number in (0, 2))
    if where == "in the archive":
        source = make_zip(tmp_path / "c.zip", {**contents, reader.PARTITION: partition(parts)})
    elif where == "beside":
        source = make_zip(tmp_path / "c.zip", contents)
        (tmp_path / reader.PARTITION).write_bytes(partition(parts))
    elif where == "Eval":
        source = make_folder(tmp_path / "c" / "img_align_celeba", contents)
        make_folder(tmp_path / "c" / "Eval", {}, partition(parts))
    else:
        source = make_folder(tmp_path / "c", contents, partition(parts),
                             "" if where == "in the folder" else "img_align_celeba")
    check(datasets.celeba(source), train, test)


@pytest.mark.parametrize("lines, message", [
    (b"000001.jpg 0\r\n000002.jpg\r\n",
     r"partition.txt, line 2: a name and 0, 1 or 2, .* expected, '000002.jpg' found"),
    (b"000001.jpg 3\n", r"line 1: .* '000001.jpg 3' found"), (b"\xff\xfe\x00", "line 1: "),
    (b"000001.jpg 0\n000003.jpg 0\n", "18 of the 20 images are not in it, the first of them 000002.jpg")])
def test_an_invalid_partition_is_refused(contents, tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        datasets.celeba(make_folder(tmp_path / "c", contents, lines))


def test_other_sizes_are_cut_by_proportion(tmp_path):
    contents = {name: jpeg(photograph(i, 267, 436)) for i, name in enumerate(NAMES)}
    check(datasets.celeba(make_folder(tmp_path / "c", contents)), range(16), range(18, 20))
    small = datasets.celeba(tmp_path / "c", side=16).train_images
    assert small.shape == (16, 16, 16, 3)
    assert_close(small[3], 3, 16)


def test_making_smaller_does_not_alias(tmp_path):
    stripes = numpy.zeros((218, 178, 3), "uint8")
    stripes[::2] = 255      # picking every other row would find them all black or all white
    images = datasets.celeba(make_folder(tmp_path / "c", dict.fromkeys(NAMES, jpeg(stripes)))).train_images
    assert abs(images.astype(float) - 127.5).max() < 30


def test_grey_photographs_have_three_channels(tmp_path):
    grey = jpeg(numpy.full((218, 178), 77, "uint8"))
    assert (datasets.celeba(make_folder(tmp_path / "c", dict.fromkeys(NAMES, grey))).train_images == 77).all()


def test_the_second_time_nothing_is_decoded(contents, tmp_path, monkeypatch):
    source = make_zip(tmp_path / "c.zip", contents)
    first = datasets.celeba(source)
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_face", None)
        second = datasets.celeba(source)
    assert all((one == other).all() for one, other in zip(first, second))


def test_a_cache_that_lost_its_end_is_made_again(contents, tmp_path, cache):
    source = make_zip(tmp_path / "c.zip", contents)
    datasets.celeba(source)
    os.truncate(next(cache.glob("*.bin")), 5000)
    check(datasets.celeba(source), range(16), range(18, 20))


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_a_changed_source_is_read_again(contents, tmp_path, kind):
    def make(contents):
        if kind == "zip":
            return make_zip(tmp_path / "c.zip", contents)
        return make_folder(tmp_path / "c", contents)
    source = make(contents)
    before = datasets.celeba(source).train_images[0].copy()
    make({**contents, NAMES[0]: jpeg(photograph(9))})
    os.utime(source if kind == "zip" else source / NAMES[0], ns=(1, 1))
    after = datasets.celeba(source).train_images[0]
    assert (before != after).any()
    assert_close(after, 9)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_leaves_nothing_that_is_taken_for_the_whole(contents, tmp_path, cache, monkeypatch,
                                                                    error):
    source = make_folder(tmp_path / "c", contents)
    count = iter(range(N))
    with monkeypatch.context() as patch:
        original = reader._decoded

        def interrupted(*args):
            for item in original(*args):
                if next(count) == 7:
                    raise error
                yield item
        patch.setattr(reader, "_decoded", interrupted)
        with pytest.raises((KeyboardInterrupt, OSError)):
            datasets.celeba(source)
    assert not list(cache.iterdir())
    with monkeypatch.context() as patch:            # between the two files
        patch.setattr(storage, "write_text", lambda *args: (_ for _ in ()).throw(error))
        with pytest.raises((KeyboardInterrupt, OSError)):
            datasets.celeba(source)
    check(datasets.celeba(source), range(16), range(18, 20))


def test_damaged_images_are_counted_named_and_left_out(contents, tmp_path):
    png = io.BytesIO()
    Image.new("RGB", (178, 218)).save(png, "PNG")
    damaged = {
        NAMES[0]: contents[NAMES[0]][:300], NAMES[3]: b"", NAMES[4]: b"not an image",
        NAMES[5]: png.getvalue(), NAMES[9]: jpeg(numpy.zeros((5000, 4000), "uint8")),
        NAMES[18]: contents[NAMES[18]][:-500]}
    source = make_zip(tmp_path / "c.zip", {**contents, **damaged})
    left = [i for i in range(16) if NAMES[i] not in damaged]
    for _ in range(2):                              # the second time from the cache
        with pytest.warns(UserWarning, match=r"c.zip: 6 of 18 images cannot be read and are left out "
                                             r"\(000001.jpg: .*; \.\.\.\)"):
            data = datasets.celeba(source)
        check(data, left, [19])


def test_too_large_a_file_in_a_folder_is_not_read(contents, tmp_path):
    source = make_folder(tmp_path / "c", contents)
    with open(source / NAMES[0], "r+b") as file:
        file.truncate(20 << 20)
    with pytest.warns(UserWarning,
                      match="1 of 18 images .*000001.jpg: ValueError: 20,971,520 bytes are more than"):
        check(datasets.celeba(source), range(1, 16), range(18, 20))


def test_if_all_are_damaged_there_is_nothing_to_learn_from(tmp_path):
    source = make_folder(tmp_path / "c", dict.fromkeys(NAMES, b"noise"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="no readable image for training among 18 images"):
            datasets.celeba(source)


@pytest.mark.parametrize(
    "member", ["../000001.jpg", "a/../../000001.jpg", "/etc/000001.jpg", "C:/000001.jpg", "..\\000001.jpg"])
def test_members_that_leave_their_folder_are_refused(contents, tmp_path, member):
    source = make_zip(tmp_path / "c.zip", {**contents, member: b"x"}, prefix="")
    with pytest.raises(ValueError, match="the member .* would leave the folder"):
        datasets.celeba(source)


def test_a_zip_bomb_is_refused(contents, tmp_path):
    source = make_zip(tmp_path / "c.zip", {**contents, "000000.jpg": bytes(17 << 20)})
    assert source.stat().st_size < 8 << 20
    with pytest.raises(ValueError, match="'img_align_celeba/000000.jpg' unpacks to 17,825,792 bytes"):
        datasets.celeba(source)


@pytest.mark.parametrize("make, kind, message", [
    (lambda path: path / "missing", FileNotFoundError,
     "no such file or folder: give img_align_celeba.zip .*mmlab.*000001.jpg"),
    (lambda path: make_folder(path / "c", {"readme.txt": b"?"}), FileNotFoundError,
     "no CelebA in this folder: give .*mmlab"),
    (lambda path: make_folder(path, {"c.zip": b"noise"}) / "c.zip", ValueError,
     "c.zip: a zip archive or a folder expected"),
    (lambda path: make_zip(path / "c.zip", {"readme.txt": b"?"}), ValueError,
     "no image 000001.jpg, .* in this archive: give"),
])
def test_anything_but_celeba_is_refused(tmp_path, make, kind, message):
    with pytest.raises(kind, match=message) as found:
        datasets.celeba(make(tmp_path))
    assert "\n" not in str(found.value)


def test_few_images_are_in_memory_at_once(contents, tmp_path, monkeypatch, at_once):
    alive, most = [0], [0]
    original = reader._face

    def counted(content, side):
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        return original(content, side)
    monkeypatch.setattr(reader, "_face", counted)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(reader, "ThreadPoolExecutor", at_once)
    copies = {f"{i:06d}.jpg": contents[NAMES[0]] for i in range(60)}
    source = reader._source(make_folder(tmp_path / "c", copies))
    for _ in reader._decoded(source, source.names, 64):
        alive[0] -= 1
    assert most[0] == 9         # 8 for the one processor, and the one in use


def test_without_a_partition_the_shares_are_celebas():
    source = reader._Folder.__new__(reader._Folder)
    source.path, source.names = reader.Path("/nowhere"), list(range(202_599))
    train, test = reader._parts(source)
    assert (train[0], train[-1], test[0], test[-1]) == (0, 162_769, 182_637, 202_598)


def test_the_cache_is_keyed_and_small(contents, tmp_path, cache):
    source = make_folder(tmp_path / "c", contents)
    datasets.celeba(source)
    datasets.celeba(source, side=8)
    assert sorted(path.stat().st_size for path in cache.glob("*.bin")) == [18 * 8 * 8 * 3, 18 * 64 * 64 * 3]
    assert all(set(json.loads(path.read_text())) == {"names", "damaged"} for path in cache.glob("*.json"))
