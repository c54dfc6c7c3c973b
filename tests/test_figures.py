"""Figures: what they show, and that their files are written."""

import base64

import numpy
import pytest
from matplotlib import rc_context, rcParams
from matplotlib.image import imread

from minigen import figures, models
from minigen.figures.style import model_colour


def test_tile_puts_images_in_rows_with_a_white_line_between():
    images = numpy.stack([numpy.full(9, v) for v in (0.1, 0.2, 0.3, 0.4, 0.5)])
    picture = figures.tile(images, columns=3)
    assert picture.shape == (2 * 4 + 1, 3 * 4 + 1)
    assert picture[1:4, 1:4].tolist() == [[0.1] * 3] * 3 and picture[1, 9] == 0.3 and picture[5, 1] == 0.4
    assert picture[5, 5] == 0.5
    assert (picture[::4] == 1).all() and (picture[:, ::4] == 1).all() and (picture[5:, 9:] == 1).all()
    assert figures.tile(images).shape == (9, 13) and figures.tile(images[:0]).shape == (1, 5)


def test_tile_keeps_each_image_upright():
    image = numpy.arange(6.0).reshape(1, 2, 3, 1) / 10
    assert figures.tile(image)[1:3, 1:4].tolist() == image[0, :, :, 0].tolist()
    assert figures.tile(numpy.arange(4.0)[None] / 10)[1:3, 1:3].tolist() == [[0, 0.1], [0.2, 0.3]]
    colour = numpy.random.default_rng(0).random((4, 2, 2, 3))
    assert figures.tile(colour).shape == (7, 7, 3) and (figures.tile(colour)[4:6, 1:3] == colour[2]).all()


def test_save_grid_writes_pixel_for_pixel(tmp_path):
    images = numpy.array([[0.0, 0.5, 1.0, 1.0]])
    figures.save_grid(tmp_path / "x.png", images)
    picture = imread(tmp_path / "x.png")
    assert picture.shape == (4, 4)
    assert (picture[1:3, 1:3] * 255).round().tolist() == [[0, 128], [255, 255]]


def test_the_settings_of_matplotlib_change_nothing(tmp_path):
    curves, image = {"GAN": ([1, 2, 3], [0.5, 0.1, 0.0])}, numpy.array([[0.0, 0.2, 0.4, 0.6]])

    def draw(name):
        figures.entropy_curves(tmp_path / f"{name}.png", curves, "title", classes=10)
        figures.save_grid(tmp_path / f"{name} grid.png", image)
    draw("plain")
    changed = {"text.usetex": True, "axes.facecolor": "black", "image.origin": "lower"}
    with rc_context(changed):
        draw("changed")
        assert {name: rcParams[name] for name in changed} == changed
    for end in (".png", " grid.png"):
        assert (tmp_path / f"plain{end}").read_bytes() == (tmp_path / f"changed{end}").read_bytes()


def png_size(data):
    """The width and height in a PNG's header."""
    return tuple(numpy.frombuffer(data[16:24], ">u4"))


def test_a_figure_is_written_in_the_format_of_its_suffix_twice_the_same(tmp_path):
    curves = {"GAN": ([1, 2, 3], [0.5, 0.1, 0.0])}
    for suffix, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        for name in ("one", "two"):
            figures.entropy_curves(tmp_path / f"{name}{suffix}", curves, "title", classes=10)
        one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
        assert one.startswith(begin) and one == two
    assert png_size((tmp_path / "one.png").read_bytes()) == (1650, 924)


def test_notebooks_show_what_figures_return(tmp_path):
    figure = figures.entropy_curves(None, {"GAN": ([1, 2, 3], [0.5, 0.1, 0.0])}, "title", classes=10)
    with rc_context({"savefig.dpi": 10, "savefig.facecolor": "red"}):
        data, size = figure._repr_png_()
    assert data == figure._repr_png_()[0]
    assert png_size(data) == (1650, 924) and size == {"width": 750, "height": 420}
    picture = figures.save_grid(None, numpy.array([[0.0, 0.5, 1.0, 1.0]]))
    assert numpy.array(picture)[1:3, 1:3].tolist() == [[0, 128], [255, 255]]
    film = figures.gif(tmp_path / "x.gif", numpy.zeros((2, 3, 3)), 1)
    assert film.data == (tmp_path / "x.gif").read_bytes()
    assert base64.b64encode(film.data).decode() in film._repr_html_()
    assert figures.gif(None, numpy.zeros((2, 3, 3)), 1).data == film.data


@pytest.mark.parametrize("draw", [value for name, value in vars(figures).items() if not name.startswith("_")
                                  and "title" in getattr(value, "__annotations__", ())])
def test_every_figure_is_drawn_with_standard_settings(draw):
    assert hasattr(draw, "__wrapped__")


def test_entropy_curves_draw_what_they_are_given(drawn):
    curves = {"GAN": ([1, 2, 3], [0.5, 0.1, 0.0]), "WGAN": ([1, 2], [1.0, 2.2])}
    figures.entropy_curves("x.png", curves, "title", classes=10)
    ax, = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert lines["GAN"] == [[1, 0.5], [2, 0.1], [3, 0.0]] and lines["WGAN"] == [[1, 1.0], [2, 2.2]]
    assert any(set(line.get_ydata()) == {numpy.log(10)} for line in ax.lines)


def test_sample_grids_show_each_models_own(tmp_path, drawn):
    for shade in (0.0, 1.0):
        figures.save_grid(tmp_path / f"{shade}.png", numpy.full((4, 9), shade))
    rows = {"GAN": [(7, tmp_path / "0.0.png")], "WGAN": [(8, tmp_path / "1.0.png")]}
    figures.sample_grids(tmp_path / "x.png", rows, "title")
    found = {ax.get_ylabel(): (ax.get_title(), ax.images[0].get_array()[1, 1]) for ax in drawn[0].axes}
    assert found == {"GAN": ("iteration 7", 0), "WGAN": ("iteration 8", 1)}


def test_image_rows_put_each_label_under_its_image(drawn):
    images = numpy.linspace(0, 1, 10)[:, None] * numpy.ones(9)
    rows, labels = {"GAN": images, "VAE": images[::-1]}, {"GAN": range(10), "VAE": "abcdefghij"}
    figures.image_rows("x.png", rows, labels, title="title")
    for ax, name, texts, first in zip(drawn[0].axes, ("GAN", "VAE"), ("0123456789", "abcdefghij"), (0, 1)):
        picture = ax.images[0].get_array()
        assert ax.get_ylabel() == name and picture[1, 1] == first
        assert [t.get_text() for t in ax.texts] == list(texts)
        for i, t in enumerate(ax.texts):
            x, y = t.get_position()
            assert 4 * i < x < 4 * i + 4 and y == picture.shape[0]
            assert (picture[1:4, round(x)] == picture[1, 4 * i + 1]).all()
    figures.image_rows("x.png", {"VAE": numpy.concatenate([images, images])}, title="title")
    assert drawn[1].axes[0].images[0].get_array().shape == (9, 41) and not drawn[1].axes[0].texts
    figures.image_rows("x.png", {"VAE": images[:3]}, {"VAE": "abc"}, title="title")
    assert [t.get_position()[0] for t in drawn[2].axes[0].texts] == [2, 6, 10]


def test_image_entropies(drawn, rng):
    values = {name: rng.random(100) for name in figures.COLOURS}        # all models fit into one figure
    figures.image_entropies("x.png", values, "title", classes=10)
    few, all_ = drawn[0].axes
    for line, curve, (name, expected) in zip(few.lines, all_.lines, values.items()):
        assert line.get_label() == name and line.get_ydata().tolist() == expected[:10].tolist()
        x, y = curve.get_data()
        assert curve.get_label() == f"{name}: mean {expected.mean():.2f}"
        assert y[numpy.searchsorted(x, 0.25, side="right") - 1] == pytest.approx((expected <= 0.25).mean())


def test_grids(drawn):
    panels = {"VAE-GAN": numpy.zeros((4, 9)), "constrained VAE-GAN": numpy.ones((4, 9))}
    figures.grids("x.png", panels, "title")
    found = [(ax.get_title(), ax.images[0].get_array()[1, 1]) for ax in drawn[0].axes]
    assert found == [("VAE-GAN", 0), ("constrained VAE-GAN", 1)]


def test_entropy_histogram_shows_mean_and_range(drawn):
    runs = [[0.01, 0.02, 0.06], [0.01, 0.06, 0.07]]
    figures.entropy_histogram("x.png", {"VAE-GAN": runs}, "title", classes=10)
    band, line = (patch.get_data() for patch in drawn[0].axes[0].patches)
    assert line.values[:3].tolist() == [1.5, 1.5, 0] and line.edges[1] == 0.05
    assert band.values[:3].tolist() == [2, 2, 0] and band.baseline[:3].tolist() == [1, 1, 0]


def test_constraint_sweep(drawn):
    panels = {"image": {"GAN weight 1": [[1, 3], [5, 7]]}, "mode": {"GAN weight 1": [[0, 0], [1, 1]]}}
    figures.constraint_sweep("x.png", panels, ["none", "2"], "title")
    for ax, means in zip(drawn[0].axes, ([2, 6], [0, 1])):
        *dots, line = ax.lines
        assert line.get_ydata().tolist() == means
        assert [t.get_text() for t in ax.get_xticklabels()] == ["none", "2"]
    assert [tuple(line.get_ydata()) for line in drawn[0].axes[0].lines[:2]] == [(1, 3), (5, 7)]


def test_manifold_puts_points_where_they_are(drawn):
    ticks = numpy.linspace(-1, 1, 21)
    distance = numpy.hypot(*numpy.meshgrid(ticks, ticks))
    points = {"x": ((0.5, 0.5), "image"), "y": ((0.3, 0.3), "one"), "z": ((0.1, 0.2), "other")}
    figures.manifold("x.png", ticks, ticks, distance, distance ** 2, [[0, 0], [1, 1]], points, 0.5, "title")
    for ax in drawn[0].axes[:2]:
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        found = {line.get_label(): line.get_xydata()[0].tolist() for line in dots}
        assert found == {"x: image": [0.5, 0.5], "y: one": [0.3, 0.3], "z: other": [0.1, 0.2]}
        bounds = [c for c in ax.collections if getattr(c, "levels", numpy.zeros(0)).tolist() == [0.5]]
        vertices = numpy.concatenate([path.vertices for path in bounds[0].get_paths()])
        numpy.testing.assert_allclose(numpy.hypot(*vertices.T), 0.5, atol=0.01)
    low, high = drawn[0].axes[1].get_xlim()
    assert -1 < low < 0.1 and 0.5 < high < 1


def test_moving_apart_draws_slopes(drawn):
    x = numpy.linspace(0, 2, 21)
    figures.moving_apart("x.png", x, {"square": x ** 2, "line": 3 * x}, "title")
    value, slope = drawn[0].axes
    assert value.lines[0].get_ydata().tolist() == (x ** 2).tolist() and value.lines[1].get_label() == "line"
    numpy.testing.assert_allclose(slope.lines[0].get_ydata()[1:-1], 2 * x[1:-1])
    numpy.testing.assert_allclose(slope.lines[1].get_ydata(), 3)


def test_plots_are_written(tmp_path):
    figures.save_grid(tmp_path / "a.png", numpy.zeros((4, 9)))
    grids = [(1, tmp_path / "a.png"), (2000, tmp_path / "a.png")]
    figures.sample_grids(tmp_path / "grids.png", {"GAN": grids, "WGAN": grids[:1]}, "title")
    curves = {"GAN": ([1, 2], [0.1, 0.0]), "WGAN": ([1], [2.2])}
    figures.entropy_curves(tmp_path / "curves.png", curves, "title", classes=10)
    rows = {"VAE": numpy.zeros((10, 9)), "GAN": numpy.zeros((10, 9))}
    entropies = {"VAE": numpy.ones(50), "VAE-GAN": numpy.ones(50)}
    figures.image_rows(tmp_path / "rows.png", rows, rows, title="title")
    figures.image_entropies(tmp_path / "entropies.png", entropies, "title", classes=47)
    runs = {name: [values] for name, values in entropies.items()}
    figures.entropy_histogram(tmp_path / "histogram.png", runs, "title", classes=47)
    for name in ("grids.png", "curves.png", "rows.png", "entropies.png", "histogram.png"):
        picture = imread(tmp_path / name)
        assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.01


@pytest.mark.parametrize("name", [name for name in models.__all__ if name != "Model"])
def test_every_model_has_its_colour(name):
    assert figures.COLOURS[getattr(models, name).title].startswith("#")


def test_tile_takes_the_shape_of_a_data_set():
    image = numpy.arange(8.0)[None] / 10
    for shape in ((2, 4), (2, 4, 1)):
        picture = figures.tile(image, shape=shape)
        assert picture[1:3, 1:5].tolist() == [[0, 0.1, 0.2, 0.3], [0.4, 0.5, 0.6, 0.7]]
    assert figures.tile(numpy.zeros((1, 24)), shape=(2, 4, 3)).shape == (4, 6, 3)
    assert figures.tile(image.reshape(1, 2, 4))[1:3, 1:5].tolist() == image.reshape(2, 4).tolist()


def test_the_number_of_columns_is_1_or_more():
    assert figures.tile(numpy.zeros((5, 4)), columns=2).shape == (10, 7)
    for columns in (0, -1, 2.0, "2"):
        with pytest.raises((TypeError, ValueError), match="^tile: an integer columns of at least 1 expected"):
            figures.tile(numpy.zeros((5, 4)), columns=columns)


def test_one_image_and_narrow_images():
    image = numpy.full((8, 5, 3), 0.5)
    assert figures.tile(image[None]).shape == (10, 7, 3)
    assert figures.tile(numpy.zeros((4, 8, 3)), shape=(8, 3)).shape == (19, 9)


def test_tile_takes_stored_images():
    assert figures.tile(numpy.array([[0, 51, 102, 255]], "uint8"))[1:3, 1:3] == pytest.approx(
        numpy.array([[0, 0.2], [0.4, 1]]))


@pytest.mark.parametrize("images, shape, message", [
    (numpy.zeros((2, 600)), None, "rows of 600 pixels are no square images: give their shape"),
    (numpy.zeros((2, 600)), (30, 10), r"images of shape \(30, 10\) expected, \(600,\) found"),
    (numpy.zeros((2, 600)), (-30, -20), r"an integer shape\[0\] of at least 1 expected, -30 found"),
    (numpy.zeros((2, 8, 4, 3)), (4, 8, 3), r"images of shape \(4, 8, 3\) expected, \(8, 4, 3\) found"),
    (numpy.zeros((8, 8, 3)), None, r"\(8, 8, 3\) found: give one image as images.None., or narrow ones"),
    (numpy.zeros((2, 4, 4, 2)), None, r"with 1 or 3 channels expected, \(2, 4, 4, 2\) found"),
    (numpy.zeros(4), None, r"\(4,\) found"),
    (2 * numpy.eye(4) - 1, None, r"images in \[0, 1\] expected, -1 to 1 found"),
    (numpy.full((1, 4), numpy.nan), None, "NaN found"),
    (numpy.zeros((1, 4), int), None, "int64 found")])
def test_what_is_no_picture_is_refused(images, shape, message, tmp_path):
    with pytest.raises(ValueError, match=f"^tile: .*{message}"):
        figures.save_grid(tmp_path / "x.png", images, shape=shape)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("model", [models.GAN(sizes=(16, 8)), models.WGAN(sizes=(16, 8)),
                                   models.VAE(sizes=(16, 8)),
                                   models.VAEGAN(architecture="larsen", width=0.03, latent=3)],
                         ids=["GAN", "WGAN", "VAE", "larsen"])
def test_the_readmes_recipe_draws_every_model(model, tmp_path):
    sample = model.sample(4, rng=0)
    figures.save_grid(tmp_path / "x.png", sample)
    first = imread(tmp_path / "x.png")[1, 1:3]
    expected = sample[0, :2] if sample.ndim == 2 else sample[0, 0, :2]
    numpy.testing.assert_allclose(first, expected, atol=1 / 128)


def test_a_title_wider_than_its_figure_is_broken_into_lines(tmp_path, drawn):
    title = "Images generated by GAN and WGAN during training"
    figures.save_grid(tmp_path / "grid.png", numpy.zeros((4, 9)))
    figures.sample_grids("x.png", {"GAN": [(1, tmp_path / "grid.png")]}, title)
    figures.grids("x.png", {"GAN": numpy.zeros((4, 9))}, title)
    for figure in drawn:
        figure.draw_without_rendering()
        text = figure.texts[0].get_window_extent()
        assert text.x0 >= 0 and text.x1 <= figure.bbox.width and text.height > 30


def test_counts_below_1_are_not_rounded_to_0(drawn):
    figures.entropy_histogram("x.png", {"VAE": [[0.01], *[[0.1]] * 19]}, "title", classes=2)
    assert drawn[0].axes[0].yaxis.get_major_formatter()(0.1) == "0.1"
    assert drawn[0].axes[0].yaxis.get_major_formatter()(10_000) == "10,000"


@pytest.mark.parametrize("panels, shape", [(1, (1, 1)), (2, (2, 1)), (3, (2, 2)), (5, (2, 3))])
def test_training_curves_fill_their_figure(drawn, panels, shape):
    lines = {"VAE": ([1, 2], [0.5, 0.4])}
    figures.training_curves("x.png", {f"loss {i}": lines for i in range(panels)}, "title")
    grid = drawn[0].axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == shape and sum(ax.get_visible() for ax in drawn[0].axes) == panels


@pytest.mark.parametrize("n", [10, 47])
def test_the_names_of_rows_are_not_cut_off(drawn, n):
    rows = {"test images": numpy.zeros((n, 9)), "VAE": numpy.zeros((n, 9)), "VAE-GAN": numpy.zeros((n, 9))}
    figures.image_rows("x.png", rows, title="title")
    drawn[0].draw_without_rendering()
    assert min(ax.yaxis.label.get_window_extent().x0 for ax in drawn[0].axes) >= 0


def test_the_legend_of_image_entropies_lies_where_no_curve_is(drawn, rng):
    for low, high in ((0.0, 0.5), (2.0, 2.3)):
        figures.image_entropies("x.png", {"VAE": rng.uniform(low, high, 1000)}, "title", classes=10)
        figure, ax = drawn[-1], drawn[-1].axes[1]
        figure.draw_without_rendering()
        box, curve = ax.get_legend().get_window_extent(), ax.lines[0]
        assert not box.count_contains(ax.transData.transform(curve.get_xydata()))


def test_models_of_any_name_are_told_apart():
    names = ["WGAN", "mine", "yours, lr 0.1", "yours, lr 0.2", "hers"]
    colours = [model_colour(name, names) for name in names]
    assert colours[0] == model_colour("WGAN", ["WGAN"]) and colours[1] == (0, 0, 0)
    assert len({*colours}) == 5 and model_colour("mine", ["mine"]) == (0, 0, 0)


def test_variants_of_a_model_are_told_apart_by_shades_of_its_colour():
    names = ["GAN, lr 0.1", "WGAN", "GAN, lr 0.2", "test images"]
    first, wgan, second, other = (model_colour(name, names) for name in names)
    assert first == model_colour("GAN", ["GAN"]) != second and other == (0, 0, 0)
    assert all(one < light <= 1 for one, light in zip(first, second)) and wgan not in (first, second)


def test_more_lines_than_markers(drawn):
    lines = {f"weight {i}": [[0.0]] for i in range(12)}
    figures.constraint_sweep("x.png", {"image": lines}, ["d 1"], "title")
    assert len(drawn[0].axes[0].lines) == 24
    figures.image_entropies("x.png", {f"GAN, lr {i}": [0.1] * 10 for i in range(12)}, "title", classes=10)


def test_scaling_is_relative_to_one_rank(drawn):
    measured, projected = {"GAN": {1: 100.0, 2: 150.0}}, {"GAN": {1: 90.0, 2: 144.0, 4: 180.0}}
    figures.scaling("x.png", measured, projected, "title")
    proportional, line, points = drawn[-1].axes[0].lines
    assert proportional.get_xydata().tolist() == [[1, 1], [2, 2], [4, 4]]
    assert line.get_xydata().tolist() == [[1, 1], [2, 1.6], [4, 2]]
    assert points.get_xydata().tolist() == [[1, 1], [2, 1.5]]


def test_frontiers_join_the_means_of_each_setting(drawn):
    settings = {"weight 1": {"a": [1.0, 3.0], "b": [0.0, 2.0]},
                "weight 2": {"a": [5.0, 5.0], "b": [4.0, 6.0]}}
    others = {f"other {i}": {"d": {"a": [0.0], "b": [i]}} for i in range(5)}
    families = {"VAE-GAN": settings, **others}
    figures.frontiers("x.png", families, {"ahead": ("a", "b"), "back": ("b", "a")}, {"a": "A", "b": "B"},
                      "title")
    for ax, order in zip(drawn[0].axes, (1, -1)):
        runs, means = ax.lines[:2]
        assert runs.get_xydata().tolist() == [pair[::order] for pair in ([1, 0], [3, 2], [5, 4], [5, 6])]
        assert means.get_xydata().tolist() == [pair[::order] for pair in ([2, 1], [5, 5])]
        assert len(ax.lines) == 12 and ax.get_xlabel() == ("A", "B")[order < 0]
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["weight 1", "weight 2"] + ["d"] * 5
    assert not drawn[0].axes[1].texts and len(drawn[0].legends[0].get_texts()) == 6
