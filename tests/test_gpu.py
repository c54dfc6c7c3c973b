"""NumPy against CuPy on a CUDA device: every op, every model, every optimiser. Skipped, with the reason,
where there is none."""

import importlib
import time
import warnings

import numpy
import pytest
from cases import (CASES, MODELS, assert_close, assert_same_judgement, assert_same_steps, batches, build,
                   every_model, every_op, judged, samples_and_reconstructions, steps, value_and_gradients)
from hypothesis import given, settings
from hypothesis import strategies as st
from short_runs import run

from minigen import backend, models, nn, ops, optim, storage, threads, training
from minigen.backend import to_device, to_host
from minigen.core import Tensor, grad
from minigen.metrics import entropy, frechet

pytestmark = pytest.mark.gpu
try:
    backend.use("cupy")
except backend.BackendError as error:
    pytest.skip(str(error), allow_module_level=True)
finally:
    backend.use("numpy")


def on_both(compute):
    """What ``compute`` returns with NumPy and with CuPy."""
    results = [compute()]
    backend.use("cupy")
    try:
        results.append(compute())
    finally:
        backend.use("numpy")
    return results


@every_op
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-3), ("float64", 1e-12)])
@settings(max_examples=5)
@given(data=st.data())
def test_every_op_and_its_gradients(op, dtype, tolerance, data):
    args, options = data.draw(CASES[op][0]())

    def computed():
        return list(map(to_host, value_and_gradients(op, args, options, dtype)))
    for one, other in zip(*on_both(computed), strict=True):
        assert_close(one, other, tolerance)


@every_model
def test_a_step(model, monkeypatch):
    # Adam and RMSProp would blow the rounding errors of tiny gradients up to whole steps.
    monkeypatch.setattr("minigen.models.gan.Adam", lambda parameters, lr, beta1: optim.SGD(parameters, 0.01))
    monkeypatch.setattr("minigen.models.wgan.RMSProp", lambda parameters, lr: optim.SGD(parameters, 0.01))
    monkeypatch.setattr("minigen.models.wgan.Adam", lambda parameters, lr, **_: optim.SGD(parameters, 0.01))
    monkeypatch.setitem(optim.OPTIMIZERS, "Adam", lambda parameters, lr: optim.SGD(parameters, 0.01))
    assert_same_steps(*on_both(lambda: steps(model, 1)), rounded=True)


@pytest.mark.parametrize("kind", optim.OPTIMIZERS.values())
def test_optimisers(kind):
    def optimised():
        rng = numpy.random.default_rng(0)
        parameters = [Tensor(to_device(rng.normal(size=shape).astype("float32")))
                      for shape in ((300, 400), (7,))]
        optimizer = kind(parameters, 0.1)
        for _ in range(3):
            optimizer.step([to_device(rng.normal(size=p.shape).astype("float32")) for p in parameters])
        return [*(to_host(p.data) for p in parameters), *optimizer.state().values()]
    for one, other in zip(*on_both(optimised), strict=True):
        assert_close(one, other, 1e-5)


def test_dual_ascent():
    def ascended():
        dual = optim.DualAscent(0.5, most=3.0)
        found = []
        for violation in (1.0, 8.0, -0.5, -99.0, 0.3):
            dual.ascend(to_device(numpy.array(violation, "float32")))
            found.append(to_host(dual.multiplier.data))
        return [*found, *dual.state().values()]
    for one, other in zip(*on_both(ascended), strict=True):
        assert_close(one, other, 1e-6)


@pytest.fixture
def device():
    backend.use("cupy")
    yield importlib.import_module("cupy")
    backend.use("numpy")


def in_float64(model):
    """A new model like this one, whose networks and optimisers are in float64, where Adam and RMSProp divide
    no rounding errors by their own size."""
    model = build(model)
    for name, optimizer in model.optimizers.items():
        if name != "multiplier":
            for p in optimizer.parameters:
                p.adopt(p.data.astype("float64"))
            state = {key: value for key, value in vars(optimizer).items() if key in optimizer.hyperparameters}
            model.optimizers[name] = type(optimizer)(optimizer.parameters, **state)
    return model


@pytest.mark.parametrize("name", ["non-saturating", "minimax", "wgan", "vae", "vaegan", "constrained", "dual",
                                  "penalty"])
def test_steps_with_their_own_optimisers(name):
    def after_steps():
        model = in_float64(MODELS[name])
        for i, images in enumerate(batches(model, 3)):
            model.step(to_device(images.astype("float64")), numpy.random.default_rng(i))
        return model.state()
    one, other = on_both(after_steps)
    assert one.keys() == other.keys()
    for key in one:
        numpy.testing.assert_allclose(other[key], one[key], rtol=1e-5, atol=1e-7, err_msg=key)


def test_batch_norm_of_more_values_than_16_bits_count():
    x = numpy.random.default_rng(0).normal(3, 2, (64, 64, 64, 2)).astype("float32")

    def normalised():
        layer, images = nn.BatchNorm(2), Tensor(to_device(x))
        layer.weight.data = numpy.array([0.5, 2], "float32")
        y = layer(images)
        gradients = grad(ops.sum(y * y * y) / 1000, [images, layer.weight, layer.bias])
        return [to_host(a) for a in (y.data, layer.running_mean, layer.running_var, *gradients)]
    for one, other in zip(*on_both(normalised), strict=True):
        assert_close(one, other, 1e-3)


def test_convolutions_in_several_blocks(monkeypatch):
    rng = numpy.random.default_rng(0)
    x, w = rng.normal(size=(5, 12, 9, 3)), rng.normal(size=(5, 5, 3, 4))

    def convolved():
        images, weights = Tensor(to_device(x)), Tensor(to_device(w))
        y = ops.conv2d(images, weights, stride=2, padding=2)
        z = ops.conv_transpose2d(y, weights.transpose(0, 1, 3, 2), stride=2, padding=2)
        return list(map(to_host, (z.data, *grad(ops.sum(z * z), [images, weights]))))
    whole = on_both(convolved)
    monkeypatch.setattr(threads, "block_numbers", lambda: 1 << 9)
    for results in (whole[1], *on_both(convolved)):
        for one, other in zip(whole[0], results, strict=True):
            assert_close(one, other, 1e-12)


@pytest.mark.parametrize("width", [0.03, 1.0])
def test_a_step_on_64_faces(width, device):
    if width == 1 and products_per_second(device) < 1e11:
        pytest.skip("the paper's width takes minutes with fewer than 1e11 multiplications a second")
    model = models.VAEGAN(architecture="larsen", width=width, latent=128, outputs=1, learned_similarity=True)
    images = numpy.random.default_rng(0).random((64, 64, 64, 3), dtype="float32")

    def stepped():
        one = build(model)
        return {key: to_host(value) for key, value in
                one.step(to_device(images), numpy.random.default_rng(0)).items()}
    backend.use("numpy")
    one, other = on_both(stepped)
    assert one.keys() == other.keys()
    for key in one.keys() - {"accuracy_real", "accuracy_fake"}:
        assert other[key] == pytest.approx(one[key], rel=1e-3), key


def products_per_second(cupy):
    """Multiplications, each with its addition."""
    n, seconds = 512, []
    a = cupy.ones((n, n), "float32")
    for _ in range(3):
        start = time.perf_counter()
        (a @ a).get()
        seconds.append(time.perf_counter() - start)
    return n ** 3 / min(seconds)


@every_model
def test_a_step_waits_for_nothing(model, device):
    model = build(model)
    first, *others = map(to_device, batches(model, 3))
    model.step(first, numpy.random.default_rng(0))      # checks the batch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # CuPy says that it may not notice every wait
        with importlib.import_module("cupyx").allow_synchronize(False):
            for images in others:
                model.step(images, numpy.random.default_rng(1))


@pytest.mark.parametrize("kind, most", [(models.GAN, 105), (models.WGAN, 265), (models.VAE, 90),
                                        (models.VAEGAN, 180), (models.ConstrainedVAEGAN, 185)])
def test_a_step_makes_few_arrays(kind, most, device):
    """Nearly every kernel fills an array of its own; CuPy tells how many it makes."""
    class Counted(device.cuda.MemoryHook):
        name, made = "Counted", 0

        def malloc_preprocess(self, **_):
            self.made += 1
    model = kind()
    rng = numpy.random.default_rng(0)
    images = to_device(rng.random((64 * model.batches_per_step, 784), dtype="float32"))
    for _ in range(2):
        model.step(images, rng)
    with Counted() as counted:
        model.step(images, rng)
    assert 20 < counted.made <= most


@pytest.mark.parametrize("name", ["wgan", "dual", "larsen-average"])
def test_the_memory_of_200_steps_is_that_of_some(name, device):
    model = build(MODELS[name])
    images, pool = to_device(batches(model, 1)[0]), device.get_default_memory_pool()
    held = []
    for i in range(200 if "larsen" not in name else 30):
        model.step(images, numpy.random.default_rng(i))
        held.append(pool.total_bytes())
    assert held[10] == held[-1]


@pytest.mark.parametrize("kind", [models.GAN, models.WGAN, models.VAE, "dual", "average", "penalty"])
def test_a_resumed_run_ends_bit_for_bit_as_the_uninterrupted_one(kind, tmp_path, device):
    model, straight = run(tmp_path / "straight", kind)
    run(tmp_path / "run", kind, iterations=13)
    resumed, result = run(tmp_path / "run", kind, resume=True)
    assert straight.config()["environment"]["gpu"]
    assert all((resumed.state()[key] == value).all() for key, value in model.state().items())
    assert result.metrics()[-1] == straight.metrics()[-1]


@pytest.mark.parametrize("name", ["wgan", "dual", "average", "larsen-similarity"])
def test_a_checkpoint_goes_to_the_cpu_and_back(name, tmp_path, device):
    model = build(MODELS[name])
    images = batches(model, 1)[0]
    model.step(to_device(images), numpy.random.default_rng(0))
    state, path = model.state(), tmp_path / "state.npz"
    for there in ("numpy", "cupy"):
        storage.save(path, state)
        backend.use(there)
        model = build(MODELS[name], seed=99)
        model.load_state(storage.load(path))
        loaded = model.state()
        assert state.keys() == loaded.keys() and all((state[key] == loaded[key]).all() for key in state)
        model.step(to_device(images), numpy.random.default_rng(0))          # goes on
        state = model.state()


def test_a_run_on_the_gpu_is_loaded_without_one(tmp_path, device):
    model, result = run(tmp_path / "run", models.VAE)
    latents = numpy.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    expected = to_host(model.decode(latents))
    backend.use("numpy")
    numpy.testing.assert_allclose(training.load(result.folder).decode(latents), expected, atol=1e-5)


@every_model
def test_samples_reconstructions_and_interpolations(model):
    def made():
        return list(map(to_host, samples_and_reconstructions(model)))
    for one, other in zip(*on_both(made), strict=True):
        numpy.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


def test_the_classifier_entropies_and_frechet_distance():
    expected, found = on_both(judged)
    assert_same_judgement(found, expected)
    rng = numpy.random.default_rng(0)
    images = rng.random((2, 12, 16, 16, 3), dtype="float32")

    def measured():
        features = [frechet.features(to_device(half)) for half in images]
        return frechet.distance(*features), entropy.mode_entropy(to_device(rng.integers(0, 3, 50)) % 1)
    one, other = on_both(measured)
    assert other == pytest.approx(one, rel=1e-3)
