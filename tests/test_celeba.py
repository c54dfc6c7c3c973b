"""CelebA's reader on a small data set laid out like it."""

import importlib
import io
import os
import struct
import tracemalloc
import warnings
import zipfile
from contextlib import contextmanager

import numpy
import pytest
from PIL import Image

from minigen import datasets

reader = importlib.import_module("minigen.datasets.celeba")       # not the function of the same name
N = 20
NAMES = [f"{i:06d}.jpg" for i in range(1, N + 1)]


def jpeg(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
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


@contextmanager
def tracing():
    """A function that tells afterwards the most memory that was in use, in bytes."""
    peak = []
    tracemalloc.start()
    try:
        yield lambda: peak[0]
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def make_folder(folder, contents, partition=None, at=""):
    (folder / at).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / at / name).write_bytes(content)
    if partition:
        (folder / reader.PARTITIONS[0]).write_bytes(partition)
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


EVERYTHING = (range(16), range(18, 20))


@pytest.mark.parametrize("at, given", [
    ("", "."), ("img_align_celeba", "."), ("img_align_celeba/img_align_celeba", "."),
    ("celeba/img_align_celeba", "."), ("CelebA/Img/img_align_celeba", "."), ("any", "any")])
def test_every_folder(contents, tmp_path, at, given):
    make_folder(tmp_path / "c", contents, at=at)
    check(datasets.celeba(tmp_path / "c" / given), *EVERYTHING)


@pytest.mark.parametrize("name, given, prefix", [
    ("img_align_celeba.zip", "img_align_celeba.zip", "img_align_celeba/"),
    ("img_align_celeba.zip", ".", "a/"),
    ("CelebA/Img/img_align_celeba.zip", ".", "img_align_celeba/"), ("archive.zip", ".", "a/a/"),
    ("celeba/celeba.zip", "celeba", ""), ("faces.zip", "faces.zip", "")])
def test_every_archive(contents, tmp_path, name, given, prefix):
    make_zip(tmp_path / "c" / name, contents, prefix)
    check(datasets.celeba(str(tmp_path / "c" / given)), *EVERYTHING)


def test_kaggles_archive(contents, tmp_path):
    parts = [0, 1] * 5 + [2] * 10
    lines = ["image_id,partition"] + [f"{name},{part}" for name, part in zip(NAMES, parts)]
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"img_align_celeba/img_align_celeba/{name}", content)
        archive.writestr("list_attr_celeba.csv", bytes(24 << 20))
        archive.writestr("list_eval_partition.csv", "\n".join(lines) + "\n")
        archive.writestr("__MACOSX/img_align_celeba/000001.jpg", b"?")
    check(datasets.celeba(path), range(0, 10, 2), range(10, 20))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    check(datasets.celeba(tmp_path / "unpacked"), range(0, 10, 2), range(10, 20))


@pytest.mark.parametrize("prefix", ["", "celeba/"])
def test_an_archive_in_an_archive(contents, tmp_path, prefix):
    inner = make_zip(tmp_path / "inner.zip", contents).read_bytes()
    parts = [0, 1] * 5 + [2] * 10
    outer = tmp_path / "celeba.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("before", b"x" * 99)
        archive.writestr(f"{prefix}img_align_celeba.zip", inner)
        archive.writestr(f"{prefix}list_eval_partition.txt", partition(parts))
    check(datasets.celeba(outer), range(0, 10, 2), range(10, 20))
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{prefix}img_align_celeba.zip", inner)
    with pytest.raises(ValueError, match=f"unpack it once and give the {prefix}img_align_celeba.zip in it"):
        datasets.celeba(outer)


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png", ".PNG"])
def test_other_suffixes_go_with_the_same_partition(contents, tmp_path, suffix):
    if suffix.lower() == ".png":
        contents = {name: png(photograph(i)) for i, name in enumerate(NAMES)}
    renamed = {name.replace(".jpg", suffix): content for name, content in contents.items()}
    parts = [2, 0, 1] * 6 + [0, 2]
    train, test = ([i for i, part in enumerate(parts) if part == number] for number in (0, 2))
    data = datasets.celeba(make_folder(tmp_path / "c", renamed, partition(parts)))
    assert data.train_labels.tolist() == [NAMES[i].replace(".jpg", suffix) for i in train]
    for image, i in zip(data.test_images, test):
        assert_close(image, i)


def test_too_few_images_are_refused(contents, tmp_path):
    few = {name: contents[name] for name in NAMES[:5]}
    with pytest.raises(ValueError, match="c: images for test expected, none found among the 5 in .*c: "):
        datasets.celeba(make_folder(tmp_path / "c", few))


def test_images_are_in_the_order_of_their_numbers(contents, tmp_path):
    renamed = {name.lstrip("0"): content for name, content in contents.items()}
    data = datasets.celeba(make_folder(tmp_path / "c", renamed))
    assert data.train_labels.tolist() == [f"{i}.jpg" for i in range(1, 17)]


def test_home_is_expanded(contents, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    make_folder(tmp_path / "c", contents)
    check(datasets.celeba("~/c"), *EVERYTHING)


@pytest.mark.parametrize("where", ["beside", "in the archive", "beside the folder", "in the folder", "Eval",
                                   "Eval beside the archive's folder"])
def test_the_partition(contents, tmp_path, where):
    parts = [2, 0, 1] * 6 + [0, 2]
    train, test = ([i for i, part in enumerate(parts) if part == number] for number in (0, 2))
    if where == "in the archive":
        source = make_zip(tmp_path / "c.zip", {**contents, reader.PARTITIONS[0]: partition(parts)})
    elif where == "beside":
        source = make_zip(tmp_path / "c.zip", contents)
        (tmp_path / reader.PARTITIONS[0]).write_bytes(partition(parts))
    elif where == "Eval beside the archive's folder":
        source = make_zip(tmp_path / "CelebA" / "Img" / "c.zip", contents)
        make_folder(tmp_path / "CelebA" / "Eval", {}, partition(parts))
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
    (b"000001.jpg 0\n000003.jpg 0\n", "18 of the 20 images in .* are not in it, the first .* 000002.jpg"),
    (b"000001.jpg 0\n" * 2 + b"000001.jpg 2\n", "line 3: 000001.jpg is in part 2 here, and in part 0 before"),
    (b"000001.jpg 0\n000001.png 1\n", "line 2: 000001.png is in part 1 here"),
    (b"image_id,partition\nimage_id,partition\n", "line 2: .* 'image_id,partition' found"),
    (b"9" * 5000 + b".jpg 0", "line 1: .* '9{80}' found"), ("\u0664.jpg 0".encode(), "line 1: "),
    ("000001.jpg 0".encode("utf-16"), "line 1: "),
    (b"".join(b"%06d.jpg 0\n" % i for i in range(1, 21)),
     "partition.txt: images for test expected, none found among the 20 in .*c: unpack more of them"),
])
def test_an_invalid_partition_is_refused(contents, tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        datasets.celeba(make_folder(tmp_path / "c", contents, lines))


def test_a_partition_in_an_archive_may_be_as_long_as_one_beside_it(contents, tmp_path):
    long = {**contents, reader.PARTITIONS[0]: b"\n" * (5 << 20)}
    with pytest.raises(ValueError, match="partition.txt: at most 4,194,304 bytes expected, 5,242,880 found"):
        datasets.celeba(make_zip(tmp_path / "c.zip", long))


def test_a_partition_that_repeats_itself_is_valid(contents, tmp_path):
    parts = [2, 0, 1] * 6 + [0, 2]
    source = make_folder(tmp_path / "c", contents, b"\xef\xbb\xbf" + 2 * partition(parts))
    assert len(datasets.celeba(source).train_images) == 7


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


def test_damaged_images_are_counted_named_and_left_out(contents, tmp_path):
    damaged = {NAMES[0]: contents[NAMES[0]][:300], NAMES[3]: b"", NAMES[4]: b"not an image",
               NAMES[18]: contents[NAMES[18]][:-500]}
    source = make_zip(tmp_path / "c.zip", {**contents, **damaged})
    left = [i for i in range(16) if NAMES[i] not in damaged]
    for _ in range(2):                              # the second time from the cache
        with pytest.warns(UserWarning, match=r"c.zip: 4 of 18 images cannot be read and are left out "
                                             r"\(000001.jpg: .*; 000019.jpg: .*truncated.*\)") as found:
            data = datasets.celeba(source)
        check(data, left, [19])
        assert "object at" not in str(found[0].message) and found[0].filename == __file__


@pytest.mark.parametrize("spoil, message", [
    (lambda content: content.replace(b"\xff\xd8", b"\xff\xd9", 1), "1 of 18 .*000001.jpg: Bad CRC-32"),
    (lambda content: content.replace(b"img_align_celeba/000001", b"img_align_celeba/00000x", 1),
     "1 of 18 .*000001.jpg: File name in directory")])
def test_a_damaged_member_is_left_out(contents, tmp_path, spoil, message):
    source = tmp_path / "c.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"img_align_celeba/{name}", content)
    source.write_bytes(spoil(source.read_bytes()))
    with pytest.warns(UserWarning, match=message):
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


def central(content, changes):
    """The archive with these bytes, by their place, in the entry of its first member in the list at its
    end."""
    content = bytearray(content)
    at = content.index(b"PK\1\2")
    for place, value in changes.items():
        content[at + place:at + place + len(value)] = value
    return bytes(content)


LARGE = struct.pack("<I", 17 << 20)


@pytest.mark.parametrize("changes, message", [
    ({8: b"\1"}, "the member 'img_align_celeba/000001.jpg' is encrypted: unpack it"),
    ({10: b"\x63"}, "the member 'img_align_celeba/000001.jpg' is compressed by method 99, not by deflate"),
    ({10: b"\x0e"}, "compressed by method 14"), ({6: b"\xff"}, "a zip archive or a folder expected: "),
    ({9: b"\x08", 46: b"\xff"}, "a zip archive or a folder expected: 'utf-8' codec"),
    ({24: LARGE}, "'img_align_celeba/000001.jpg' unpacks to 17,825,792 bytes"),
    ({20: LARGE}, "'img_align_celeba/000001.jpg' unpacks to "),
])
def test_a_member_that_cannot_be_read_is_refused(contents, tmp_path, changes, message):
    source = make_zip(tmp_path / "c.zip", contents)
    source.write_bytes(central(source.read_bytes(), changes))
    with pytest.raises(ValueError, match=f"c.zip: .*{message}"):
        datasets.celeba(source)


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(contents, tmp_path):
    source = make_zip(tmp_path / "c.zip", {"000000.jpg": bytes(16 << 20), **contents}, prefix="")
    source.write_bytes(central(source.read_bytes(), {24: struct.pack("<I", 10_000)}))
    with tracing() as traced, pytest.warns(UserWarning, match="1 of 19 images .*000000.jpg: Bad CRC-32"):
        datasets.celeba(source)
    assert traced() < 8 << 20


@pytest.mark.parametrize("spoil, message", [
    (lambda content: content.replace(b"000001.jpg 0", b"000001.jpg 1"), "Bad CRC-32"),
    (lambda content: content.replace(b"list_eval", b"list_EVAL", 1), "File name in directory")])
def test_a_damaged_partition_in_an_archive_is_refused(contents, tmp_path, spoil, message):
    source = tmp_path / "c.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr(reader.PARTITIONS[0], partition([0] * 20))
        for name, content in contents.items():
            archive.writestr(name, content)
    source.write_bytes(spoil(source.read_bytes()))
    with pytest.raises(ValueError, match=f"c.zip: list_eval_partition.txt: {message}"):
        datasets.celeba(source)


def moved(content):
    """The archive with members that seem to begin 50 bytes earlier: the first before the archive does."""
    at = len(content) - 22 + 16
    return content[:at] + struct.pack("<I", struct.unpack_from("<I", content, at)[0] + 50) + content[at + 4:]


def test_a_member_that_begins_before_the_archive_is_damaged(contents, tmp_path):
    source = make_zip(tmp_path / "c.zip", contents)
    inner = source.read_bytes()
    source.write_bytes(moved(inner))
    with (pytest.warns(UserWarning, match="000001.jpg: it begins before the archive does"),
          pytest.raises(ValueError, match="c.zip: no readable image for training among 18 images")):
        datasets.celeba(source)
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("img_align_celeba.zip", inner)
    source.write_bytes(moved(source.read_bytes()))
    with pytest.raises(ValueError, match="c.zip: the member 'img_align_celeba.zip' begins before"):
        datasets.celeba(source)


@pytest.mark.parametrize("members, message", [
    (["a/000001.jpg", "b/000001.jpg"], "one member 000001.jpg expected, 'b/000001.jpg' and 'a/000001.jpg'"),
    (["000001.jpg", "000001.PNG"], "one image with the number 1 expected, 000001.PNG and 000001.jpg found"),
    (["000001.jpg", "1.jpg"], "number 1 expected, 000001.jpg and 1.jpg found")])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_a_number_twice_is_refused(contents, tmp_path, members, message, kind):
    images = dict.fromkeys(members, contents[NAMES[0]])
    if kind == "folder" and "/" not in members[0]:
        source = make_folder(tmp_path / "c", images)
    else:
        source = make_zip(tmp_path / "c.zip", images, prefix="")
    with pytest.raises(ValueError, match=message):
        datasets.celeba(source)


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(20 << 30)


def endless_list(path):
    """An archive whose list of members is 3 GB long, as it says."""
    with open(path, "wb") as file:
        file.truncate(3 << 30)
        file.seek(3 << 30)
        file.write(b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 9, 9, 3 << 30, 0, 0))


def long_list(path):
    """An archive whose list has the same member 300,001 times."""
    n, member = 300_001, b"PK\1\2" + struct.pack("<4B4HL2L5H2L", 20, 0, 20, *[0] * 15)
    with open(path, "wb") as file:
        file.write(n * member)
        file.write(b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, n, n, n * len(member), 0))
        file.write(b"PK\6\7" + struct.pack("<LQL", 0, n * len(member), 1))
        file.write(b"PK\5\6" + struct.pack("<4H2LH", 0, 0, *[0xffff] * 2, *[0xffffffff] * 2, 0))


@pytest.mark.parametrize("make, message", [
    (os.mkfifo, "a regular file expected, a FIFO found"), (sparse, "a zip archive or a folder expected"),
    (lambda path: path.symlink_to("/dev/zero"), "a regular file expected, a device found"),
    (endless_list, "a list of at most 33,554,432 bytes expected, 3,221,225,472 found"),
    (long_list, "at most 300,000 members expected, 300,001 found"),
    (lambda path: path.write_bytes(b""), "a zip archive or a folder expected: File is not a zip file"),
    (lambda path: path.write_bytes(b"PK\5\6" + b"\xff" * 18), "a zip archive or a folder expected"),
    (lambda path: path.write_bytes(b"PK\5\6" + bytes(18)), "no image 000001.jpg, .* in this archive"),
])
def test_what_has_no_end_is_refused_unread(tmp_path, make, message):
    make(tmp_path / "c.zip")
    with tracing() as traced, pytest.raises(ValueError, match=f"c.zip: .*{message}"):
        datasets.celeba(tmp_path / "c.zip")
    assert traced() < 32 << 20


@pytest.mark.parametrize("make, message", [
    (os.mkfifo, "a regular file expected, a FIFO found"),
    (sparse, "at most 4,194,304 bytes expected, 21,474,836,480 found"),
    (os.mkdir, "a regular file expected, a folder found")])
@pytest.mark.parametrize("name", ["list_eval_partition.txt", "list_eval_partition.csv"])
def test_a_partition_that_has_no_end_is_refused_unread(contents, tmp_path, make, message, name):
    make(make_folder(tmp_path / "c", contents) / name)
    with tracing() as traced, pytest.raises(ValueError, match=f"{name}: {message}"):
        datasets.celeba(tmp_path / "c")
    assert traced() < 1 << 20


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


def test_without_a_partition_the_shares_are_celebas():
    train, test = reader._parts("nowhere", dict(enumerate(range(202_599))), None)
    assert (train[0], train[-1], test[0], test[-1]) == (0, 162_769, 182_637, 202_598)
