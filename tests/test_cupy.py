"""What runs on CuPy, without a GPU: on a strict stand-in, see strict_cupy.py."""

import importlib
import json
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest
import strict_cupy
import threadpoolctl
from cases import (CASES, CONVOLUTIONAL, MODELS, assert_same_judgement, assert_same_steps, batches, build,
                   every_model, every_op, judged, samples_and_reconstructions, steps, value_and_gradients)
from hypothesis import given
from hypothesis import strategies as st
from strict_cupy import counts

from minigen import (backend, comparison, core, datasets, figures, kernels, losses, nn, ops, optim, ranks,
                     storage, threads, training)
from minigen.backend import to_device, to_host, xp
from minigen.core import Op, Tensor, grad
from minigen.gradcheck import check_grad, check_subgradient
from minigen.metrics import classifier, entropy, frechet, intervals, kernel, modes, neighbours

ROOT = Path(__file__).parent.parent


@contextmanager
def on_device():
    """Within this context minigen computes with the stand-in; its counts begin at 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", strict_cupy.cupy)
        backend.use("cupy")
        counts.reset()
        try:
            yield
        finally:
            backend.use("numpy")


@pytest.fixture
def device():
    with on_device():
        yield


@every_op
@given(data=st.data())
def test_every_op_and_its_gradients(op, data):
    args, options = data.draw(CASES[op][0]())
    expected = value_and_gradients(op, args, options)
    with on_device():
        found = value_and_gradients(op, args, options, moved_there=counts.reset)
        masked = getattr(options.get("index"), "dtype", None) == bool
        over_host = op is core.all_mean         # by way of MPI
        assert masked or over_host or counts.synchronisations == 0
        assert isinstance(options.get("index"), (list, tuple)) or over_host or counts.copies_to_device == 0
        assert all(type(a) is strict_cupy.ndarray for a in found)
        found = list(map(to_host, found))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        numpy.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@every_model
def test_a_step_waits_for_nothing_and_copies_only_the_noise(model, device, monkeypatch):
    on_gpu, drawn, share = build(model), [], ranks.share
    on_gpu.step(to_device(batches(model, 1)[0]), numpy.random.default_rng(0))       # checks the first batch
    # Whatever is drawn goes through here: latents, and the places between real and generated images.
    monkeypatch.setattr(ranks, "share", lambda rows: (drawn.append(1), share(rows))[1])
    for images in map(to_device, batches(model, 2)):
        counts.reset()
        drawn.clear()
        result = on_gpu.step(images, numpy.random.default_rng(0))
        assert (counts.synchronisations, counts.copies_to_device) == (0, len(drawn)) and drawn
        assert all(type(value) is strict_cupy.ndarray and value.shape == () for value in result.values())


@every_model
def test_steps_are_those_of_numpy(model):
    expected = steps(model)
    with on_device():
        found = steps(model)
    assert_same_steps(found, expected, rounded=model in CONVOLUTIONAL.values())


@every_model
def test_samples_and_reconstructions_are_those_of_numpy(model):
    expected = samples_and_reconstructions(model)
    with on_device():
        found = samples_and_reconstructions(model)
        assert all(type(array) is strict_cupy.ndarray for array in found)
        for array, known in zip(found, expected, strict=True):
            numpy.testing.assert_allclose(to_host(array), known, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["wgan", "constrained", "dual", "penalty", "larsen-similarity"])
def test_a_checkpoint_goes_from_either_to_the_other(name, tmp_path):
    model, path = MODELS[name], tmp_path / "state.npz"

    def written(seed):
        _, state = steps(build(model, seed=seed))
        storage.save(path, state)
        return state

    def read():
        other = build(model, seed=99)
        other.load_state(storage.load(path))
        loaded = other.state()
        other.step(to_device(batches(model, 1)[0]), numpy.random.default_rng(0))      # goes on
        return loaded

    def same(one, other):
        return one.keys() == other.keys() and all((one[key] == other[key]).all() for key in one)
    with on_device():
        state = written(1)
    assert same(state, read())
    state = written(2)
    with on_device():
        assert same(state, read())


def train(model, out, iterations, **options):
    images = numpy.concatenate(batches(model, 4))
    shape = None if images.ndim == 4 else (4, 4)
    return training.train(build(model), images, iterations=iterations, batch_size=4, out=out, sample_at=[2],
                          samples=4, image_shape=shape, **options)


@pytest.mark.parametrize("name", ["non-saturating", "vaegan", "dual", "larsen-vaegan"])
def test_training_and_resuming(name, tmp_path, device):
    def halved(images, rng):
        return images * numpy.float32(rng.choice([0.5, 1]))
    options = {"prepare": halved, "log_every": 3, "checkpoint_every": 5}
    straight = train(MODELS[name], tmp_path / "straight", 8, **options)
    train(MODELS[name], tmp_path / "resumed", 5, **options)
    resumed = train(MODELS[name], tmp_path / "resumed", 8, resume=True, **options)
    assert straight.config()["environment"]["backend"] == "cupy"
    one, other = (training.load(run.folder).state() for run in (straight, resumed))
    assert one.keys() == other.keys() and all((one[key] == other[key]).all() for key in one)
    assert [record["iteration"] for record in straight.metrics()] == [3, 6, 8]
    assert len(straight.samples()) == 1


def test_training_waits_when_it_logs_draws_and_saves(tmp_path, device):
    """Losses are looked at for ten lines of progress and, if that is not such a line, before the grid."""
    waits, copies = set(), set()
    for iterations, looks in ((20, 10), (30, 11), (40, 11)):
        counts.reset()
        train(MODELS["non-saturating"], tmp_path, iterations, overwrite=True)
        waits.add(counts.synchronisations - looks)
        copies.add(counts.copies_to_device - 2 * iterations)        # images and noise of each step
    arrays = len([value for value in build(MODELS["non-saturating"]).state().values() if value.shape])
    assert len(waits) == len(copies) == 1
    # The state at the start, before the grid and in the checkpoint, and the grid; the rehearsal's is copied
    # and read back. The first batch of the rehearsal and that of the training are checked.
    assert 3 * arrays + 1 < waits.pop() <= 5 * arrays + 2 + 4


def test_layers_optimisers_and_clipping(device, monkeypatch):
    monkeypatch.setattr(optim, "_TIDY_EVERY", 1)
    rng = numpy.random.default_rng(0)
    network = nn.Sequential(nn.Linear(3, 4, rng=rng), nn.BatchNorm(4), nn.LeakyReLU(0.2),
                            nn.Linear(4, 2, rng=rng, bias=False), nn.Tanh())
    x = to_device(rng.random((5, 3), dtype="float32"))
    for kind in (optim.SGD, optim.RMSProp, optim.Adam):
        optimizer = kind(network.parameters(), 0.1)
        counts.reset()
        loss = losses.softmax_cross_entropy(network(x), numpy.array([0, 1, 1, 0, 1]))
        optimizer.step(grad(loss, optimizer.parameters))
        optim.clip_weights(optimizer.parameters, 0.2)
        assert (counts.synchronisations, counts.copies_to_device) == (0, 1)         # the labels
        assert all(abs(to_host(p.data)).max() <= numpy.float32(0.2) for p in optimizer.parameters)
        optimizer.load_state(optimizer.state())
    network.eval()
    assert network(x).shape == (5, 2) and repr(network(x)).startswith("Tensor([[")


def test_dual_ascent(device):
    dual, violation = optim.DualAscent(0.5, start=1.0), to_device(numpy.array(0.5, "float32"))
    l_gan = to_device(numpy.ones(3, "float32"))
    counts.reset()
    dual.ascend(violation)
    dual.ascend(Tensor(violation))
    loss = losses.lagrangian(Tensor(violation), l_gan, 0.5, dual.multiplier.data)
    assert (counts.synchronisations, counts.copies_to_device) == (0, 0)
    assert type(dual.multiplier.data) is strict_cupy.ndarray and dual.multiplier.item() == 1.5
    assert loss.item() == 1.25 and loss.dtype == "float32"
    dual.ascend(-9)
    assert dual.multiplier.item() == 0
    other = optim.DualAscent(0.1)
    other.load_state({**dual.state(), "multiplier": numpy.array(2.0, "float32")})
    assert type(other.multiplier.data) is strict_cupy.ndarray and other.multiplier.item() == 2


def test_points_are_checked_on_the_device(device):
    model = build(MODELS["points"])
    x = batches(model, 1)[0]
    for spoilt, message in ((numpy.where(x == x[3, 1], numpy.nan, x), "NaN or more than"), (x[:, :1], "1")):
        with pytest.raises(ValueError, match=f"^WGAN: points .* expected, .*{message}"):
            model.step(to_device(spoilt.astype("float32")), numpy.random.default_rng(0))


def test_activations_batchnorm_and_updates_are_few_kernels(device):
    x, p = to_device(numpy.ones((4, 3), "float32")), Tensor(to_device(numpy.ones((4, 3), "float32")))
    for activation in (ops.relu, ops.sigmoid, ops.tanh):
        counts.reset()
        activation(x)
        assert counts.fused == 1
    for optimizer in (optim.SGD([p], 0.1), optim.RMSProp([p], 0.1), optim.Adam([p]),
                      optim.Adam([p], beta1=0.0)):
        counts.reset()
        optimizer.step([x])
        assert counts.fused == 1
    layer = nn.BatchNorm(3)
    counts.reset()
    y = layer(p)
    assert counts.fused == 5        # the variance, both moments in a row, the output, the running statistics
    grad(ops.sum(y), p)
    assert counts.fused == 10       # the distance, a sum, both in one array, two gradients


def test_all_parameters_of_an_optimiser_are_parts_of_one_row(device):
    rng = numpy.random.default_rng(0)
    shapes = [(3, 4), (4,), (2, 3, 2), (1,), ()]
    parameters = [Tensor(to_device(rng.normal(size=shape).astype("float32"))) for shape in shapes]
    gradients = [to_device(rng.normal(size=shape).astype("float32")) for shape in shapes]
    optimizer = optim.SGD(parameters, 0.5)
    expected = [to_host(p.data) - 0.5 * to_host(g) for p, g in zip(parameters, gradients)]
    for joins in (2, 1):        # gradients, and at first parameters, are brought into a row
        counts.reset()
        optimizer.step(gradients)
        assert counts.fused == joins + 1
        row = kernels.whole([p.data for p in parameters])
        assert row.shape == (30,)
        for p, values in zip(parameters, expected):
            numpy.testing.assert_allclose(to_host(p.data), values, rtol=1e-6)
        expected = [to_host(p.data) - 0.5 * to_host(g) for p, g in zip(parameters, gradients)]
    before = [to_host(p.data).copy() for p in parameters]
    counts.reset()
    optim.clip_weights(parameters, 0.25)
    assert counts.fused == 0 and kernels.whole([p.data for p in parameters]) is not None
    for p, values in zip(parameters, before):
        assert (to_host(p.data) == values.clip(-0.25, 0.25)).all() and p.shape == values.shape
    # Any other order, a part that is missing or was replaced: no row.
    arrays = [p.data for p in parameters]
    assert kernels.whole(arrays[::-1]) is kernels.whole(arrays[:-1]) is kernels.whole(arrays[1:]) is None
    parameters[1].data = numpy.zeros(4, "float32")
    assert kernels.whole([p.data for p in parameters]) is None
    optimizer.step(gradients)
    numpy.testing.assert_allclose(to_host(parameters[1].data), -0.5 * to_host(gradients[1]), rtol=1e-6)


def test_only_elementwise_functions_are_fused(device):
    x = to_device(numpy.ones(3, "float32"))
    for function in (lambda a: xp.sum(a) + 1, lambda a: xp.max(a), lambda a: a[0], lambda a: a.sum(),
                     lambda a: a if a else 0):
        function.__name__ = "wrong"
        with pytest.raises(TypeError, match="cannot be part of a fused kernel, minigen_wrong"):
            kernels.fused(function)(x)
    with pytest.raises(TypeError, match="Invalid argument type for 'minigen_wrong'"):
        kernels.fused(function)(x, numpy.ones(3))


def test_arrays_that_numpy_works_on_in_blocks():
    def trained():
        rng = numpy.random.default_rng(0)
        network = nn.Sequential(nn.Linear(600, 900, rng=rng, bias=False), nn.BatchNorm(900), nn.ReLU(),
                                nn.Linear(900, 600, rng=rng), nn.Sigmoid())
        images = to_device(rng.random((900, 600), dtype="float32"))
        optimizer = optim.SGD(network.parameters(), 0.01)
        for _ in range(2):
            optimizer.step(grad(losses.squared_error(images, network(images)), optimizer.parameters))
        return [to_host(p.data) for p in optimizer.parameters] + list(optimizer.state().values())
    expected = trained()
    with on_device():
        found = trained()
    for one, other in zip(found, expected, strict=True):
        numpy.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * abs(other).max())


def test_one_thread_drives_a_gpu(monkeypatch):
    """However many processors there are: work that is cut into pieces for them would be as many small kernels
    there."""
    monkeypatch.setattr(threads, "_blas_threads", lambda: 8)
    assert threads.count() == 8
    with on_device():
        assert threads.count() == 1
        found = []
        threads.parallel(lambda job: found.append(threading.current_thread()), range(8))
    assert found == [threading.main_thread()] * 8


def test_gradients_are_checked_on_the_device(device):
    x = numpy.linspace(-1, 1, 6).reshape(2, 3)
    check_grad(lambda x: ops.tanh(x @ x.T), [x], order=2)
    check_subgradient(ops.max, x)
    with pytest.raises(AssertionError, match="check_grad: order 1"):
        check_grad(Op("wrong(a)", lambda a: a * a, lambda g, y, a: g * a), [x])


def test_classifier_and_entropies():
    expected = judged()
    with on_device():
        assert_same_judgement(judged(), expected)


def test_features_of_images():
    images = numpy.random.default_rng(0).random((3, 64, 64, 3), dtype="float32")
    expected = frechet.features(images)
    with on_device():
        for found in (frechet.features(images), frechet.features(to_device(images))):
            numpy.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("measure", [entropy.mode_entropy, entropy.corrected_mode_entropy,
                                     intervals.confidence_interval, intervals.bootstrap])
def test_labels_and_values_on_the_device(measure):
    values = numpy.random.default_rng(0).integers(0, 10, 50)
    expected = measure(values)
    with on_device():
        assert measure(to_device(values)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("compare", [frechet.distance, kernel.distance, neighbours.measure])
def test_sets_of_features_on_the_device(compare):
    rng = numpy.random.default_rng(0)
    first, second = rng.normal(size=(20, 3)), rng.normal(size=(15, 3))
    expected = compare(first, second)
    with on_device():
        assert compare(to_device(first), Tensor(to_device(second))) == expected
        assert counts.copies_to_device == 2     # those of the test


def test_the_coverage_of_modes(tmp_path):
    data, judge = datasets.grid(500), classifier.Classifier(sizes=(4, 3))
    images = numpy.random.default_rng(0).random((40, 12), dtype="float32")

    def covered():
        labels = modes.stacked_labels(judge, to_device(images))
        return (modes.point_coverage(to_device(data.points), data.centres, data.sigma),
                modes.label_coverage(labels, 27), to_host(labels).tolist())
    expected = covered()
    with on_device():
        judge = classifier.Classifier(sizes=(4, 3))
        assert covered() == expected
        figures.point_clouds(tmp_path / "x.png", {"GAN": to_device(data.points)}, data.centres, "title",
                             radius=1)
        figures.gif(tmp_path / "x.gif", [to_device(images)], 0.1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def run(device, monkeypatch, tmp_path, cache, capsys, coarse):
    """Run an example with --gpu, and check that all its models were trained on the device."""
    def call(example, flags, **constants):
        monkeypatch.delitem(sys.modules, example, raising=False)        # it may know other SAMPLES
        module = importlib.import_module(example)
        for constant, value in constants.items():
            monkeypatch.setattr(module, constant, value)
        common = ["--gpu", "--batch-size", "16", "--iterations", "2", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["x", *common, *flags])
        backend.use("numpy")        # the flag is to choose the device
        with threadpoolctl.threadpool_limits(1):    # several times faster where others use the processors too
            module.main()
        assert backend.name() == "cupy" and (tmp_path / "summary.json").exists()
        assert str(tmp_path) in capsys.readouterr().out
        configs = [json.loads(path.read_text()) for path in tmp_path.glob("*/config.json")]
        assert configs and all(config["environment"]["backend"] == "cupy" for config in configs)
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setenv("MINIGEN_CACHE", cache)
    return call


@pytest.mark.parametrize("example, flags", [("mnist_gan_vs_wgan", []),
                                            ("mnist_compare_models", ["--seeds", "1"]),
                                            ("mnist_constrained_vaegan", ["--seeds", "2"])])
def test_mnist_examples(example, flags, run, small_mnist, monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLES", 100)
    run(example, ["--data", str(small_mnist), "--jobs", "1", *flags])


def test_celeba_example(run, monkeypatch):
    data = datasets.faces(40, 10)
    monkeypatch.setattr(datasets, "faces", lambda: data)
    flags = ["--width", "0.03", "--jobs", "1", "--set", "learned_similarity=True"]
    run("celeba_vaegan", flags, HELD_OUT=10)


def test_the_stand_in_refuses_what_cupy_refuses(device):
    xp, x, host = strict_cupy.cupy, to_device(numpy.ones((2, 3), "float32")), numpy.ones((2, 3), "float32")
    errors = (TypeError, ValueError, AttributeError, IndexError, NotImplementedError)
    for mistake, message in (
            (lambda: x + host, "Unsupported type"),
            (lambda: host * x, "Unsupported type"),
            (lambda: xp.concatenate([x, host]), "Unsupported type"),
            (lambda: ops.add(Tensor(x), host), "Unsupported type"),
            (lambda: numpy.asarray(x), "Implicit conversion"),
            (lambda: xp.sum(x, where=True), "unexpected keyword"),
            (lambda: x.max(initial=0), "unexpected keyword"),
            (lambda: xp.exp(x, where=True), "Wrong arguments"),
            (lambda: xp.add(x, [1, 2, 3]), "Unsupported type"),
            (lambda: xp.einsum_path, "no attribute"),
            (lambda: xp.multiply.at(x, 0, x), "not supported yet"),
            (lambda: x.__setitem__(0, host[0]), "cannot be used"),
            (lambda: x.__setitem__([0, 0], 1.0), "twice"),
            (lambda: x[[5]], "out of bounds"),
            (lambda: range(x[0, 0]), "integer")):
        with pytest.raises(errors, match=message):
            mistake()
    assert (counts.synchronisations, counts.copies_to_device) == (0, 3)        # x, and two indices


@pytest.mark.parametrize("wait", [
    lambda x: x.get(), lambda x: x[0].item(), lambda x: float(x[0]), lambda x: int(x[0]), bool,
    lambda x: x.tolist(), repr, lambda x: x[x > 0], lambda x: strict_cupy.cupy.nonzero(x),
    lambda x: strict_cupy.cupy.asnumpy(x), lambda x: 1 if x > 0 else 2, to_host,
    lambda x: Tensor(x[0]).item()])
def test_the_stand_in_counts_synchronisations(wait, device):
    x = strict_cupy.cupy.ones(1, "float32")
    assert len(x) == 1 and x.shape == (1,) and counts.synchronisations == 0
    wait(x)
    assert counts.synchronisations == 1


def test_a_graph_is_drawn_as_on_the_host():
    def drawn():
        array = to_device(numpy.arange(6, dtype="float32").reshape(2, 3))
        x = Tensor(array)
        y = (x * array).sum()
        return figures.graph(y, {"x": x, "array": array}, [grad(y, x), None]).dot
    expected = drawn()
    with on_device():
        assert drawn() == expected
