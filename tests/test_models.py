"""Each optimiser moves its own parameters only, by the gradient of its own objective; state; samples. The
VAEs' own are in test_vae.py."""

import dataclasses
import functools
import tracemalloc

import numpy
import pytest
from cases import FULLY_CONNECTED, POINTS, SMALL, SMALL_CONVOLUTIONAL, build, images

from minigen import losses, models, nn, ops, optim, threads
from minigen.core import Tensor, grad, to_host
from minigen.gradcheck import check_grad
from minigen.models.model import infer

OF_IMAGES = {**FULLY_CONNECTED, **SMALL_CONVOLUTIONAL}
MODELS = {**OF_IMAGES, **POINTS}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
every_model_of_images = pytest.mark.parametrize("model", OF_IMAGES.values(), ids=list(OF_IMAGES))
every_gan = pytest.mark.parametrize("name", ["non-saturating", "minimax", "wgan"])
# Of an optimiser, if not the one with its name; averages follow the networks that they are of.
NETWORKS = {"autoencoder": ("encoder", "decoder", "average_encoder", "average_decoder")}


def changed(before, after):
    """Whether each array, step count and multiplier changed; hyperparameters, the other single numbers, are
    left out."""
    return {key: (before[key] != after[key]).any() for key in before
            if before[key].shape or key.endswith((".steps", ".multiplier"))}


def cancelled(model):
    """The bias of a critic's output, which cancels in the difference of two means, and an optimiser's state
    for it."""
    if not isinstance(model, models.WGAN):
        return ()
    layers, last = model.networks["critic"].layers, len(model.optimizers["critic"].parameters) - 1
    return {f"networks.critic.layers.{len(layers) - 1}.bias", f"optimizers.critic.v.{last}",
            f"optimizers.critic.m.{last}"}


@every_model
def test_every_parameter_moves(model, rng):
    model = build(model)
    before = model.state()
    result = model.step(images(model, rng, 64), rng)
    moved = {key: value for key, value in changed(before, model.state()).items()
             if key not in cancelled(model)}
    assert moved and all(moved.values()), moved
    assert all(value.shape == () and numpy.isfinite(value) for value in result.values())


@every_model
def test_an_optimiser_moves_none_of_the_others(model, rng, monkeypatch):
    for still in model.optimizers:
        model = build(model)
        monkeypatch.setattr(model.optimizers[still], "step", lambda grads: None)
        monkeypatch.setattr("minigen.models.wgan.clip_weights", lambda *args: None)
        before = model.state()
        model.step(images(model, rng, 64), rng)
        for key, moved in changed(before, model.state()).items():
            if key not in cancelled(model):
                assert moved == (key.split(".")[1] not in (still, *NETWORKS.get(still, ()))), key


@every_gan
def test_both_objectives_are_gradient_checked(name, rng):
    model = build(FULLY_CONNECTED[name])
    first, generator = model.networks.values()
    for network in model.networks.values():        # biases away from zero, so that no ReLU sits on its kink
        for p in network.parameters():
            p.adopt(rng.normal(size=p.shape) * 0.6)
    x, z = rng.random((6, 16)), rng.normal(size=(6, 4))
    wgan = isinstance(model, models.WGAN)
    first_loss = losses.wgan_critic if wgan else losses.gan_discriminator
    opponent = losses.wgan_generator if wgan else {
        "non-saturating": losses.gan_generator, "minimax": losses.gan_generator_minimax}[model.objective]
    check_grad(lambda *_: first_loss(first(x), first(generator(z).data)), first.parameters(), order=2)
    check_grad(lambda *_: opponent(first(generator(z))), generator.parameters(), order=2)
    check_grad(lambda images, latents: first_loss(first(images), first(generator(latents))), [x, z], order=2)


def reference_gan_step(model, x, z):
    """The gradients of one step, with separate passes for real and fake images and losses from their
    definition."""
    D, G = model.networks["discriminator"], model.networks["generator"]

    def log_d(logits):
        return ops.log(ops.sigmoid(logits))
    d_loss = -ops.mean(log_d(D(x))) - ops.mean(log_d(-D(G(z).data)))
    d_grads = grad(d_loss, D.parameters())
    model.optimizers["discriminator"].step(d_grads)
    logits = D(G(z))
    g_loss = -ops.mean(log_d(logits)) if model.objective == "non-saturating" else ops.mean(log_d(-logits))
    model.optimizers["generator"].step(grad(g_loss, G.parameters()))
    return d_loss.item(), g_loss.item()


@pytest.mark.parametrize("objective", ["non-saturating", "minimax"])
def test_gan_steps_are_the_equations(rng, objective):
    model, twin = (models.GAN(objective=objective, lr=1e-2, **SMALL) for _ in range(2))
    for i in range(3):
        x = images(model, rng)
        found = model.step(x, numpy.random.default_rng(i))
        z = twin.noise(len(x), numpy.random.default_rng(i))
        expected = reference_gan_step(twin, x, z)
        assert (found["d_loss"], found["g_loss"]) == pytest.approx(expected, rel=1e-5)
    for key, value in twin.state().items():
        numpy.testing.assert_allclose(model.state()[key], value, rtol=2e-3, atol=2e-5)


def test_wgan_steps_are_the_algorithm(rng, monkeypatch):
    # The default eps would blow the rounding errors of tiny gradients up to whole steps.
    monkeypatch.setattr("minigen.models.wgan.RMSProp", functools.partial(optim.RMSProp, eps=0.1))
    model, twin = (models.WGAN(critic_steps=3, lr=1e-2, clip=0.05, **SMALL) for _ in range(2))
    x = images(model, rng)
    model.step(x, numpy.random.default_rng(5))
    critic, G = twin.networks.values()
    noise = numpy.random.default_rng(5)
    z = twin.noise(len(x), noise)
    for i in range(3):
        batch = slice(8 * i, 8 * i + 8)
        twin.optimizers["critic"].step(
            grad(ops.mean(critic(G(z[batch]).data)) - ops.mean(critic(x[batch])), critic.parameters()))
        for p in critic.parameters():
            p.data = numpy.clip(p.data, -0.05, 0.05)
    twin.optimizers["generator"].step(grad(-ops.mean(critic(G(twin.noise(8, noise)))), G.parameters()))
    for key, value in twin.state().items():
        numpy.testing.assert_allclose(model.state()[key], value, rtol=2e-3, atol=2e-5)


def slopes(network, x):
    """The gradient of the mean output of each image, one image after the other, recorded."""
    leaves = [Tensor(image[None]) for image in x]
    return [grad(ops.mean(network(leaf)), leaf, create_graph=True) for leaf in leaves]


def test_steps_of_the_wgan_with_gradient_penalty_are_the_algorithm(rng, monkeypatch):
    """Algorithm 1 of Gulrajani et al."""
    monkeypatch.setattr("minigen.models.wgan.Adam", functools.partial(optim.Adam, eps=0.1))
    settings = {"lipschitz": "penalty", "penalty": 7.0, "critic_steps": 3, "lr": 1e-2, **SMALL}
    model, twin = (models.WGAN(**settings) for _ in range(2))
    twin.optimizers = {role: optim.Adam(network.parameters(), 1e-2, 0.5, 0.9, 0.1)
                       for role, network in twin.networks.items()}
    x = images(model, rng)
    found = model.step(x, numpy.random.default_rng(5))
    critic, G = twin.networks.values()
    numbers = numpy.random.default_rng(5)
    z = twin.noise(len(x), numbers)
    for i in range(3):
        real, fake = x[8 * i:8 * i + 8], G(z[8 * i:8 * i + 8]).data
        t = numbers.random((8, 1), dtype="float32")
        norms = [ops.sqrt(ops.sum(slope * slope)) for slope in slopes(critic, t * real + (1 - t) * fake)]
        penalty = sum((norm - 1) ** 2 for norm in norms) / 8
        loss = ops.mean(critic(fake)) - ops.mean(critic(real))
        twin.optimizers["critic"].step(grad(loss + 7 * penalty, critic.parameters()))
    assert found["critic_loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert found["gradient_penalty"] == pytest.approx(penalty.item(), rel=1e-4)
    twin.optimizers["generator"].step(grad(-ops.mean(critic(G(twin.noise(8, numbers)))), G.parameters()))
    for key, value in twin.state().items():
        numpy.testing.assert_allclose(model.state()[key], value, rtol=2e-3, atol=2e-5, err_msg=key)


def test_steps_of_the_gan_with_r1_are_the_equations(rng):
    model, twin = (models.GAN(r1=4.0, lr=1e-2, init="he_normal", **SMALL) for _ in range(2))
    D, G = twin.networks.values()
    for i in range(3):
        x = images(model, rng)
        found = model.step(x, numpy.random.default_rng(i))
        fake = G(twin.noise(len(x), numpy.random.default_rng(i)))
        r1 = sum(ops.sum(slope * slope) for slope in slopes(D, x)) / 2 / len(x)
        d_loss = losses.gan_discriminator(D(x), D(fake.data))
        twin.optimizers["discriminator"].step(grad(d_loss + 4 * r1, D.parameters()))
        g_loss = losses.gan_generator(D(fake))
        twin.optimizers["generator"].step(grad(g_loss, G.parameters()))
        assert [float(value) for value in found.values()] == pytest.approx(
            [d_loss.item(), r1.item(), g_loss.item()], rel=1e-5) and r1.item() > 1e-4
    for key, value in twin.state().items():
        numpy.testing.assert_allclose(model.state()[key], value, rtol=2e-3, atol=2e-5, err_msg=key)


def test_the_critic_stays_clipped(rng):
    model = models.WGAN(clip=0.02, **SMALL)
    for _ in range(3):
        model.step(images(model, rng), rng)
        for p in model.networks["critic"].parameters():
            assert abs(p.data).max() <= numpy.float32(0.02)
    assert max(abs(p.data).max() for p in model.networks["generator"].parameters()) > 0.02


def test_with_a_penalty_nothing_is_clipped(rng):
    model = models.WGAN(lipschitz="penalty", clip=1e-6, **SMALL)
    model.step(images(model, rng), rng)
    assert max(abs(p.data).max() for p in model.networks["critic"].parameters()) > 0.1


@every_model
def test_a_restored_state_continues_bit_for_bit(model, rng):
    straight, resumed = build(model), type(model)(**{**model.settings(), "seed": 99})
    batches = [images(model, rng) for _ in range(4)]
    for i, x in enumerate(batches):
        if i == 2:
            resumed.load_state(straight.state())
        for one in [straight] + [resumed] * (i >= 2):
            one.step(x, numpy.random.default_rng(i))
    assert not any(changed(straight.state(), resumed.state()).values())
    with pytest.raises(ValueError, match="load_state"):
        resumed.load_state({})


@pytest.mark.parametrize("shape, shared", [((2, 4, 4, 1), True), ((2, 16), False)])
def test_a_step_on_images_with_channels_has_all_threads(shape, shared, three_threads):
    class Probe(models.Model):
        def update(self, images, rng):
            return {"sharing": threads.sharing()}
    assert Probe().step(numpy.zeros(shape), None) == {"sharing": shared}


@pytest.mark.parametrize("name, shared", [("r1", False), ("points", False), ("conv-vaegan", True)])
def test_a_step_that_convolves_rows_has_all_threads(name, shared, three_threads, rng, monkeypatch):
    model = build(MODELS[name])
    monkeypatch.setattr(type(model), "update", lambda *args: {"sharing": threads.sharing()})
    x = images(model, rng)
    assert model.convolves(x) == shared and model.step(x, rng) == {"sharing": shared}


@every_model_of_images
def test_samples(model, monkeypatch):
    first, shape = to_host(model.sample(2500, rng=3)), model.build().image_shape
    assert first.shape == (2500, *shape) and first.dtype == "float32"
    assert first.min() >= 0 and first.max() <= 1
    assert (first == to_host(model.sample(2500, numpy.random.default_rng(3)))).all()
    assert (to_host(model.sample(5)) != to_host(model.sample(5))).any()
    assert model.sample(0).shape == (0, *shape) and not isinstance(model.sample(1), Tensor)
    monkeypatch.setattr("minigen.models.model._CHUNK", 10_000)
    numpy.testing.assert_allclose(first, to_host(model.sample(2500, rng=3)), rtol=1e-5)


def test_samples_are_made_in_evaluation_mode():
    model = models.GAN(**SMALL)
    generator = model.networks["generator"]
    generator.layers.insert(1, nn.BatchNorm(5))
    before = generator.state()
    first = to_host(model.sample(3, rng=1))
    assert (first[:1] == to_host(model.sample(1, rng=1))).all() and generator.training
    assert all((generator.state()[key] == before[key]).all() for key in before)
    generator.eval()
    model.sample(1)
    assert not generator.training


@pytest.mark.parametrize("kind, role", [(models.GAN, "discriminator"), (models.WGAN, "critic")])
def test_every_setting_takes_effect(kind, role):
    model = kind(lr=0.3, init="glorot_uniform", **SMALL)
    for name, optimizer in model.optimizers.items():
        assert optimizer.lr == 0.3
        shapes = [p.shape for p in optimizer.parameters]
        assert all(p is q for p, q in zip(optimizer.parameters, model.networks[name].parameters()))
        for init in nn.INITIALISERS:
            other = kind(init=init, **SMALL)
            weights = other.networks[name].parameters()[::2]
            bounds = {"glorot_uniform": lambda i, o: (6 / (i + o)) ** 0.5,
                      "fan_in_uniform": lambda i, o: i ** -0.5}
            if init in bounds:
                for w in weights:
                    bound = bounds[init](*w.shape)
                    assert 0.6 * bound < abs(w.data).max() <= 1.001 * bound
            else:
                assert max(abs(w.data).max() * (w.shape[0] / 2) ** 0.5 for w in weights) > 2      # no bound
    assert shapes[0] == (4, 5) and list(model.networks) == [role, "generator"]
    assert models.WGAN(clip=0.07, critic_steps=2, **SMALL).batches_per_step == 2
    gan = models.GAN(beta1=0.25, **SMALL)
    assert [optimizer.beta1 for optimizer in gan.optimizers.values()] == [0.25, 0.25]


def test_seeds_and_the_papers_sizes():
    model = models.GAN()
    shapes = [p.shape for p in model.networks["generator"].parameters()]
    assert shapes[::2] == [(100, 98), (98, 196), (196, 392), (392, 784)]
    assert not any(changed(model.state(), models.GAN().state()).values())
    assert any(changed(model.state(), models.GAN(seed=1).state()).values())
    assert models.GAN(seed=2 ** 64 - 1, sizes=(4, 3)).seed == 2 ** 64 - 1      # of 64 bits, as of a clock
    with pytest.raises(ValueError, match=f"seed of at most {2 ** 64 - 1} expected, {2 ** 64} found"):
        models.GAN(seed=2 ** 64)


@pytest.mark.parametrize("make, message", [
    (lambda: models.GAN(objective="hinge"), "'non-saturating' or 'minimax' expected, 'hinge' found"),
    (lambda: models.WGAN(critic_steps=0), "an integer critic_steps of at least 1 expected, 0 found"),
    (lambda: models.WGAN(clip=0.0), r"a number clip in \(0, inf\) expected, 0.0 found"),
    (lambda: models.GAN(init="zeros"),
     "init one of he_normal, glorot_uniform, fan_in_uniform expected, 'zeros' found"),
    (lambda: models.WGAN(lipschitz="spectral"), "lipschitz 'clip' or 'penalty' expected, 'spectral' found"),
    (lambda: models.WGAN(penalty=0.0), r"WGAN: a number penalty in \(0, inf\) expected, 0.0 found"),
    (lambda: models.GAN(r1=-1.0), r"GAN: a number r1 in \[0, inf\) expected, -1.0 found"),
    (lambda: models.GAN(architecture="conv", sizes=(784, 9)), r"'conv' has a width, not sizes: .*\(784, 9\)"),
    (lambda: models.WGAN(architecture="conv", sizes=(9, 392, 196, 98)), "784 or 2352 .* expected, 9 found"),
    (lambda: models.WGAN(architecture="points", width=0.5), "'points' has sizes, not a width: width 0.5"),
    (lambda: models.GAN(width=0.0), r"GAN: a number width in \(0, inf\) expected, 0.0 found"),
    (lambda: models.GAN(lr=-1.0), r"GAN: a number lr in \(0, inf\) expected, -1.0 found"),
])
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


UNFIT = {
    "uint8": (lambda x: (255 * x).astype("uint8"), "images .* expected, uint8 .*datasets.scale"),
    "bool": (lambda x: x > 0.5, "images .* expected, bool"),
    "float16": (lambda x: x.astype("float16"), "images .* expected, float16"),
    "minus one": (lambda x: 2 * x - 1, r"images in \[0, 1\] expected, -(0.9|1 )"),
    "255": (lambda x: 255 * x, r"images in \[0, 1\] expected, .* to 2\d\d"),
    "nan": (lambda x: numpy.where(x == x[:, :1], numpy.nan, x).astype("float32"), "images .* NaN found"),
    "shape": (lambda x: x[:, :9], r"images \(N, \d+\) .* expected, float32 \(\d+, 9\)"),
    "tensor": (Tensor, r"images \(N, \d+\) .* expected, Tensor found"),
    "list": (lambda x: x.tolist(), r"images \(N, \d+\) .* expected, list found"),
}


@pytest.mark.parametrize("spoil, message", UNFIT.values(), ids=list(UNFIT))
@every_model_of_images
def test_images_of_another_kind_are_refused_wherever_they_go_in(model, spoil, message, rng):
    model, x = build(model), images(model, rng, 64)
    unfit = spoil(x)
    before = model.state()
    entrances = [lambda: model.step(unfit, rng)]
    if isinstance(model, models.VAE) and isinstance(unfit, numpy.ndarray):
        entrances += [lambda: model.encode(unfit), lambda: model.reconstruct(unfit),
                      lambda: model.interpolate(x, unfit, 3)]
    for enter in entrances:
        with pytest.raises(ValueError, match=f"^{type(model).__name__}: {message}"):
            enter()
    assert not any(changed(before, model.state()).values())
    model.step(x, rng)
    with pytest.raises(ValueError, match=f"^{type(model).__name__}: {message}"):
        model.step(unfit, rng)          # not only the first batch


UNFIT_POINTS = {
    "nan": (lambda x: numpy.where(x == x[:, :1], numpy.nan, x).astype("float32"), "NaN or more than"),
    "infinity": (lambda x: numpy.where(x == x[:, :1], -numpy.inf, x).astype("float32"), "NaN or more than"),
    "shape": (lambda x: x[:, :1], r"float32 \(\d+, 1\) found"),
    "no axis": (lambda x: x[:, 0], r"float32 \(\d+,\) found"),
    "integers": (lambda x: x.astype("int32"), r"int32 \(\d+, 2\) found"),
    "tensor": (Tensor, "Tensor found"), "list": (lambda x: x.tolist(), "list found")}


@pytest.mark.parametrize("spoil, message", UNFIT_POINTS.values(), ids=list(UNFIT_POINTS))
@pytest.mark.parametrize("model", POINTS.values(), ids=list(POINTS))
def test_what_are_no_points_is_refused_wherever_it_goes_in(model, spoil, message, rng):
    model, x = build(model), images(model, rng, 64)
    unfit, before = spoil(x), model.state()
    message = rf"^{type(model).__name__}: points \(N, 2\) of finite floats expected, {message}"
    for step in range(2):               # not only the first batch
        with pytest.raises(ValueError, match=message):
            model.step(unfit, rng)
        assert step or not any(changed(before, model.state()).values())
        model.step(x, rng)
    if isinstance(model, models.VAE) and isinstance(unfit, numpy.ndarray):
        for enter in (model.encode, model.reconstruct):
            with pytest.raises(ValueError, match=message):
                enter(unfit)


@pytest.mark.parametrize("model", POINTS.values(), ids=list(POINTS))
def test_points_are_learnt_wherever_they_lie(model, rng):
    """Around (4, -3), which no sigmoid reaches."""
    model = build(model, lr=0.01)
    for _ in range(150):
        x = rng.normal((4, -3), size=(8 * model.batches_per_step, 2))
        model.step(x.astype("float32"), rng)
    assert model.sample(500, rng=0).mean(axis=0) == pytest.approx([4, -3], abs=1.5)


@every_model
def test_float64_images_are_those_of_float32(model, rng):
    one, other, x = build(model), build(model), images(model, rng, 64)
    for trained, batch in ((one, x), (other, x.astype("float64"))):
        trained.step(batch, numpy.random.default_rng(0))
    assert not any(changed(one.state(), other.state()).values())


@every_model
def test_networks_replaced_by_those_of_float64_compute_in_it(model, rng):
    model = build(model)
    for p in [p for network in model.networks.values() for p in network.parameters()]:
        p.adopt(p.data.astype("float64"))
    for name in model.optimizers.keys() - {"multiplier"}:
        model.optimizers[name] = optim.SGD(model.optimizers[name].parameters, 0.01)
    metrics = model.step(images(model, rng).astype("float64"), rng)
    assert all(value.dtype == "float64" for name, value in metrics.items() if name != "multiplier")


def test_a_batch_too_small_for_a_step_is_refused(rng):
    for kind, least in ((models.GAN, 1), (models.WGAN, 5), (models.VAE, 1)):
        with pytest.raises(ValueError, match=f"^{kind.__name__}.step: a batch of {least} or more images"):
            kind(sizes=(16, 8)).step(numpy.zeros((least - 1, 16), "float32"), rng)


def test_what_is_no_random_generator_is_named():
    model, x = models.GAN(sizes=(16, 8), latent=3), numpy.zeros((5, 16), "float32")
    for rng, shown in ((0, "0"), (None, "None"), (numpy.random.RandomState(0), "RandomState")):
        with pytest.raises(TypeError, match=f"^GAN.step: rng, a random generator such as .*, {shown}"):
            model.step(x, rng)
    for rng in (-1, "a", 1.5):
        with pytest.raises((TypeError, ValueError), match=f"^GAN.sample: rng, .* expected, '?{rng}'? found"):
            model.sample(2, rng)


def test_autoencoders_take_float64_too(rng):
    model, x = models.VAE(sizes=(16, 8), latent=4), rng.random((5, 16))
    assert (model.reconstruct(x) == model.reconstruct(x.astype("float32"))).all()
    latents = rng.normal(size=(3, 4))
    assert (model.decode(latents) == model.decode(latents.astype("float32"))).all()


def test_paths_between_other_numbers_of_images_are_refused(rng):
    model, x = models.VAE(sizes=(16, 8), latent=4), rng.random((5, 16), dtype="float32")
    assert model.interpolate(x[:1], x[1:4], 3).shape == (3, 3, 16)
    with pytest.raises(ValueError, match="^VAE.interpolate: first and second .* expected, 2 and 3 found"):
        model.interpolate(x[:2], x[2:], 3)


@pytest.mark.parametrize("kind", [models.GAN, models.WGAN])
def test_generators_decode_and_interpolate_latents(kind, rng):
    model, (first, second) = kind(sizes=(16, 8), latent=3, outputs=2), rng.normal(size=(2, 4, 3))
    prior = numpy.random.default_rng(5).standard_normal((4, 3), dtype="float32")
    assert (model.decode(prior) == model.sample(4, rng=5)).all()
    paths = model.interpolate(first, second, 5)
    assert paths.shape == (4, 5, 16)
    for i, t in enumerate((0, 0.25, 0.5, 0.75, 1)):
        numpy.testing.assert_allclose(paths[:, i], model.decode((1 - t) * first + t * second), atol=1e-6)
    with pytest.raises(ValueError, match=r"^W?GAN.interpolate: latents \(N, 3\) expected, \(4, 2\) found"):
        model.interpolate(first, second[:, :2], 5)


@pytest.fixture
def bare():
    """A model whose images are its latents, as if its generator did nothing."""
    model = models.WGAN(architecture="points", sizes=(2, 4), latent=2)
    model.networks["generator"] = nn.Sequential(nn.Linear(2, 2, rng=numpy.random.default_rng(0)))
    layer = model.networks["generator"].layers[0]
    layer.weight.data, layer.bias.data = numpy.eye(2, dtype="float32"), numpy.zeros(2, "float32")
    return model


def test_spherical_paths_are_arcs(bare):
    angles = numpy.array([[0.3, 2.3], [-1.0, 0.5], [3.0, 4.0]])        # of each first and second end
    ends = 1.7 * numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=-1)
    found = bare.interpolate(ends[:, 0], ends[:, 1], 6, spherical=True)
    turned = numpy.linspace(angles[:, 0], angles[:, 1], 6, axis=1)      # in equal steps, at the same radius
    expected = 1.7 * numpy.stack([numpy.cos(turned), numpy.sin(turned)], axis=-1)
    numpy.testing.assert_allclose(found, expected, atol=1e-5)


def test_spherical_paths_begin_and_end_at_their_ends(bare, rng):
    first, second = rng.normal(size=(2, 9, 2))
    first[0] = 0
    found = bare.interpolate(first, second, 4, spherical=True)
    numpy.testing.assert_allclose(found[:, 0], first, atol=1e-5)
    numpy.testing.assert_allclose(found[:, -1], second, atol=1e-5)


@pytest.mark.parametrize("first, second", [([1, 2], [1, 2]), ([1, 2], [3, 6]), ([1, 2], [-1, -2]),
                                           ([0, 0], [0, 0])])
def test_a_spherical_path_without_a_plane_is_a_line(bare, first, second):
    first, second = numpy.array([first]), numpy.array([second])
    found = bare.interpolate(first, second, 5, spherical=True)
    numpy.testing.assert_allclose(found, bare.interpolate(first, second, 5), atol=1e-6)


def test_the_path_of_a_vae_may_be_spherical(rng):
    model, x = models.VAE(sizes=(16, 8), latent=4), rng.random((3, 16), dtype="float32")
    mu = model.encode(x)[0]
    found = model.interpolate(x, x[:1], 4, spherical=True)
    expected = models.Model.interpolate(model, mu, mu[:1], 4, spherical=True)
    assert (found == expected).all() and (found != model.interpolate(x, x[:1], 4)).any()


@every_model_of_images
def test_samples_are_images_in_the_unit_interval(model, rng):
    sample = build(model).sample(7, rng=0)
    assert sample.shape == (7, *model.build().image_shape) and 0 <= sample.min() <= sample.max() <= 1
    with pytest.raises(TypeError, match="sample: an integer n of at least 0 expected, 2.5 found"):
        build(model).sample(2.5)


def test_latents_of_another_shape_are_refused():
    model = models.VAE(sizes=(16, 8), latent=4)
    with pytest.raises(ValueError, match=r"latents \(N, \d\) expected, \(2, 9\) found"):
        model.decode(numpy.zeros((2, 9), "float32"))


def test_a_state_that_does_not_fit_changes_nothing():
    vae, vaegan = models.VAE(sizes=(16, 8), latent=3), models.VAEGAN(sizes=(16, 8), latent=3, outputs=1)
    before = vae.state()
    spoilt = {**before, "optimizers.autoencoder.steps": numpy.array(-1)}
    lost = dict(list(before.items())[:-1])
    for state, message in ((vaegan.state(), "unknown: .*discriminator"), (spoilt, "steps of"),
                           (lost, "missing")):
        with pytest.raises(ValueError, match=message):
            vae.load_state({key: value + 1 if value.shape else value for key, value in state.items()})
        assert all((vae.state()[key] == before[key]).all() for key in before)


@pytest.mark.parametrize("name, value", [
    ("latent", 0), ("latent", 2.0), ("latent", True), ("latent", "3"), ("outputs", -1), ("lr", True),
    ("lr", None), ("lr", "0.1"), ("lr", numpy.nan), ("lr", 10 ** 400), ("beta1", None), ("beta1", 1.0),
    ("seed", -1), ("seed", None), ("seed", 1.5), ("sizes", (16, 0)), ("sizes", 16), ("sizes", ()),
    ("sizes", "16"), ("init", None), ("objective", 3)])
def test_a_setting_that_cannot_be_is_named(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^GAN: .*{name}.* expected"):
        models.GAN(**{name: value})


def test_a_setting_of_another_type_is_named():
    for settings in ({"learned_similarity": 1}, {"width": "x"}, {"architecture": None}, {"gan_weight": [1]}):
        with pytest.raises((TypeError, ValueError), match=next(iter(settings))):
            models.VAEGAN(**settings)


def test_numbers_of_numpy_become_those_of_python():
    model = models.GAN(sizes=numpy.array([16, 8]).tolist(), latent=numpy.int64(3), lr=numpy.float32(0.5),
                       seed=numpy.uint8(2))
    assert model.settings() == {"objective": "non-saturating", "outputs": 100, "latent": 3, "sizes": (16, 8),
                                "architecture": "fully_connected", "width": 1.0, "init": "fan_in_uniform",
                                "lr": 0.5, "beta1": 0.0, "r1": 0.0, "seed": 2}
    assert all(type(model.settings()[name]) is kind for name, kind in {"latent": int, "lr": float}.items())


@every_model
def test_settings_of_a_built_model_stay(model):
    before = model.settings()
    for name, value in before.items():
        with pytest.raises(AttributeError, match=f"{type(model).__name__}: {name} is a setting, and stays"):
            setattr(model, name, value)
    assert model.settings() == before
    other = dataclasses.replace(model, seed=99)
    assert type(other) is type(model) and other.settings() == {**before, "seed": 99}


def test_a_model_may_work_out_its_settings_while_it_is_built():
    @dataclasses.dataclass
    class Mine(models.Model):
        latent: int = 2
        hidden: int = 1

        def __post_init__(self):
            super().__post_init__()
            self.hidden = 2 * self.latent
            self.networks = self.optimizers = {}
    model = Mine(latent=3)
    assert model.settings() == {"latent": 3, "hidden": 6}
    with pytest.raises(AttributeError, match="Mine: hidden is a setting"):
        model.hidden = 4


def test_networks_that_do_not_fit_into_memory_are_refused_before_they_are_made(monkeypatch):
    D, decoder, encoder = 16 * 8 + 8 * 2, 3 * 8 + 8 * 16, 16 * 8 + 8 * 6     # weights; biases are few
    settings = {"sizes": (16, 8), "latent": 3, "outputs": 2}
    for kind, weights in ((models.GAN, D + decoder), (models.WGAN, D + decoder),
                          (models.VAEGAN, D + decoder + encoder)):
        with monkeypatch.context() as patch:
            patch.setattr("minigen.backend.free_memory", lambda: 20 * weights)
            kind(**settings)
            patch.setattr("minigen.backend.free_memory", lambda: 20 * weights - 1)
            patch.setitem(nn.INITIALISERS, "he_normal", None)           # not a number is drawn
            with pytest.raises(ValueError, match=f"{kind.__name__}: smaller networks expected: .* GB free"):
                kind(init="he_normal", **settings)


def test_reckoning_the_memory_takes_none(monkeypatch):
    """Nor time: the more memory is free, the more layers are reckoned before they are refused."""
    monkeypatch.setattr("minigen.backend.free_memory", lambda: 1e12)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="VAE: smaller networks expected: .* 1,000.0 GB free"):
            models.VAE(architecture="larsen", width=100.0)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_a_failed_inference_leaves_the_modes_as_they_were(rng):
    network = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.BatchNorm(3), nn.BatchNorm(3))
    network[1].eval()
    for x in (numpy.zeros((4, 2), "float32"), numpy.zeros((4, 5), "float32")):
        try:
            infer(network, x)
        except ValueError:
            assert x.shape == (4, 5)
        assert [module.training for _, module in network.named_modules()] == [True, True, False, True]


def test_a_model_that_is_no_dataclass_says_so():
    class Mine(models.Model):
        pass
    with pytest.raises(TypeError, match="Mine: a dataclass expected, whose fields are the model's settings"):
        Mine().settings()
    with pytest.raises(NotImplementedError, match="Mine defines no update"):
        Mine().step(numpy.zeros((2, 2)), None)
