"""Pictures: what is on them, and that the files are written."""

import numpy
import pytest
from matplotlib.image import imread

from minigen import figures


def test_tile_puts_images_in_rows_with_a_white_line_between():
    images = numpy.stack([numpy.full(9, v) for v in (0.1, 0.2, 0.3, 0.4, 0.5)])
    picture = figures.tile(images, columns=3)
    assert picture.shape == (2 * 4 + 1, 3 * 4 + 1)
    assert picture[1:4, 1:4].tolist() == [[0.1] * 3] * 3 and picture[1, 9] == 0.3 and picture[5, 1] == 0.4 and picture[5, 5] == 0.5
    assert (picture[::4] == 1).all() and (picture[:, ::4] == 1).all() and (picture[5:, 9:] == 1).all()
    assert figures.tile(images).shape == (9, 13) and figures.tile(images[:0]).shape == (1, 5)


def test_tile_keeps_each_image_upright():
    image = numpy.arange(6.0).reshape(1, 2, 3, 1) / 10
    assert figures.tile(image)[1:3, 1:4].tolist() == image[0, :, :, 0].tolist()
    assert figures.tile(numpy.arange(4.0)[None] / 10)[1:3, 1:3].tolist() == [[0, 0.1], [0.2, 0.3]]
    colour = numpy.random.default_rng(0).random((4, 2, 2, 3))
    assert figures.tile(colour).shape == (7, 7, 3) and (figures.tile(colour)[4:6, 1:3] == colour[2]).all()


def test_save_grid_writes_pixel_for_pixel(tmp_path):
    images = numpy.array([[0.0, 0.5, 1.0, 2.0]])
    figures.save_grid(tmp_path / "x.png", images)
    picture = imread(tmp_path / "x.png")
    assert picture.shape == (4, 4, 4)
    assert (picture[1:3, 1:3, 0] * 255).round().tolist() == [[0, 128], [255, 255]]


def test_entropy_curves_draw_what_they_are_given(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, path: drawn.append(self))
    figures.entropy_curves(tmp_path / "x.png", {"GAN": ([1, 2, 3], [0.5, 0.1, 0.0]), "WGAN": ([1, 2], [1.0, 2.2])}, "title")
    ax, = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert lines["GAN"] == [[1, 0.5], [2, 0.1], [3, 0.0]] and lines["WGAN"] == [[1, 1.0], [2, 2.2]]
    assert any(set(line.get_ydata()) == {numpy.log(10)} for line in ax.lines)


def test_sample_grids_show_each_models_own(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, path: drawn.append(self))
    for shade in (0.0, 1.0):
        figures.save_grid(tmp_path / f"{shade}.png", numpy.full((4, 9), shade))
    figures.sample_grids(tmp_path / "x.png", {"GAN": [(7, tmp_path / "0.0.png")], "WGAN": [(8, tmp_path / "1.0.png")]}, "title")
    found = {ax.get_ylabel(): (ax.get_title(), ax.images[0].get_array()[1, 1, 0]) for ax in drawn[0].axes}
    assert found == {"GAN": ("iteration 7", 0), "WGAN": ("iteration 8", 1)}


def test_plots_are_written(tmp_path):
    figures.save_grid(tmp_path / "a.png", numpy.zeros((4, 9)))
    grids = [(1, tmp_path / "a.png"), (2000, tmp_path / "a.png")]
    figures.sample_grids(tmp_path / "grids.png", {"GAN": grids, "WGAN": grids[:1]}, "title")
    figures.entropy_curves(tmp_path / "curves.png", {"GAN": ([1, 2], [0.1, 0.0]), "WGAN": ([1], [2.2])}, "title")
    for name in ("grids.png", "curves.png"):
        picture = imread(tmp_path / name)
        assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.01


@pytest.mark.parametrize("name", ["GAN", "WGAN"])
def test_every_model_has_its_colour(name):
    assert figures.COLOURS[name].startswith("#")
