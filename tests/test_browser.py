"""The report in headless Chromium: the explorer's outputs are Python's, and the page is accessible.

    pip install -e '.[test,browser]' && pytest -m browser
"""

import math
import shutil

import numpy
import pytest
import synthetic_report

from minigen import report, to_host
from minigen.metrics import entropy

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def explored():
    """Models and a classifier whose weights float16 can hold. Half of the latents are subnormal numbers
    there."""
    made, judge, data = synthetic_report.explored()
    for model in made:
        last = model.networks["encoder"].layers[-1]
        last.weight.data = last.weight.data * numpy.where(numpy.arange(200) % 2, 1e-5, 1).astype("float32")
    for network in (*(model.networks["decoder"] for model in made), judge.network):
        for parameter in network.parameters():
            parameter.data = as_float16(parameter.data)
    return made, judge, data


def as_float16(array):
    return to_host(array).astype("float16").astype("float32")


@pytest.fixture(scope="module")
def address(explored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    found = report.export(*explored)
    (folder / "index.html").write_text(report.render(synthetic_report.outcomes(folder), found, quick=True),
                                       encoding="utf-8")
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: "
                                   "pip install '.[browser]'")
    command = shutil.which("chromium")
    if command is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """One visit of the page: what the console said, what was requested, and what the explorer shows."""

    def __init__(self, context, address):
        self.page, self.said, self.requested = context.new_page(), [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(address)
        self.shown()

    def shown(self):
        """The explorer's latent, image, probabilities and entropy, once the frame after the next is drawn."""
        return self.page.evaluate("""async () => {
            for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
            const {latent, image, probabilities, entropy} = explorer;
            return {latent: [...latent], image: [...image], probabilities, entropy};
        }""")


@pytest.fixture
def visit(chromium, address):
    context = chromium.new_context()
    yield Visit(context, address)
    context.close()


def set_blend(page, value):
    page.locator("#explorer-blend").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value)


@pytest.mark.parametrize("place", range(3))
def test_the_explorer_computes_what_python_does(visit, explored, place):
    made, judge, data = explored
    page, model = visit.page, made[place]
    page.get_by_label(model.title, exact=True).check()
    page.locator("#explorer-from").select_option("2")
    page.locator("#explorer-to").select_option("7")
    set_blend(page, 0.25)
    page.locator("#explorer-pad").focus()
    for key, times in (("ArrowRight", 12), ("ArrowDown", 7), ("ArrowLeft", 2), ("ArrowUp", 1)):
        for _ in range(times):
            page.keyboard.press(key)
    found = visit.shown()

    digits = as_float16(model.encode(data.test_images[:10])[0])
    axes = as_float16(report.explorer.principal_axes(to_host(model.encode(data.test_images)[0])))
    latent = 0.75 * digits[2] + 0.25 * digits[7] + 1.0 * axes[0] - 0.6 * axes[1]
    numpy.testing.assert_allclose(found["latent"], latent, rtol=1e-4, atol=1e-6)
    assert 1e-6 < abs(latent[1::2]).max() < 6e-5
    image = to_host(model.decode(numpy.array([found["latent"]], "float32")))
    probabilities = to_host(judge.predict_proba(image))
    numpy.testing.assert_allclose(found["image"], image[0], atol=1e-3)
    numpy.testing.assert_allclose(found["probabilities"], probabilities[0], atol=1e-3)
    assert math.isclose(found["entropy"], entropy.image_entropy(probabilities)[0], abs_tol=1e-3)
    assert image.std() > 0.1 and probabilities.std() > 0.01

    # What a reader sees is that.
    texts = page.locator("#explorer-classes .value").all_inner_texts()
    numpy.testing.assert_allclose([*map(float, texts)], probabilities[0], atol=1e-3)
    assert abs(float(page.locator("#explorer-entropy").inner_text()) - found["entropy"]) < 1e-3
    drawn = page.evaluate("""() => [...document.getElementById("explorer-image").getContext("2d")
        .getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)""")
    numpy.testing.assert_allclose(drawn, 255 * image[0], atol=1)


def box(page):
    page.locator("#explorer-pad").scroll_into_view_if_needed()
    return page.locator("#explorer-pad").bounding_box()


def test_dragging_changes_the_image(visit):
    before, place = visit.shown(), box(visit.page)
    mouse, middle = visit.page.mouse, place["y"] + place["height"] / 2
    mouse.move(place["x"] + place["width"] / 2, middle)
    mouse.down()
    mouse.move(place["x"] + place["width"] * 0.9, middle)
    dragged = visit.shown()
    assert abs(numpy.subtract(dragged["image"], before["image"])).max() > 0.05
    assert visit.page.locator("#explorer-place").inner_text() == "At 2.4 and 0.0 standard deviations"
    mouse.move(place["x"] + 2 * place["width"], middle)         # beyond the edge it stays at the edge
    assert visit.shown() != dragged
    assert visit.page.locator("#explorer-place").inner_text() == "At 3.0 and 0.0 standard deviations"
    mouse.up()
    mouse.move(place["x"], middle)
    assert visit.page.locator("#explorer-place").inner_text() == "At 3.0 and 0.0 standard deviations"
    visit.page.locator("#explorer-pad").press("Home")
    assert visit.shown() == before


def test_a_finger_moves_the_point(chromium, address):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    visit = Visit(context, address)
    before, place = visit.shown(), box(visit.page)
    visit.page.touchscreen.tap(place["x"] + place["width"] / 4, place["y"] + place["height"] / 4)
    assert visit.shown() != before
    assert visit.page.locator("#explorer-place").inner_text() == "At -1.5 and 1.5 standard deviations"
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


IS_TILE = """([column, row]) => {       // whether this tile of the map is the image
    const pixels = (name, x, y) => document.getElementById("explorer-" + name).getContext("2d")
        .getImageData(x, y, 28, 28).data;
    const tile = pixels("map", 28 * column, 28 * row), image = pixels("image", 0, 0);
    return tile[3] === 255 && tile.every((value, i) => Math.abs(value - image[i]) <= 4);
}"""


def test_the_map_shows_the_slice(visit, explored):
    page, middle, corner = visit.page, [4, 4], [0, 0]
    page.wait_for_function(IS_TILE, arg=middle)
    page.get_by_label(explored[0][1].title, exact=True).check()
    visit.shown()
    page.wait_for_function(IS_TILE, arg=middle)
    set_blend(page, 1)
    visit.shown()
    page.wait_for_function(IS_TILE, arg=middle)
    place = box(page)
    page.mouse.click(place["x"] + place["width"] / 18, place["y"] + place["height"] / 18)
    visit.shown()
    page.wait_for_function(IS_TILE, arg=corner)
    assert not page.evaluate(IS_TILE, [0, 8])


def test_the_page_is_silent_and_alone(visit, address):
    visit.page.locator("#explorer-blend").press("ArrowRight")
    visit.shown()
    assert visit.said == []
    assert [url for url in visit.requested if not url.startswith("data:")] == [address]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible(chromium, address, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    found = axe.run(Visit(context, address).page)
    assert found.violations_count == 0, found.generate_report()
    context.close()
