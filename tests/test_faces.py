"""The drawn faces: the same for ever, true to their factors, and whole."""

import math
import zlib

import numpy
import pytest

from minigen import datasets
from minigen.datasets.faces import AMOUNTS, FACTORS, HAIR_STYLES, SHAPES, draw, sample_factors

PLAIN = {"skin": 0.2, "hair_colour": 0.1, "smile": 0.5, "background": 0.6, "light_strength": 0.5,
         "mouth_open": 0.5}


def plain(n=1, style="cropped", **changed):
    factors = numpy.zeros(n, FACTORS)
    for name, value in {**PLAIN, "hair_style": HAIR_STYLES.index(style), **changed}.items():
        factors[name] = value
    return factors


def with_(factors, **changed):
    factors = factors.copy()
    for name, value in changed.items():
        factors[name] = value
    return factors


def difference(a, b):
    """The largest change of a pixel's three colours, (N, H, W)."""
    return abs(draw(a).astype(int) - draw(b)).max(axis=3)


def difference_of(factors, name, low=0, high=1):
    return difference(with_(factors, **{name: low}), with_(factors, **{name: high}))


def irises(factors):
    """Where the colour of the eyes shows, (N, 64, 64)."""
    return difference_of(factors, "eye_colour", 0, 0.8) > 12


def centre(mask):
    return numpy.argwhere(mask).mean(axis=0)[::-1] + 0.5


def pieces(mask, least):
    """The number of connected parts of ``mask`` with at least ``least`` pixels."""
    left, count = {tuple(at) for at in numpy.argwhere(mask)}, 0
    while left:
        todo, size = [left.pop()], 0
        while todo:
            row, column = todo.pop()
            size += 1
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        count += size >= least
    return count


def test_a_data_set():
    data = datasets.faces(n_train=70, n_test=9, seed=4)
    assert [a.shape for a in data] == [(70, 64, 64, 3), (70,), (9, 64, 64, 3), (9,)]
    assert [a.dtype for a in data] == [numpy.uint8, FACTORS] * 2
    assert (draw(data.train_labels) == data.train_images).all()
    assert (draw(data.test_labels) == data.test_images).all()
    assert datasets.faces(1, 1, side=32).test_images.shape == (1, 32, 32, 3)


def test_an_image_depends_on_seed_and_number_alone():
    data, again, fewer = (datasets.faces(n, 9, seed=4) for n in (70, 70, 40))
    for a, b in zip(data, again):
        assert (a == b).all()
    assert (data.train_images[:40] == fewer.train_images).all()
    for i in range(70):
        assert (draw(data.train_labels[i:i + 1])[0] == data.train_images[i]).all()


def test_the_same_bytes_on_every_machine():
    factors = sample_factors(64, seed=1)
    assert zlib.crc32(b"".join(factors[name].astype(f"<{FACTORS[name].str[1:]}").tobytes()
                               for name in FACTORS.names)) == 0x16190da0
    assert zlib.crc32(draw(factors).tobytes()) == 0xb15866ef


def test_seeds_and_streams_share_no_face():
    drawn = [sample_factors(300, seed, stream) for seed in (0, 1) for stream in (0, 1)]
    for name in SHAPES:
        assert len(numpy.unique(numpy.concatenate([factors[name] for factors in drawn]))) > 1190, name
    data = datasets.faces(300, 300)
    assert (data.train_labels == drawn[0]).all() and (data.test_labels == drawn[1]).all()


def test_ranges_and_frequencies():
    n = 20_000
    factors = sample_factors(n)
    for name in SHAPES + tuple(set(AMOUNTS) - {"beard", "mouth_open"}):
        low = -1 if name in SHAPES else 0
        counts = numpy.histogram(factors[name], numpy.linspace(low, 1, 11))[0]
        assert counts.sum() == n and abs(counts - n / 10).max() < 5 * math.sqrt(n * 0.09), name
    assert abs(numpy.bincount(factors["hair_style"], minlength=8) - n / 8).max() < 5 * math.sqrt(n * 7 / 64)
    assert factors["glasses"].mean() == pytest.approx(0.25, abs=0.015)
    assert (factors["mouth_open"] == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert 0.99 < factors["mouth_open"].max() <= 1
    tied = factors["hair_style"] >= HAIR_STYLES.index("bun")
    bearded = factors["beard"] > 0
    assert not bearded[tied].any() and bearded[~tied].mean() == pytest.approx(0.3, abs=0.02)
    assert 0.4 <= factors["beard"][bearded].min() < 0.41 and 0.99 < factors["beard"].max() <= 1
    continuous = numpy.array([factors[name] for name in SHAPES + AMOUNTS[:5]])
    assert abs(numpy.corrcoef(continuous) - numpy.eye(len(continuous))).max() < 0.04


# Rows and columns outside of which nothing may change, and what share of the pixels inside has to.
@pytest.mark.parametrize("name, low, high, rows, columns, share", [
    ("head_width", -1, 1, (0, 64), (8, 56), 0.05),
    ("head_height", -1, 1, (4, 64), (8, 56), 0.05),
    ("jaw", -1, 1, (30, 58), (14, 50), 0.1),
    ("eye_size", -1, 1, (26, 39), (16, 48), 0.1),
    ("eye_distance", -1, 1, (22, 39), (14, 50), 0.2),
    ("gaze", -1, 1, (28, 37), (18, 46), 0.1),
    ("eye_colour", 0, 1, (28, 37), (18, 46), 0.05),
    ("brow_height", -1, 1, (22, 31), (18, 46), 0.15),
    ("brow_tilt", -1, 1, (22, 31), (18, 46), 0.1),
    ("brow_thickness", -1, 1, (22, 31), (18, 46), 0.1),
    ("nose_width", -1, 1, (36, 47), (26, 38), 0.1),
    ("nose_length", -1, 1, (29, 47), (26, 38), 0.1),
    ("mouth_width", -1, 1, (44, 58), (22, 42), 0.15),
    ("mouth_open", 0, 1, (42, 60), (22, 42), 0.1),
    ("smile", -1, 1, (44, 54), (22, 42), 0.1),
    ("shirt", 0, 0.5, (56, 64), (0, 64), 0.2),
    ("beard", 0, 1, (30, 64), (12, 52), 0.2),
    ("glasses", 0, 1, (24, 40), (14, 50), 0.3),
])
def test_a_factor_changes_its_own_part(name, low, high, rows, columns, share):
    change = difference_of(plain(), name, low, high)[0] > 2
    inside = change[slice(*rows), slice(*columns)]
    assert inside.sum() == change.sum() and inside.mean() >= share


@pytest.mark.parametrize("name, low, high", [(name, -1, 1) for name in ("yaw", "roll", "light_direction")] +
                         [(name, 0, 0.6) for name in ("skin", "hair_colour", "light_strength", "background")])
def test_a_factor_changes_much(name, low, high):
    assert (difference_of(plain(light_direction=0.5), name, low, high) > 8).mean() > 0.09


def test_the_background_is_behind():
    change = difference_of(plain(), "background", 0, 0.5)[0]
    assert (change[:8] > 20).all() and (change[:40, :8] > 20).all() and (change[:40, 56:] > 20).all()
    assert (change[16:52, 22:42] == 0).all()


def test_smile_raises_the_corners_and_lowers_the_middle():
    pictures = {smile: draw(plain(smile=smile, mouth_open=0), 512)[0] for smile in (-1, 0, 1)}

    def line(smile, column):            # the row of the darkest pixel, in sixty-fourths
        return pictures[smile][360:440, column].sum(axis=1, dtype=int).argmin() / 8
    for corner in (256 - 45, 256 + 45):
        assert line(-1, corner) - line(0, corner) > 0.3 < line(0, corner) - line(1, corner)
    assert line(0, 256) - line(-1, 256) > 0.3 < line(1, 256) - line(0, 256)


def test_light_comes_from_where_it_should():
    left, right = (draw(plain(light_direction=to, light_strength=1))[0].astype(float) for to in (-1, 1))
    for part in (slice(0, 64), slice(20, 50)):          # the whole, the face
        assert left[part, 16:32].mean() > right[part, 16:32].mean() + 8
        assert left[part, 32:48].mean() < right[part, 32:48].mean() - 8
    strengths = [draw(plain(light_direction=-1, light_strength=s))[0].astype(float) for s in (0, 0.5, 1)]
    contrast = [image[:, :32].mean() - image[:, 32:].mean() for image in strengths]
    assert 0 < contrast[0] < contrast[1] - 3 < contrast[2] - 6


@pytest.mark.parametrize("style", ["bald", "cropped", "bun", "bob", "long"])
def test_the_mirrored_factors_give_the_mirrored_picture(style):
    factors = with_(sample_factors(60, seed=8), hair_style=HAIR_STYLES.index(style))
    mirrored = with_(factors, **{name: -factors[name] for name in ("gaze", "yaw", "roll", "light_direction")})
    change = abs(draw(factors).astype(int) - draw(mirrored)[:, :, ::-1]).max(axis=3) > 2
    assert change.mean() < 0.01         # the glint in the eye is always on its left
    assert not change[:, :22].any() and not change[:, 44:].any()


def test_roll_turns_the_head_by_nine_degrees():
    for roll in (-1, 0, 1):
        mask = irises(plain(roll=roll, style="bald"))[0]
        left, right = mask.copy(), mask.copy()
        left[:, 32:], right[:, :32] = False, False
        x, y = centre(right) - centre(left)
        expected = roll * math.degrees(2 * math.atan(0.08))
        assert math.degrees(math.atan2(y, x)) == pytest.approx(expected, abs=1)
        assert math.hypot(x, y) == pytest.approx(2 * 7.5 * 64 / 60, abs=0.6)


def test_yaw_moves_the_features_across_the_head():
    def middle_of(name, yaw):
        return centre(difference_of(plain(yaw=yaw, style="bald"), name, 0.1, 0.9)[0] > 12)[0]
    skull = [middle_of("skin", yaw) for yaw in (-1, 0, 1)]
    nose, eyes = ([middle_of(name, yaw) for yaw in (-1, 0, 1)] for name in ("nose_width", "eye_colour"))
    assert skull[0] > skull[2] and nose[2] - nose[1] > eyes[2] - eyes[1] > 0
    assert nose[1] - nose[0] > eyes[1] - eyes[0] > 0


def test_the_eyes_are_in_about_the_same_place():
    factors = with_(sample_factors(200), glasses=False, hair_style=0)
    middles = numpy.array([centre(mask) for mask in irises(factors)])
    assert abs(middles - (32, 32.5)).max() < 3.5 and middles.std(axis=0).max() < 1.7


def test_glasses_sit_before_the_eyes():
    factors = with_(sample_factors(100, seed=2), hair_style=0, skin=0)
    frames = difference_of(factors, "glasses") > 30
    frames &= ~irises(with_(factors, glasses=False))
    for frame, iris in zip(frames, irises(with_(factors, glasses=False))):
        for row, column in numpy.argwhere(iris):
            assert frame[:row, column].any() and frame[row:, column].any()
            assert frame[row, :column].any() and frame[row, column:].any()


def test_the_mouth_stays_on_the_face():
    factors = with_(sample_factors(200, seed=3), hair_style=0, beard=0)
    skin, mouths = difference_of(factors, "skin") > 60, difference_of(factors, "smile", -1, 1) > 12
    for face, mouth in zip(skin, mouths):
        for row in numpy.flatnonzero(mouth.any(axis=1)):
            across, lips = numpy.flatnonzero(face[row]), numpy.flatnonzero(mouth[row])
            assert across[0] + 2 <= lips[0] and lips[-1] <= across[-1] - 2


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_hair_is_in_one_piece(style):
    factors = with_(sample_factors(40, seed=5), hair_style=HAIR_STYLES.index(style), beard=0, glasses=False)
    for mask in difference_of(factors, "hair_colour") > 40:
        assert pieces(mask[:20], 4) == (style != "bald")             # above the brows
        assert pieces(mask, 4) <= 3                                  # with both brows
        assert mask[5:14].any() == (style != "bald")


def test_hair_styles_differ():
    images = draw(numpy.concatenate([plain(style=style) for style in HAIR_STYLES])).astype(int)
    for i in range(len(images)):
        for j in range(i):
            assert (abs(images[i] - images[j]).max(axis=2) > 20).mean() > 0.01


@pytest.mark.parametrize("name", SHAPES + AMOUNTS)
def test_small_steps_change_little(name):
    factors = plain(101, light_direction=0.5)
    factors[name] = numpy.linspace(-1 if name in SHAPES else 0, 1, 101)
    images = draw(factors).astype(int)
    steps = abs(numpy.diff(images, axis=0))
    assert steps.max() <= 40 and steps.mean(axis=(1, 2, 3)).max() < 1.2
    assert steps.sum() > 0


def test_shirt_and_background_colours_wrap_around():
    for name in ("shirt", "background"):
        assert difference_of(plain(), name).max() <= 1


def test_a_larger_picture_is_the_same_picture():
    factors = sample_factors(100, seed=6)
    large = draw(factors, 256).reshape(100, 64, 4, 64, 4, 3).mean(axis=(2, 4))
    error = abs(large - draw(factors))
    assert error.mean() < 1.2 and (error > 40).mean() < 0.002


@pytest.mark.parametrize("n", [0, -1])
def test_too_few_faces(n):
    for arguments in ({"n_train": n}, {"n_train": 1, "n_test": n}):
        with pytest.raises(ValueError, match=f"faces: an integer n of at least 1 expected, {n} found"):
            datasets.faces(**arguments)


@pytest.mark.parametrize("name, value, message", [
    ("skin", 1.5, "skin: 0 to 1 expected, 1.5 found"), ("yaw", -2, "yaw: -1 to 1 expected, -2.0 found"),
    ("smile", math.nan, "smile: -1 to 1 expected, nan found"),
    ("hair_style", 8, "hair_style: 0 to 7 expected, 8 found")])
def test_a_factor_out_of_its_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        draw(with_(plain(3), **{name: [PLAIN.get(name, 0), value, PLAIN.get(name, 0)]}))


def test_draw_refuses_other_arrays_and_sizes():
    with pytest.raises(ValueError, match=r"an array \(N,\) of FACTORS expected, float64 \(2, 3\) found"):
        draw(numpy.zeros((2, 3)))
    for wrong in ({"n_train": 2.5}, {"seed": -1}, {"seed": None}, {"side": "64"}, {"side": 64.0}):
        name = next(iter(wrong)).removesuffix("_train")
        with pytest.raises((TypeError, ValueError), match=f"^faces: an integer {name} of at least"):
            datasets.faces(**{"n_train": 1, "n_test": 1, **wrong})
    with pytest.raises(ValueError, match="an integer side of at least 16 expected, 8 found"):
        draw(plain(), 8)
