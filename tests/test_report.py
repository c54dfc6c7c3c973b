"""The report's page and what its explorer gets, without a browser."""

import base64
import html.parser
import json
import re
from pathlib import Path

import numpy
import pytest
import synthetic_report
from synthetic_report import AROUND, HIGHER, LOWER

from minigen import datasets, models, nn, report, to_host, training
from minigen.report import findings, page
from minigen.report.equations import EQUATIONS
from minigen.report.explorer import principal_axes
from minigen.report.items import EXAMPLES, QUESTIONS, RESULTS

VOID = {"br", "hr", "img", "input", "link", "meta"}


class Outline(html.parser.HTMLParser):
    """The ids, headings, images and addresses of a page, whose elements must be closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.headings, self.images, self.addresses, self.open = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.images += [found] if tag == "img" else []
        self.addresses += [found[name] for name in ("src", "href", "action", "srcset") if name in found]
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def outcomes(tmp_path):
    return synthetic_report.outcomes(tmp_path)


@pytest.fixture(scope="module")
def explored():
    made, judge, data = synthetic_report.explored()
    return made, judge, report.export(made, judge, data)


def test_there_is_a_section_for_everything(outcomes, explored):
    text = report.render(outcomes, explored[2], quick=False)
    outline = Outline(text)
    items = [item.key for item in (*RESULTS, *QUESTIONS)] + [equation.key for equation in EQUATIONS]
    assert set(items) <= set(outline.ids) and len(set(outline.ids)) == len(outline.ids)
    assert {f"#{key}" for key in items} <= set(outline.addresses)       # in the summary
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:]))
    for title in ("Figure 1", "Figure 2", "Figure 3", "Figure 4", "Figure 5", "Figure 6", "Figure 7 (a, b)",
                  "Figure 7 (c, d)", "Figure 8", "Table 1", *(f"Eq. {n}" for n in range(1, 8)),
                  *(f"Question {n}" for n in range(1, 6))):
        assert f'<span class="number">{title}</span>' in text, title
    assert "Missing" not in text and "quick run" not in text


def test_the_page_loads_nothing(outcomes, explored):
    text = report.render(outcomes, explored[2], quick=False)
    outline = Outline(text)
    assert len(outline.images) == sum(len(item.figures) for item in (*RESULTS, *QUESTIONS))
    assert all(image["alt"] for image in outline.images)
    assert all(address.startswith(("data:", "#")) for address in outline.addresses)
    assert "default-src 'none'" in text and not re.search(r"https?:|@import|url\(|fetch|XMLHttp", text)
    source = outline.images[0]["src"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(source) == synthetic_report.png()


def test_a_section_has_values_differences_and_how_it_was_made(outcomes):
    text = section(report.render(outcomes, None, quick=False), "table1")
    assert cells(text)[1] == ["mode entropy of the WGAN", "2.280", "2.239 (0.000)", "-0.041"]
    assert cells(text)[-1] == ["the classifier&#39;s accuracy", "95.4%", "98.0%", "+2.6 points"]
    assert "python examples/mnist_compare_models.py --seeds 2<" in text
    assert "<dd>0, 1</dd>" in text and "<dd>61 seconds</dd>" in text and "Abacus, 2 cores" in text


def section(text, key):
    return re.search(rf'<section class="item" id="{key}".*?</section>', text, re.DOTALL)[0]


def cells(text):
    body = re.search("<tbody>(.*?)</tbody>", text, re.DOTALL)[1]
    return [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]


def test_equations_have_their_docstrings(outcomes):
    text = report.render(outcomes, None, quick=False)
    assert "<code>losses.wgan_critic</code>" in text
    assert "<p>The critic&#39;s loss of Eq. 5: E D(G(z)) - E D(x).</p>" in section(text, "eq5")
    assert "2 JS(P<sub>data</sub> ‖ P<sub>G</sub>) − 2 log 2" in section(text, "eq3")


def test_prose():
    assert page.prose("a < p_i,k, ``p_i < a`` and min_G L_GAN with gan_weight") == (
        "a &lt; p<sub>i,k</sub>, <code>p_i &lt; a</code> and min<sub>G</sub> L<sub>GAN</sub> with gan_weight")


def test_a_quick_run_is_named(outcomes):
    assert "<strong>This is a quick run.</strong>" in report.render(outcomes, None, quick=True)


def test_what_is_missing_is_named(outcomes):
    outcomes["mnist_gan_vs_wgan"] = None
    text = report.render(outcomes, None, quick=False)
    notice = re.search('<p class="notice">.*?</p>', text, re.DOTALL)[0]
    assert re.findall("<code>(.*?)</code>", notice) == ["mnist_gan_vs_wgan"]
    for key in ("figure2", "figure3"):
        assert "Missing: <code>examples/mnist_gan_vs_wgan.py</code>" in section(text, key)
    assert "Missing" not in section(text, "table1") and "Missing" in text.partition('id="explorer"')[2][:500]
    Outline(text)


def test_text_is_escaped(tmp_path, outcomes):
    name, evil = "celeba_vaegan", "<script>alert(1)</script>"
    synthetic_report.write(tmp_path / "evil", name, data=evil)
    outcomes[name] = report.read(tmp_path / "evil")
    empty = {"classes": [evil], "shape": [1, 1], "classifier": [], "models": []}
    text = report.render(outcomes, empty, quick=False)
    assert evil not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in section(text, "figure7cd")
    Outline(text)


@pytest.mark.parametrize("there, kind", [(["svg", "png"], "svg+xml"), (["gif", "svg", "png"], "gif"),
                                         (["png"], "png")])
def test_the_format_of_a_figure(tmp_path, there, kind):
    for suffix in there:
        (tmp_path / f"figure.{suffix}").write_bytes(suffix.encode())
    expected = base64.b64encode(there[0].encode()).decode()
    formats = {".gif": "image/gif", ".svg": "image/svg+xml", ".png": "image/png"}
    assert page.embedded(tmp_path, "figure", formats) == f"data:image/{kind};base64,{expected}"


def test_a_figure_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="a figure with suffix .png expected, none found.*figure9"):
        page.embedded(tmp_path, "figure9", {".png": "image/png"})


def test_a_figure_that_moves_has_one_that_does_not(outcomes):
    (outcomes["mode_coverage"].folder / "ring.gif").write_bytes(b"moving")
    text = section(report.render(outcomes, None, quick=False), "coverage")
    moving, still = (base64.b64encode(content).decode() for content in (b"moving", synthetic_report.png()))
    assert re.search(rf'prefers-reduced-motion: reduce\)" srcset="data:image/png;base64,{re.escape(still)}">'
                     rf'\s*<img src="data:image/gif;base64,{re.escape(moving)}"', text)
    assert text.count("<source") == 1


def test_results_that_are_not_there(tmp_path):
    assert report.read(tmp_path / "nowhere") is None
    synthetic_report.write(tmp_path / "begun", "mode_coverage")
    (tmp_path / "begun" / "command.json").unlink()
    assert report.read(tmp_path / "begun") is None


@pytest.mark.parametrize("file, content", [("summary.json", "{"), ("command.json", "[]"),
                                           ("command.json", '{"command": "x.py"}'), ("summary.json", "7")])
def test_damaged_results_are_named(tmp_path, file, content):
    synthetic_report.write(tmp_path / "run", "mode_coverage")
    (tmp_path / "run" / file).write_text(content)
    with pytest.raises(training.RunError, match=r"run: summary.json and command.json .*; delete"):
        report.read(tmp_path / "run")


def test_the_flags_of_results_leave_out_where_they_are(tmp_path):
    synthetic_report.write(tmp_path / "a folder", "mode_coverage")
    made = json.loads((tmp_path / "a folder" / "command.json").read_text())
    made["command"] = "mode_coverage.py --seeds 3 --resume --out 'a folder' --set d=4"
    (tmp_path / "a folder" / "command.json").write_text(json.dumps(made))
    assert report.read(tmp_path / "a folder").flags == ["--seeds", "3", "--set", "d=4"]


# The verdicts

def verdict(find, name, **changes):
    return find({**synthetic_report.SUMMARIES[name], **changes}).verdict


def ends(gan, wgan):
    return {"gan": {"mode_entropy": gan}, "wgan": {"mode_entropy": wgan}}


@pytest.mark.parametrize("find", [findings.training_images, findings.training_entropies])
@pytest.mark.parametrize("gan, wgan, expected", [(0.6, 2.1, findings.AGREES), (0.8, 2.1, findings.DIFFERS),
                                                 (0.6, 1.9, findings.DIFFERS)])
def test_the_verdict_on_collapse(find, gan, wgan, expected):
    assert verdict(find, "mnist_gan_vs_wgan", **ends(gan, wgan)) == expected


def test_the_verdict_on_four_models():
    name = "mnist_compare_models"
    table = synthetic_report.SUMMARIES[name]["table1"]
    for find in (findings.four_models, findings.ten_images, findings.image_entropies):
        assert verdict(find, name) == findings.AGREES
    collapsed = {**table, "vae": {"mode_entropy": [1.0], "image_entropy": [0.1]}}
    for find in (findings.four_models, findings.ten_images, findings.image_entropies):
        assert verdict(find, name, table1=collapsed) == findings.DIFFERS


def test_the_verdict_on_two_distances():
    name = "manifold_distances"
    points = synthetic_report.SUMMARIES[name]["points"]
    assert verdict(findings.two_distances, name) == findings.AGREES
    swapped = {"y": points["z"], "z": points["y"]}
    assert verdict(findings.two_distances, name, points=swapped) == findings.DIFFERS


@pytest.mark.parametrize("interval, images, entropies", [
    (LOWER, findings.DIFFERS, findings.AGREES), (AROUND, findings.AGREES, findings.UNDECIDED),
    (HIGHER, findings.DIFFERS, findings.DIFFERS)])
def test_the_verdict_on_the_constraint(interval, images, entropies):
    difference = {"mode_entropy": interval, "image_entropy": interval}
    name = "mnist_constrained_vaegan"
    assert verdict(findings.constrained_images, name, difference=difference) == images
    assert verdict(findings.constrained_entropies, name, difference=difference) == entropies


@pytest.mark.parametrize("violation, expected", [(0.2, findings.NEW), (-2.0, findings.UNDECIDED)])
def test_the_verdict_on_the_solved_constraint(violation, expected):
    points = [{"model": "dual", "d": 4.0, "violation": violation, "multiplier": 0.5},
              {"model": "vaegan", "d": None, "violation": None, "multiplier": 9.0}]
    found = findings.solved({"points": points})
    assert found.verdict == expected and len(found.rows) == 2


@pytest.mark.parametrize("dual, hinge, expected, words", [
    (AROUND, AROUND, findings.UNDECIDED, "No way is shown"),
    (LOWER, AROUND, findings.NEW, "lower with the solved"),
    (AROUND, HIGHER, findings.NEW, "higher with the paper's hinge")])
def test_the_verdict_on_the_frontier(dual, hinge, expected, words):
    found = findings.frontier({"differences": {"dual": dual, "hinge": hinge}})
    assert found.verdict == expected and words in found.conclusion and "way is shown" in found.conclusion


def test_where_all_ways_differ_no_other_is_left():
    found = findings.frontier({"differences": {"dual": LOWER, "hinge": HIGHER}})
    assert "other" not in found.conclusion


def test_the_models_that_lose_modes_are_named():
    for gan, wgan, words in ((0.0, 2.2, "only the GAN loses modes"), (2.2, 2.2, "no model loses modes"),
                             (2.2, 1.0, "only the WGAN loses modes"), (0.0, 1.0, "GAN and WGAN lose modes")):
        summary = {"gan": {"mode_entropy": gan}, "wgan": {"mode_entropy": wgan}}
        assert f"So {words}." in findings.training_images(summary).conclusion


def test_the_verdict_on_stronger_models():
    same = dict.fromkeys(synthetic_report.QUALITIES, AROUND)
    better, worse = {**same, "frechet": LOWER}, {**same, "image_entropy": HIGHER}
    for change, wgan, conv in ((same, findings.UNDECIDED, findings.UNDECIDED),
                               (better, findings.DIFFERS, findings.AGREES),
                               (worse, findings.UNDECIDED, findings.DIFFERS),
                               (better | {"recall": LOWER}, findings.UNDECIDED, findings.PARTLY)):
        summary = {"differences": {"wgan_penalty - wgan": change, "vae_conv - vae": change}}
        assert findings.stronger_wgan(summary).verdict == wgan
        assert findings.convolution(summary).verdict == conv
    assert "better: Fréchet distance of the VAE with convolution." in findings.convolution(
        {"differences": {"vae_conv - vae": better}}).conclusion


def test_the_verdict_on_more_complicated_data():
    name = "celeba_vaegan"
    assert verdict(findings.complicated_data, name) == findings.UNDECIDED       # one seed
    around = dict.fromkeys(synthetic_report.FACES, AROUND)
    assert verdict(findings.complicated_data, name, difference=around) == findings.UNDECIDED
    assert verdict(findings.complicated_data, name, difference=around | {"recall": LOWER}) == findings.NEW


def test_every_summary_is_used():
    assert set(synthetic_report.SUMMARIES) == set(EXAMPLES)


# The explorer

def test_exported_weights_decode_as_the_models(explored):
    """By the arithmetic that explorer.js does, in NumPy."""
    made, judge, found = explored
    for model, exported in zip(made, found["models"]):
        latents = unpacked(exported["digits"]).reshape(10, -1)
        images = 1 / (1 + numpy.exp(-forward(exported["decoder"], latents)))
        numpy.testing.assert_allclose(images, to_host(model.decode(latents)), atol=5e-3)
        assert images.std() > 0.1
        logits = forward(found["classifier"], images)
        powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
        expected = to_host(judge.predict_proba(images))
        numpy.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), expected, atol=1e-3)


def unpacked(text):
    return numpy.frombuffer(base64.b64decode(text), "<f2").astype("float32")


def forward(layers, x):
    for layer in layers:
        bias = unpacked(layer["bias"])
        y = x @ unpacked(layer["weight"]).reshape(-1, len(bias)) + bias
        x = numpy.maximum(y, 0)
    return y


def test_the_explorer_starts_at_a_test_image_of_each_class(explored):
    made, _, found = explored
    assert found["classes"] == [*map(str, range(10))] and found["shape"] == (28, 28)
    _, _, data = synthetic_report.explored()
    for model, exported in zip(made, found["models"]):
        assert exported["title"] == model.title
        digits = unpacked(exported["digits"]).reshape(10, -1)
        numpy.testing.assert_allclose(digits, model.encode(data.test_images[:10])[0], rtol=1e-3, atol=1e-3)


def test_the_explorer_is_small(explored):
    found = explored[2]
    assert len(json.dumps(found)) * 3 / 4 < 3e6


def test_principal_axes(rng):
    latents = rng.standard_normal((20_000, 4)) * [0.1, 3, 0.2, 2] + 5
    expected = [[0, 3, 0, 0], [0, 0, 0, 2]]
    numpy.testing.assert_allclose(abs(principal_axes(latents)), expected, atol=0.1)


def test_only_fully_connected_networks_are_exported(explored):
    _, judge, _ = explored
    images, labels = numpy.zeros((2, 784), "float32"), numpy.array([0, 1])
    data = datasets.Dataset(images, labels, images, labels, image_shape=(28, 28, 1))
    with pytest.raises(training.ArgumentError, match="VAE: a fully connected network expected"):
        report.export([models.VAE(architecture="conv")], judge, data)
    other = models.VAE()        # the page would put a ReLU in the place of this sigmoid
    other.networks["decoder"].layers[1] = nn.Sigmoid()
    with pytest.raises(training.ArgumentError, match="VAE: a fully connected network expected"):
        report.export([other], judge, data)


def test_the_script_and_the_style_are_in_the_package():
    folder = Path(page.__file__).parent
    assert {"page.html", "style.css", "explorer.js"} <= {path.name for path in folder.iterdir()}
