"""Points in the plane, and animated GIFs: what they show, how long, and what is refused."""

import math

import numpy
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from minigen import figures, to_device

CORNERS = numpy.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])


def read(path):
    """The frames of a GIF as arrays (height, width, 3), and for how many milliseconds each is shown."""
    frames, times = [], []
    with Image.open(path) as film:
        assert film.format == "GIF" and film.info["loop"] == 0
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(numpy.array(film.convert("RGB")))
            times.append(film.info["duration"])
    return frames, times


def test_a_gif_shows_its_frames_pixel_for_pixel(tmp_path, rng):
    colours = rng.integers(0, 256, (200, 3), dtype="uint8")
    stored = colours[rng.integers(0, 200, (6, 20, 31))]
    for name, frames in (("stored", stored), ("scaled", list(stored / 255)), ("device", to_device(stored))):
        figures.gif(tmp_path / name, frames, 0.07)
        found, times = read(tmp_path / name)
        assert times == [70] * 6 and (numpy.array(found) == stored).all()


def test_a_gif_of_grey_tiles(tmp_path):
    shades = numpy.linspace(0, 1, 5).reshape(5, 1, 1) * numpy.ones((5, 2, 9))
    figures.gif(tmp_path / "x.gif", map(figures.tile, shades), 1)
    found, times = read(tmp_path / "x.gif")
    assert times == [1000] * 5 and found[0].shape == (5, 9, 3)
    assert [frame[2, 2].tolist() for frame in found] == [[v] * 3 for v in (0, 64, 128, 191, 255)]
    assert all((frame[::4] == 255).all() for frame in found)


def test_more_colours_than_a_gif_has_are_rounded(tmp_path):
    ramp = numpy.linspace(0, 1, 4096).reshape(64, 64, 1) * numpy.array([1.0, 0.5, 0.25])
    figures.gif(tmp_path / "x.gif", [numpy.concatenate([ramp, ramp], axis=1)], 0.1)
    left, right = numpy.split(read(tmp_path / "x.gif")[0][0], 2, axis=1)
    numpy.testing.assert_allclose(left / 255, ramp, atol=0.02)
    assert (left == right).all()            # the same colour is rounded in the same way everywhere


@pytest.mark.parametrize("frames, seconds, message", [
    ([], 1, r"frames of one shape, \(height, width\) or \(height, width, 3\), expected, \[\] found"),
    ([numpy.zeros((4, 5)), numpy.zeros((5, 4))], 1, r"\[\(4, 5\), \(5, 4\)\] found"),
    ([numpy.zeros((4, 5, 4))], 1, r"\[\(4, 5, 4\)\] found"), ([numpy.zeros(4)], 1, r"\[\(4,\)\] found"),
    ([numpy.zeros((4, 5)) - 1], 1, r"images in \[0, 1\] expected, -1 to 1 found"),
    ([numpy.zeros((4, 5), int)], 1, "uint8 expected, int64 found"),
    ([numpy.zeros((4, 5))], 0.01, r"a number seconds in \[0.02, 600\] expected, 0.01 found")])
def test_what_is_no_film_is_refused(tmp_path, frames, seconds, message):
    with pytest.raises(ValueError, match=f"^gif: .*{message}"):
        figures.gif(tmp_path / "x.gif", frames, seconds)
    assert not (tmp_path / "x.gif").exists()


def test_point_clouds_show_points_and_rings(drawn, rng):
    panels = {"data": rng.normal(size=(50, 2)), "VAE": to_device(rng.normal(size=(40, 2)))}
    figures.point_clouds("x.png", panels, CORNERS, "title", radius=0.3)
    for ax, (name, points), colour in zip(drawn[0].axes, panels.items(), ("black", figures.COLOURS["VAE"])):
        line, = ax.lines
        assert ax.get_title() == name and line.get_xydata().tolist() == points.tolist()
        assert to_rgb(line.get_color()) == to_rgb(colour) and line.get_linestyle() == "None"
        rings, = ax.collections
        edges = numpy.array([numpy.stack([p.vertices.min(axis=0), p.vertices.max(axis=0)])
                             for p in rings.get_paths()])
        numpy.testing.assert_allclose(edges, numpy.stack([CORNERS - 0.3, CORNERS + 0.3], axis=1), atol=1e-9)
        assert ax.get_aspect() == 1 and ax.get_xlim() == ax.get_ylim()
        assert -3 < ax.get_xlim()[0] < -1.3 and 1.3 < ax.get_xlim()[1] < 3


def test_panels_are_alike_and_their_text_is_not_cut_off(drawn, rng):
    panels = {name: rng.normal(size=(9, 2)) for name in figures.COLOURS}
    figures.point_clouds("x.png", panels, [[0, 0]], "title", radius=0.3)
    figure = drawn[0]
    figure.draw_without_rendering()
    boxes = [ax.get_window_extent() for ax in figure.axes]
    assert len({(round(box.width), round(box.height), round(box.y0)) for box in boxes}) == 1
    assert boxes[0].width == pytest.approx(boxes[0].height, rel=0.01) and boxes[0].width > 150
    titles = [ax.title.get_window_extent() for ax in figure.axes]
    assert all(left.x1 < right.x0 for left, right in zip(titles, titles[1:]))
    assert all(0 < box.x0 and box.x1 < figure.bbox.width for box in titles)


def test_more_than_five_panels_are_in_rows(drawn, rng):
    panels = {f"model {i}": rng.normal(size=(9, 2)) for i in range(7)}
    figures.point_clouds("x.png", panels, CORNERS, "title", radius=0.3)
    figure = drawn[0]
    figure.draw_without_rendering()
    shown = [ax for ax in figure.axes if ax.get_visible()]
    boxes = [ax.get_window_extent() for ax in shown]
    assert [ax.get_title() for ax in shown] == list(panels)
    assert len({round(box.y0) for box in boxes[:4]}) == len({round(box.y0) for box in boxes[4:]}) == 1
    assert [round(box.x0) for box in boxes[:3]] == [round(box.x0) for box in boxes[4:]]
    assert all(box.width == pytest.approx(box.height, rel=0.01) and box.width > 150 for box in boxes)
    below = [any(tick.label1.get_visible() for tick in ax.xaxis.get_major_ticks()) for ax in shown]
    assert below == [False] * 3 + [True] * 4        # the fourth has no panel below it


def test_points_of_a_model_that_diverged_are_passed_over(tmp_path):
    points = numpy.array([[numpy.nan, 0], [numpy.inf, 1], [3e38, -3e38], [1, 1]], "float32")
    figures.point_clouds(tmp_path / "x.png", {"GAN": points}, CORNERS, "title", radius=0.1)
    figures.moving_points(tmp_path / "x.gif", {"GAN": [(1, points)]}, CORNERS, "title", radius=0.1)


def coloured(frame, colour):
    """The rows and columns of this colour's pixels below the panels' names."""
    rows, columns = numpy.nonzero(abs(frame / 255 - to_rgb(colour)).max(axis=2) < 0.04)
    below = rows > 80
    return rows[below], columns[below]


def test_moving_points_move(tmp_path, rng):
    cloud = 0.05 * rng.normal(size=(30, 2))
    frames = {"GAN": [(0, CORNERS[0] + cloud), (5000, CORNERS[1] + cloud), (10_000, CORNERS[3] + cloud)],
              "WGAN": [(0, cloud)] * 3}
    figures.moving_points(tmp_path / "x.gif", frames, CORNERS, "title", radius=0.1, seconds=0.5)
    found, times = read(tmp_path / "x.gif")
    assert times == [500, 500, 2500]
    places = [[side.mean() for side in coloured(frame, figures.COLOURS["GAN"])] for frame in found]
    (left_y, left_x), (right_y, right_x), (top_y, top_x) = places
    side = right_x - left_x
    assert side > 100 and right_y == pytest.approx(left_y, abs=2) and top_x == pytest.approx(right_x, abs=2)
    assert right_y - top_y == pytest.approx(side, abs=3)        # up, and as far: the aspect is equal
    still = [coloured(frame, figures.COLOURS["WGAN"]) for frame in found]
    assert all((numpy.array(place) == still[0]).all() for place in still) and len(still[0][0]) > 20
    assert (found[0][-35:] != found[1][-35:]).any()             # the iteration


def test_moving_grids_show_each_models_own_frames(tmp_path):
    shades = {"GAN": (0.0, 0.5), "WGAN": (1.0, 0.25)}
    frames = {name: [] for name in shades}
    for name, pair in shades.items():
        for i, shade in enumerate(pair):
            path = tmp_path / f"{name}{i}.png"
            figures.save_grid(path, numpy.full((64, 16), shade))
            frames[name].append((1000 * i, path))
    figures.moving_grids(tmp_path / "x.gif", frames, "title", seconds=0.5)
    found, times = read(tmp_path / "x.gif")
    assert times == [500, 2500]
    height, width = found[0].shape[:2]
    for i, frame in enumerate(found):
        left, right = numpy.split(frame[height // 4:3 * height // 4], [width // 2], axis=1)
        for half, name in ((left, "GAN"), (right, "WGAN")):
            shade = round(255 * shades[name][i])
            assert (abs(half[:, :, 0].astype(int) - shade) < 3).mean() > 0.4, (name, i)
    assert (found[0][-35:] != found[1][-35:]).any()             # the iteration
    with pytest.raises(ValueError, match="^moving_grids: the same number of .* found$"):
        figures.moving_grids(None, {**frames, "VAE": []}, "title")


def test_a_film_of_five_panels_is_small(tmp_path, rng):
    frames = {name: [(i, rng.normal(size=(2500, 2))) for i in range(3)] for name in figures.COLOURS}
    figures.moving_points(tmp_path / "x.gif", frames, CORNERS, "title", radius=0.1)
    assert len(read(tmp_path / "x.gif")[0]) == 3 and (tmp_path / "x.gif").stat().st_size < 90_000


@pytest.mark.parametrize("numbers, found", [
    ((1, 2), "{'GAN': 1, 'VAE': 2}"), ((0, 0), "{'GAN': 0, 'VAE': 0}"), ((), "{}")])
def test_films_of_different_lengths_are_refused(tmp_path, numbers, found):
    frames = {name: [(0, CORNERS)] * n for name, n in zip(("GAN", "VAE"), numbers)}
    with pytest.raises(ValueError, match=f"^moving_points: the same number of .* expected, {found} found$"):
        figures.moving_points(tmp_path / "x.gif", frames, CORNERS, "title", radius=0.1)


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan])
def test_frames_take_some_time(tmp_path, seconds):
    with pytest.raises(ValueError, match=r"^moving_points: a number seconds in \[0.02, 600\] expected"):
        figures.moving_points(tmp_path / "x.gif", {}, CORNERS, "title", radius=0.1, seconds=seconds)
