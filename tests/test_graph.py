"""Drawings of graphs: what the boxes and arrows are, read back from the text and from Graphviz's picture."""

import re
import shutil
import subprocess
import sys
from html import unescape
from xml.etree import ElementTree

import numpy
import pytest
from PIL import Image

from minigen import Op, Tensor, figures, grad, losses, models, nn, no_grad, ops
from minigen.figures import graph

graphviz = pytest.mark.skipif(not shutil.which("dot"), reason="needs Graphviz")


def read(drawing):
    """The lines of text of each box, and the arrows (from, to, label) between them, by the box's number."""
    boxes, arrows = {}, []
    for line in drawing.dot.splitlines():
        if found := re.match(r"  n(\d+) \[label=<(.*)>, fillcolor=", line):
            text = re.sub(r"</?(B|FONT)( [^>]*)?>", "", found[2])
            assert int(found[1]) not in boxes
            boxes[int(found[1])] = [unescape(part) for part in text.split("<BR/>")]
        elif found := re.match(r'  n(\d+) -> n(\d+)(?: \[label="(.*)"\])?$', line):
            arrows.append((int(found[1]), int(found[2]), unescape(found[3] or "")))
    return boxes, arrows


def named_arrows(drawing):
    """The arrows with the first line of each box in place of its number."""
    boxes, arrows = read(drawing)
    return {(boxes[start][0], boxes[end][0], label) for start, end, label in arrows}


def test_a_polynomial():
    x, w = Tensor(3.0), Tensor(2.0)
    y = w * x ** 2 + 1
    drawing = graph(y, {"x": x, "w": w}, grad(y, [x, w]))
    boxes, _ = read(drawing)
    assert list(boxes.values()) == [
        ["x", "3", "gradient 12"], ["w", "2", "gradient 9"], ["power(a, 2)", "9"], ["mul(a, b)", "18"],
        ["add(a, 1)", "19"]]
    assert named_arrows(drawing) == {
        ("x", "power(a, 2)", ""), ("w", "mul(a, b)", "a"), ("power(a, 2)", "mul(a, b)", "b"),
        ("mul(a, b)", "add(a, 1)", "")}
    assert graph(y, {"x": x, "w": w}, grad(y, [x, w], create_graph=True)).dot == drawing.dot
    assert drawing.dot.count("penwidth=2.5") == 1 and re.search(r"add\(a, 1\).*penwidth", drawing.dot)


def count(y):
    """The numbers of Tensors and arrays that y was computed from, with y, and of their uses."""
    found, uses = {}, 0

    def visit(value):
        nonlocal uses
        if id(value) not in found:
            found[id(value)] = value
            for a in value.args if isinstance(value, Tensor) and value.op else ():
                if hasattr(a, "shape"):
                    uses += 1
                    visit(a)
    visit(y)
    return len(found), uses


def test_there_is_a_box_for_each_value_and_an_arrow_for_each_use(rng):
    x, noise, mask = Tensor(rng.random((4, 3))), rng.random((4, 3)), rng.random((4, 3)) > 0.5
    shared = ops.exp(x * noise) + noise
    y = ops.where(mask, shared, 2.0 * shared).sum() + shared.mean()
    second = grad((grad(y, x, create_graph=True) ** 2).sum(), x, create_graph=True).sum()
    for value in (y, second):
        boxes, arrows = read(graph(value))
        assert (len(boxes), len(arrows)) == count(value)
    assert sum(lines[0] == "exp(a)" for lines in read(graph(y))[0].values()) == 1       # shared: drawn once


def test_calls_show_numbers_and_options_but_no_defaults(rng):
    x = Tensor(rng.random((2, 3, 4)))
    for y, call in [
            (1 - x, "sub(1, b)"), (ops.sum(x, axis=1), "sum(a, axis=1)"), (x.sum(), "sum(a)"),
            (x[:, 1:], "getitem(a, index=[:, 1:])"), (x[..., ::2], "getitem(a, index=[..., ::2])"),
            (x[1], "getitem(a, index=1)"), (x[numpy.array([1, 0])], "getitem(a, index=int64 (2,))"),
            (x.reshape(6, 4), "reshape(a, shape=(6, 4))"), (x / 0.1234567, "div(a, 0.1235)"),
            (ops.clip(x, 0.0, None), "clip(a, 0)"),
            (ops.leaky_relu(x, slope=0.01), "leaky_relu(a)"),
            (ops.leaky_relu(x, slope=0.2), "leaky_relu(a, slope=0.2)"),
            (ops.concatenate([x, x], axis=2), "concatenate([0], [1], axis=2)"),
            (ops.linear(x, Tensor(numpy.ones((4, 1))), Tensor(numpy.ones(1)), activation=ops.relu),
             "linear(x, w, b, activation=relu)"),
            (ops.broadcast_to(x, (1,) * 20 + (2, 3, 4)), "broadcast_to(a, shape=(1, 1, 1, 1, 1, 1, ...))")]:
        assert [*read(graph(y))[0].values()][-1][0] == call


def test_an_op_whose_forward_function_names_no_arguments():
    sine = Op("sine(a)", numpy.sin, lambda g, y, a: g)
    assert [lines[0] for lines in read(graph(sine(Tensor(0.0))))[0].values()] == ["Tensor", "sine([0])"]


def test_values_shapes_and_ranges():
    x, few = Tensor(numpy.arange(7.0) / 3), Tensor([[1.23456, 2.0], [3.0, -4e-5]], "float64")
    mask, infinite = numpy.arange(7) > 2, numpy.full(7, numpy.inf)
    ones = numpy.ones(7)
    y = ops.where(mask, x * ones + infinite, few.sum()) * numpy.arange(7)
    names = {"x": x, "few": few, "mask": mask, "infinite": infinite, "ones": ones, "y": y}
    lines = {first: rest for first, *rest in read(graph(y, names))[0].values()}
    assert lines == {
        "x": ["(7,)", "0 to 2"], "few": ["(2, 2)", "[[1.235, 2], [3, -4e-05]]"], "mask": ["(7,)"],
        "infinite": ["(7,)", "NaN or infinite"], "ones": ["(7,)", "all 1"],
        "add(a, b)": ["(7,)", "NaN or infinite"], "sum(a)": ["6.235"],
        "where(condition, a, b)": ["(7,)", "NaN or infinite"],
        "mul(a, b)": ["(7,)", "0 to 2"], "array": ["(7,)", "0 to 6"],
        "y": ["mul(a, b)", "(7,)", "NaN or infinite"]}
    gradients = [numpy.ones((2, 2)), None]
    boxes = read(graph(y, {"few": few, "x": x}, gradients, values=False))[0].values()
    assert ["x", "(7,)"] in boxes
    assert ["few", "(2, 2)", "gradient (2, 2)"] in boxes and ["sum(a)", "()"] in boxes


def test_layers_hide_their_parameters(rng):
    critic = nn.Sequential(nn.Linear(2, 8, rng=rng), nn.ReLU(), nn.Linear(8, 1, rng=rng))
    x = rng.random((5, 2), dtype="float32")
    drawing = graph(critic(x).mean(), {"x": x}, layers={"critic": critic})
    assert [lines[:2] for lines in read(drawing)[0].values()] == [
        ["x", "(5, 2)"], ["critic.layers.0", "linear(x, activation=relu)"], ["critic.layers.2", "linear(x)"],
        ["mean(a)", read(drawing)[0][3][1]]]
    assert len(read(drawing)[1]) == 3
    bias = critic[2].bias
    drawing = graph(critic(x).mean(), {"bias": bias}, [numpy.ones(1, "float32")], layers={"critic": critic})
    boxes, arrows = read(drawing)
    assert re.findall("<B>bias</B>.*fillcolor=(.*), ", drawing.dot) == ['"#cfe5f5"']      # a leaf, no array
    assert ["bias", "(1,)", "[0]", "gradient [1]"] in boxes.values() and len(arrows) == 4
    assert ["critic.layers.2", "linear(x, b)", "(5, 1)"] in [lines[:3] for lines in boxes.values()]


def test_what_one_layer_alone_computes_is_its_own_but_the_result_is_drawn(rng):
    layer = nn.Linear(3, 2, rng=rng)
    x = Tensor(rng.random((4, 3), dtype="float32"))
    slope = grad((layer(x) ** 2).sum(), x, create_graph=True)
    boxes, _ = read(graph(slope, layers={"layer": layer}))
    calls = [lines[1] for lines in boxes.values() if lines[0] == "layer"]
    assert calls == ["linear(x)", "matmul(a)"]                  # transposed weights are in the box
    turned = layer.weight.T
    arrows = named_arrows(graph(x @ turned.T, {"x": x, "turned": turned}, layers={"layer": layer}))
    assert arrows == {("x", "layer", "")}
    decay = (layer.weight ** 2).sum()
    assert [lines[:2] for lines in read(graph(decay, layers={"layer": layer}))[0].values()] == [
        ["layer", "sum()"]]


def test_a_layers_own_arrays_are_not_drawn_unless_they_are_its_input_or_have_a_name(rng):
    blend = Op("blend(x, w, extra)", lambda x, w, extra: x * w + extra,
               lambda g, y, x, w, extra: g * w, lambda g, y, x, w, extra: g * x)
    layer, array, extra = nn.Linear(3, 3, bias=False, rng=rng), numpy.ones(3, "float32"), numpy.zeros((3, 3))
    extra = extra.astype("float32")

    def drawn(x, **names):
        return [lines[0] for lines in read(graph(blend(x, layer.weight, extra), names,
                                                 layers={"layer": layer}))[0].values()]
    assert drawn(Tensor(array)) == ["Tensor", "layer"]
    assert drawn(Tensor(array), extra=extra) == ["Tensor", "extra", "layer"]
    assert drawn(array) == ["array", "array", "layer"]


def test_a_vae_by_layer_has_a_box_per_layer_and_no_parameters(rng):
    model = models.VAE(architecture="larsen", width=0.02, latent=3)
    images = rng.random((2, 64, 64, 3), dtype="float32")
    mu, logvar = model.posterior(images)
    decoded = model.networks["decoder"](model.latents(mu, logvar, rng))
    loss = losses.vae(losses.squared_error(images, decoded), losses.gaussian_kl(mu, logvar))
    drawing = graph(loss, {"images": images}, layers=model.networks)
    owners = {f"{role}.{name}".rpartition(".")[0] for role, network in model.networks.items()
              for name, _ in network.named_parameters()}
    firsts = [lines[0] for lines in read(drawing)[0].values()]
    assert sorted(name for name in firsts if name in owners) == sorted(owners)
    assert firsts.count("array") == 1 and "Tensor" not in firsts    # the noise; no statistics of BatchNorm
    everything = len(read(graph(loss))[0])
    hidden = sum(len(network.parameters()) for network in model.networks.values())
    stats = sum(name.endswith("running_mean") for network in model.networks.values()
                for name in network.state())
    assert len(firsts) == everything - hidden - stats


def test_a_network_is_one_box_for_each_pass(rng):
    model = models.VAEGAN(architecture="larsen", width=0.02, latent=3)
    images = rng.random((2, 64, 64, 3), dtype="float32")
    D = model.networks["discriminator"]
    mu, logvar = model.posterior(images)
    decoded = model.networks["decoder"](model.latents(mu, logvar, rng))
    features = D.features(decoded)
    loss = (losses.squared_error(D.features(images), features) + losses.gan_generator(D.head(features))
            + losses.gaussian_kl(mu, logvar).mean())
    names = {"images": images, "mu": mu, "logvar": logvar, "decoded": decoded, "features": features}
    drawing = graph(loss, names, networks=model.networks)
    boxes, _ = read(drawing)
    firsts = [lines[0] for lines in boxes.values()]
    assert {name: firsts.count(name) for name in model.networks} == {
        "encoder": 1, "decoder": 1, "discriminator": 2}
    layered = read(graph(loss, names, layers=model.networks))[0]
    one = [int(lines[1].removesuffix(" ops")) for lines in boxes.values() if lines[0] in model.networks]
    assert sum(one) - len(one) == len(layered) - len(boxes)         # the ops that are no longer boxes
    arrows = named_arrows(drawing)
    assert {(start, end) for start, end, _ in arrows if {start, end} & {*model.networks}} == {
        ("images", "encoder"), ("encoder", "mu"), ("encoder", "logvar"),
        ("sampled(mu, logvar, noise)", "decoder"), ("decoder", "decoded"), ("decoded", "discriminator"),
        ("images", "discriminator"),
        ("discriminator", "squared_error(x, y, share=0.5)"), ("discriminator", "neg(a)")}


def test_the_layers_of_one_network_beside_another_in_one_box(rng):
    first, second = (nn.Sequential(nn.Linear(2, 3, rng=rng), nn.LeakyReLU(), nn.Linear(3, 2, rng=rng))
                     for _ in range(2))
    y = second(first(Tensor(rng.random((4, 2), dtype="float32"))))
    drawing = graph(y, layers={"first": first}, networks={"second": second})
    assert [lines[:2] for lines in read(drawing)[0].values()] == [
        ["Tensor", "(4, 2)"], ["first.layers.0", "linear(x)"], ["leaky_relu(a)", "(4, 3)"],
        ["first.layers.2", "linear(x)"], ["second", "3 ops"]]
    assert drawing.dot.count("penwidth=2.5") == 1


def test_branches_are_in_the_box_of_their_network_and_what_comes_from_outside_is_not(rng):
    net = nn.Sequential(*(nn.Linear(3, 3, rng=rng) for _ in range(4)))
    x, outside = (Tensor(rng.random((4, 3), dtype="float32")) for _ in range(2))
    h = net[0](x)
    residual = net[1](h) + h
    for y, boxes in [
            (net[3](residual), ["Tensor", "net 4 ops"]),
            (net[1](h) + net[2](h), ["Tensor", "net 3 ops", "add(a, b)"]),
            (net[3](residual + outside), [
                "Tensor", "Tensor", "net 2 ops", "add(a, b)", "add(a, b)", "net linear(x)"])]:
        found = [" ".join(lines[:1 + (lines[0] == "net")]) for lines in read(graph(
            y, networks={"net": net}))[0].values()]
        assert sorted(found) == sorted(boxes)


def test_a_second_pass_through_a_network_is_a_second_box(rng):
    net = nn.Sequential(nn.Linear(2, 2, rng=rng), nn.ReLU(), nn.Linear(2, 2, rng=rng))
    x = Tensor(rng.random((1, 2), dtype="float32"))
    h = net(x)
    for y, number in ((net(net(x)), 2), (h * h + net(h), 2), (net(net(h)), 3)):
        found = [lines[0] for lines in read(graph(y, networks={"net": net}))[0].values()]
        assert found.count("net") == number


def test_the_same_computation_has_the_same_drawing(rng):
    def made():
        x = Tensor(numpy.ones(3))
        return graph((x * 2 + x * numpy.ones(3)).sum(), {"x": x}).dot
    assert made() == made()


NASTY = 'a<b> & "c" \\N \\ \' \n\x00 \u00e9 }{|'


@graphviz
def test_graphviz_draws_every_name_as_it_is(tmp_path):
    x = Tensor(1.0)
    drawing = graph(x * 2, {NASTY: x})
    texts = [element.text for element in ElementTree.fromstring(drawing.svg()).iter()
             if element.tag.endswith("text")]
    shown = "".join(c if c.isprintable() else " " for c in NASTY)
    assert [" ".join(text.split()) for text in texts] == [" ".join(shown.split()), "1", "mul(a, 2)", "2"]


@graphviz
def test_graphviz_has_the_boxes_and_the_arrows(rng):
    x = Tensor(rng.random((2, 2)))
    drawing = graph((x @ x).sum(), {"x": x})
    plain = subprocess.run(["dot", "-Tplain"], input=drawing.dot, capture_output=True, text=True, check=True)
    kinds = [line.split()[0] for line in plain.stdout.splitlines()]
    boxes, arrows = read(drawing)
    assert (kinds.count("node"), kinds.count("edge")) == (len(boxes), len(arrows)) == (3, 3)


@graphviz
def test_saved_pictures(tmp_path):
    x = Tensor(1.0)
    drawing = graph(x * 2)
    begins = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG", ".dot": b"digraph"}
    for suffix, content in begins.items():
        path = tmp_path / f"graph{suffix}"
        drawing.save(path)
        assert path.read_bytes().startswith(content)
    width = re.search('<svg width="(\\d+)pt"', drawing.svg())
    with Image.open(tmp_path / "graph.png") as picture:
        assert picture.width == pytest.approx(int(width[1]) * 192 / 72, rel=0.05)
    assert drawing._repr_svg_() == drawing.svg() and ElementTree.fromstring(drawing.svg()) is not None
    with pytest.raises(ValueError, match=r"ends in .svg, .pdf, .png or .dot expected, '.*x.jpg' found"):
        drawing.save(tmp_path / "x.jpg")


def test_without_graphviz_there_is_the_text(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    drawing = graph(Tensor(1.0) * 2)
    assert drawing._repr_svg_() is None and repr(drawing) == drawing.dot
    drawing.save(str(tmp_path / "graph.dot"))
    assert (tmp_path / "graph.dot").read_text() == drawing.dot
    for draw in (drawing.svg, lambda: drawing.save(tmp_path / "graph.png")):
        with pytest.raises(OSError, match="dot is not installed: install Graphviz, or take the text"):
            draw()


def test_a_graphviz_that_fails_is_quoted(tmp_path, monkeypatch):
    program = tmp_path / "dot"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('Format: \"pdf\" not recognized')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match='cannot draw this as pdf: Format: "pdf" not recognized'):
        graph(Tensor(1.0) * 2).save(tmp_path / "x.pdf")


X = Tensor([1.0, 2.0])


@pytest.mark.parametrize("arguments, error, message", [
    ((numpy.ones(3),), TypeError, "a Tensor y expected, ndarray found"),
    ((X,), ValueError, "y was not recorded"),
    ((X * 2, [X]), TypeError, "names: a dict of Tensors or arrays by name expected, list found"),
    ((X * 2, {"x": 3}), TypeError, "names: Tensors or arrays by name expected, 'x': int found"),
    ((X * 2, {3: X}), TypeError, "names: Tensors or arrays by name expected, 3: Tensor found"),
    ((X * 2, {"x": X}, X.data), ValueError, "a list of 1, one for each of names, expected, ndarray found"),
    ((X * 2, {"x": X}, []), ValueError, "a list of 1, one for each of names, expected, 0 found"),
    ((X * 2, None, [X.data]), ValueError, "a list of 0, one for each of names, expected, 1 found"),
    ((X * 2, {"x": X}, [numpy.ones(3)]), ValueError, r"\(2,\) expected for x, \(3,\) found"),
    ((X * 2, {"x": X}, [1.0]), ValueError, r"\(2,\) expected for x, float found")])
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^graph: .*{message}"):
        graph(*arguments)


def test_wrong_layers():
    with pytest.raises(TypeError, match="graph: layers: modules by name expected, 'x': Tensor found"):
        graph(X * 2, layers={"x": X})


def test_what_is_no_longer_there():
    x = Tensor([1.0, 2.0])
    with no_grad(), pytest.raises(ValueError, match="outside no_grad"):
        graph((x * 2).sum())
    y = (x * 2).sum()
    grad(y, x, retain_graph=False)
    with pytest.raises(RuntimeError, match="a part of y's graph was freed, as an optimiser's step does"):
        graph(y)
    y = (x * 2).sum()
    x.data = x.data + 1
    with pytest.raises(RuntimeError, match="an argument of mul was changed after this graph was recorded"):
        graph(y)


def test_the_package_has_both_names():
    assert figures.graph is graph and isinstance(graph(X * 2), figures.Graph)
