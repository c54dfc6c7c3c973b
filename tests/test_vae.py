"""VAE, VAE-GAN and constrained VAE-GAN: their objectives, which networks get which gradient, and paths
through the latent space."""

import math

import numpy
import pytest

from minigen import losses, models, nn, ops
from minigen.core import Tensor, grad, to_host
from minigen.gradcheck import check_grad
from minigen.optim import SGD

VAE = {"sizes": (12, 9, 7, 5), "latent": 4}
GAN = {**VAE, "outputs": 3}
PLAIN, CONSTRAINED = models.VAEGAN(**GAN), models.ConstrainedVAEGAN(**GAN)
KINDS = [models.VAE, models.VAEGAN, models.ConstrainedVAEGAN]
every_kind = pytest.mark.parametrize("kind", KINDS)


def minus_log_d(logits):
    return -ops.log(ops.sigmoid(logits))


def reference(model, x, seed):
    """L_vae, L_GAN by image and D's loss, term by term from their definitions, with a pass of its own for
    each."""
    rng = numpy.random.default_rng(seed)
    both = model.networks["encoder"](x)
    mu, logvar = both[:, :4], both[:, 4:]
    z = mu + ops.sqrt(ops.exp(logvar)) * rng.standard_normal((len(x), 4), dtype="float32")
    error = ops.mean(ops.sum((model.networks["decoder"](z) - x) ** 2, axis=1))
    kl = ops.mean(ops.sum(mu * mu + ops.exp(logvar) - 1 - logvar, axis=1)) / 2
    if type(model) is models.VAE:
        return error, kl, None, None
    D = model.networks["discriminator"]
    fake = model.networks["decoder"](rng.standard_normal((len(x), 4), dtype="float32"))
    d_loss = ops.mean(minus_log_d(D(x))) + ops.mean(minus_log_d(-D(fake.data)))
    return error, kl, lambda: ops.mean(minus_log_d(D(fake)), axis=1), d_loss


@pytest.mark.parametrize("model, combine", [
    (models.VAE(reconstruction_weight=3.0, **VAE), lambda error, kl, l_gan, d: 3 * error + kl),
    (models.VAEGAN(gan_weight=0.7, **GAN), lambda error, kl, l_gan, d: error + kl + 0.7 * ops.mean(l_gan)),
    (models.ConstrainedVAEGAN(gan_weight=0.7, **GAN),
     lambda error, kl, l_gan, d: error + kl + 0.7 * ops.mean(ops.maximum(l_gan - d, 0.0))),
    (models.ConstrainedVAEGAN(gan_weight=0.7, per_sample=False, reconstruction_weight=0.1, **GAN),
     lambda error, kl, l_gan, d: 0.1 * error + kl + 0.7 * ops.maximum(ops.mean(l_gan) - d, 0.0)),
], ids=["vae", "vaegan", "constrained", "on-mean"])
def test_steps_are_the_equations(model, combine, rng):
    twin = type(model)(**model.settings())
    # Spread weights, so that some images are inside the constraint and some outside.
    spread = {key: rng.normal(size=value.shape).astype("float32") * 0.6
              for key, value in model.state().items() if key.startswith("networks")}
    for one in (model, twin):       # Adam would blow the rounding errors of tiny gradients up to whole steps
        one.load_state({**one.state(), **spread})
        one.optimizers = {name: SGD(o.parameters, 0.01) for name, o in one.optimizers.items()}
    if type(model) is models.ConstrainedVAEGAN:
        D, decoder = model.networks["discriminator"], model.networks["decoder"]
        l_gan = losses.gan_generator_each(D(decoder(prior(0, 8)))).data
        for one in (model, twin):       # a setting of a built model cannot be assigned
            vars(one)["d"] = float(numpy.sort(l_gan)[2:4].mean())
    shares = []
    for i in range(3):
        x = rng.random((8, 12), dtype="float32")
        found = model.step(x, numpy.random.default_rng(i))
        error, kl, make_l_gan, d_loss = reference(twin, x, i)
        l_gan = None
        if d_loss is not None:
            D = twin.networks["discriminator"]
            right_real, right_fake = D(x).data > 0, D(twin.networks["decoder"](prior(i, 8))).data <= 0
            twin.optimizers["discriminator"].step(grad(d_loss, D.parameters()))
            l_gan = make_l_gan()
            assert found["d_loss"] == pytest.approx(d_loss.item(), rel=1e-5)
            assert found["l_gan"] == pytest.approx(l_gan.data.mean(), rel=1e-5)
            assert found["accuracy_real"] == right_real.mean()
            assert found["accuracy_fake"] == pytest.approx(right_fake.mean())
        if isinstance(model, models.ConstrainedVAEGAN):
            assert found["inside"] == pytest.approx((l_gan.data <= model.d).mean())
            shares.append(found["inside"])
        loss = combine(error, kl, l_gan, getattr(model, "d", None))
        assert found["reconstruction_error"] == pytest.approx(error.item(), rel=1e-5)
        assert found["kl"] == pytest.approx(kl.item(), rel=1e-4)
        assert found["l_vae"] == pytest.approx(model.reconstruction_weight * error.item() + kl.item(),
                                               rel=1e-5)
        autoencoder = twin.optimizers["autoencoder"]
        autoencoder.step(grad(loss, autoencoder.parameters))
    for key, value in twin.state().items():
        numpy.testing.assert_allclose(model.state()[key], value, rtol=2e-3, atol=2e-5, err_msg=key)
    assert not isinstance(model, models.ConstrainedVAEGAN) or 0 < min(shares) <= max(shares) < 1


@pytest.mark.parametrize("d, last", [(0.3, 0.8), (3.0, 0.0)])
def test_dual_steps_are_the_lagrangian_and_the_ascent(d, last, rng):
    """The constraint is violated at each step, or at none: lambda ends at about ``last``."""
    settings = {"multiplier": "dual", "gan_weight": 0.4, "d": d, "eta": 0.25, **GAN}
    model, twin, multiplier = models.ConstrainedVAEGAN(**settings), models.ConstrainedVAEGAN(**settings), 0.4
    for one in (model, twin):
        for role in ("autoencoder", "discriminator"):
            one.optimizers[role] = SGD(one.optimizers[role].parameters, 0.01)
    autoencoder, D = twin.optimizers["autoencoder"], twin.networks["discriminator"]
    for i in range(4):
        x = rng.random((8, 12), dtype="float32")
        found = model.step(x, numpy.random.default_rng(i))
        error, kl, make_l_gan, d_loss = reference(twin, x, i)
        twin.optimizers["discriminator"].step(grad(d_loss, D.parameters()))
        violation = ops.mean(make_l_gan()) - d
        autoencoder.step(grad(error + kl + multiplier * violation, autoencoder.parameters))
        expected = {"multiplier": multiplier, "violation": violation.item(),
                    "slackness": multiplier * violation.item(), "l_gan": violation.item() + d}
        assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-4)
        multiplier = max(0.0, multiplier + 0.25 * violation.item())
        assert model.state()["optimizers.multiplier.multiplier"] == pytest.approx(multiplier, rel=1e-5)
    assert multiplier == pytest.approx(last, abs=0.1)
    state = model.state()
    for key, value in twin.state().items():
        if key.startswith("networks"):
            numpy.testing.assert_allclose(state[key], value, rtol=2e-3, atol=2e-5, err_msg=key)


def prior(seed, n):
    """The latents of the prior in a step with this seed: those for the posterior are drawn first."""
    generator = numpy.random.default_rng(seed)
    generator.standard_normal((n, 4), dtype="float32")
    return generator.standard_normal((n, 4), dtype="float32")


@pytest.mark.parametrize("model", [
    models.VAE(reconstruction_weight=0.3, **VAE), models.VAEGAN(**GAN), models.ConstrainedVAEGAN(**GAN),
    models.ConstrainedVAEGAN(per_sample=False, **GAN),
    models.ConstrainedVAEGAN(multiplier="dual", **GAN)],
    ids=["vae", "vaegan", "constrained", "on-mean", "dual"])
def test_whole_models_are_gradient_checked(model, rng):
    for network in model.networks.values():        # biases away from zero, so that no ReLU sits on its kink
        for p in network.parameters():
            p.adopt(rng.normal(size=p.shape) * 0.6)
    encoder, decoder, D = (model.networks.get(name) for name in ("encoder", "decoder", "discriminator"))
    x, noise, latents = rng.random((5, 12)), rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    if type(model) is models.ConstrainedVAEGAN:
        l_gan = losses.gan_generator_each(D(decoder(latents))).data
        two_inside = numpy.sort(l_gan)[1:3].mean()
        vars(model)["d"] = float(two_inside if model.per_sample else l_gan.mean() - 0.1)

    def objective(*_):
        mu, logvar = model.posterior(x)
        error = losses.squared_error(x, decoder(mu + ops.exp(logvar / 2) * noise))
        l_vae = losses.vae(error, losses.gaussian_kl(mu, logvar), model.reconstruction_weight)
        return model.objective(l_vae, losses.gan_generator_each(D(decoder(latents)))) if D else l_vae
    check_grad(objective, [*encoder.parameters(), *decoder.parameters()])
    if D:
        check_grad(lambda *_: losses.gan_discriminator(D(x), D(decoder(latents).data)), D.parameters())


LARSEN = {"architecture": "larsen", "width": 0.02, "latent": 3, "outputs": 2}


def faces(rng, n):
    """Smooth random images (n, 64, 64, 3) in [0, 1]."""
    coarse = rng.random(size=(n, 4, 4, 3))
    return coarse.repeat(16, axis=1).repeat(16, axis=2).astype("float32")


@pytest.mark.parametrize("learned", [False, True], ids=["pixels", "learned"])
def test_a_convolutional_step_is_the_equations(learned, rng):
    settings = {**LARSEN, "learned_similarity": learned, "reconstruction_weight": 0.3, "gan_weight": 0.7}
    model, twin = models.VAEGAN(**settings), models.VAEGAN(**settings)
    for one in (model, twin):
        for p in [p for network in one.networks.values() for p in network.parameters()]:
            p.adopt(p.data.astype("float64"))
        one.optimizers = {name: SGD(o.parameters, 0.01) for name, o in one.optimizers.items()}
    before, x = twin.state(), faces(rng, 6).astype("float64")
    found = model.step(x, numpy.random.default_rng(0))

    x = 2 * x - 1       # as the networks see it
    numbers = numpy.random.default_rng(0)
    encoder, decoder, D = twin.networks.values()
    both = encoder(x)
    mu, logvar = both[:, :3], both[:, 3:]
    z = mu + ops.sqrt(ops.exp(logvar)) * numbers.standard_normal((6, 3), dtype="float32")
    reconstruction, fake = decoder(z), decoder(numbers.standard_normal((6, 3), dtype="float32"))
    d_loss = ops.mean(minus_log_d(D(x))) + ops.mean(minus_log_d(-D(fake.data)))
    twin.optimizers["discriminator"].step(grad(d_loss, D.parameters()))
    if learned:
        wanted = D.features(x).data
        error = ops.sum((D.features(reconstruction) - wanted) ** 2) / 12
    else:
        error = ops.sum((reconstruction - x) ** 2) / 6
    kl = ops.mean(ops.sum(mu * mu + ops.exp(logvar) - 1 - logvar, axis=1)) / 2
    l_gan = ops.mean(minus_log_d(D(fake)))
    for name, value in {"d_loss": d_loss, "reconstruction_error": error, "kl": kl, "l_gan": l_gan}.items():
        assert found[name] == pytest.approx(value.item(), rel=1e-9), name
    optimizer = twin.optimizers["autoencoder"]
    optimizer.step(grad(0.3 * error + kl + 0.7 * l_gan, optimizer.parameters))
    for key, value in twin.state().items():
        assert not value.shape or (value != before[key]).any(), key
        tolerance = 1e-6 if "running" in key else 1e-9          # running statistics are kept in float32
        numpy.testing.assert_allclose(model.state()[key], value, rtol=tolerance, atol=tolerance, err_msg=key)


def test_convolutional_models_are_gradient_checked(rng, monkeypatch):
    # Finite differences need a smooth function.
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: ops.softplus(x))
    model = models.VAEGAN(learned_similarity=True, **LARSEN)
    encoder, decoder, D = model.networks.values()
    x, noise, latents = faces(rng, 10).astype("float64"), rng.normal(size=(10, 3)), rng.normal(size=(10, 3))

    def objective(*_):
        mu, logvar = model.posterior(x)
        reconstruction = decoder(mu + ops.exp(logvar / 2) * noise)
        error = 0.5 * losses.squared_error(D.features(x), D.features(reconstruction))
        l_vae = losses.vae(error, losses.gaussian_kl(mu, logvar), 0.3)
        return model.objective(l_vae, losses.gan_generator_each(D(decoder(latents))))
    check_grad(objective, [*encoder.parameters(), *decoder.parameters(), *D.parameters()])
    fake = decoder(latents.astype("float32")).data.astype("float64")
    check_grad(lambda *_: losses.gan_discriminator(D(x), D(fake)), D.parameters())


def gradients(model, x, monkeypatch):
    """What each network is given in one step, as one vector; no parameter moves."""
    given = {}
    for name, optimizer in model.optimizers.items():
        monkeypatch.setattr(optimizer, "step", lambda grads, name=name: given.__setitem__(name, grads))
    model.step(x, numpy.random.default_rng(7))
    split = len(model.networks["encoder"].parameters())
    parts = {"encoder": given["autoencoder"][:split], "decoder": given["autoencoder"][split:],
             "discriminator": given.get("discriminator", [])}
    return {name: numpy.concatenate([g.ravel() for g in grads]) for name, grads in parts.items() if grads}


def times(factor, name):
    original = getattr(losses, name)
    return name, lambda *args: factor * original(*args)


TERMS = [("squared_error", {"encoder", "decoder"}), ("gaussian_kl", {"encoder"}),
         ("gan_generator_each", {"decoder"}), ("gan_discriminator", {"discriminator"})]


@pytest.mark.parametrize("kind, term, movers", [
    (kind, term, movers) for kind in KINDS for term, movers in TERMS
    if kind is not models.VAE or "gan" not in term])
def test_which_networks_move_when_one_term_is_perturbed(kind, term, movers, rng, monkeypatch):
    settings = VAE if kind is models.VAE else GAN if kind is models.VAEGAN else {**GAN, "d": 0.5}
    x = rng.random((16, 12), dtype="float32")
    before = gradients(kind(**settings), x, monkeypatch)
    monkeypatch.setattr(losses, *times(2.0, term))
    after = gradients(kind(**settings), x, monkeypatch)
    for name, g in before.items():
        distance = abs(after[name] - g).max() / abs(g).max()
        assert distance > 1e-3 if name in movers else distance < 1e-6, (name, distance)


@pytest.mark.parametrize("learned", [False, True], ids=["pixels", "learned"])
@pytest.mark.parametrize("term, movers", TERMS)
def test_which_networks_move_in_a_convolutional_model(term, movers, learned, rng, monkeypatch):
    x, settings = faces(rng, 8), {**LARSEN, "learned_similarity": learned, "gan_weight": 50.0}
    before = gradients(models.VAEGAN(**settings), x, monkeypatch)
    monkeypatch.setattr(losses, *times(2.0, term))
    after = gradients(models.VAEGAN(**settings), x, monkeypatch)
    for name, g in before.items():
        distance = abs(after[name] - g).max() / abs(g).max()
        assert distance > 1e-3 if name in movers else distance < 1e-6, (name, distance)


def test_inside_the_constraint_the_gan_term_moves_no_network(rng, monkeypatch):
    x = rng.random((16, 12), dtype="float32")
    vae = gradients(models.VAEGAN(gan_weight=0.0, **GAN), x, monkeypatch)
    for d, same in ((50.0, True), (0.5, False)):
        found = gradients(models.ConstrainedVAEGAN(d=d, **GAN), x, monkeypatch)
        numpy.testing.assert_allclose(found["encoder"], vae["encoder"], rtol=1e-4, atol=1e-7)
        assert numpy.allclose(found["decoder"], vae["decoder"], rtol=1e-4, atol=1e-7) == same


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", [{"sizes": (12, 9, 7, 5)},
                                          {"architecture": "larsen", "width": 0.02}])
def test_images_are_encoded_and_decoded_by_averages_of_the_weights(kind, architecture, rng):
    settings = {"latent": 4, "lr": 0.02, **architecture}
    model, plain = kind(average=0.75, **settings), kind(**settings)
    pairs = [(model.networks[role], model.networks[f"average_{role}"]) for role in ("encoder", "decoder")]
    expected = [{name: array.astype("float64") for name, array in network.state().items()}
                for network, _ in pairs]
    shape = model.build().image_shape
    for step in range(1, 31):
        x = rng.random((4, *shape), dtype="float32")
        found = model.step(x, numpy.random.default_rng(step))
        assert found == plain.step(x, numpy.random.default_rng(step))       # training is as it was
        share = 1 - min(0.75, step / (9 + step))
        for (network, _), mean in zip(pairs, expected):
            for name, array in network.state().items():
                mean[name] += share * (array - mean[name])
    for (_, average), mean in zip(pairs, expected):
        for name, array in average.state().items():
            numpy.testing.assert_allclose(array, mean[name], rtol=1e-4, atol=1e-6)
    assert all((value == model.state()[name]).all() for name, value in plain.state().items())
    latents = model.noise(3, numpy.random.default_rng(1))
    encoder, decoder = (average.eval() for _, average in pairs)
    images, seen = decoder(latents).data, x
    if "width" in architecture:     # within the networks, pixels are from -1 to 1
        images, seen = (images + 1) / 2, 2 * x - 1
    for made in (model.sample(3, rng=1), model.decode(latents)):
        numpy.testing.assert_allclose(made, images, atol=1e-6)
    assert abs(plain.decode(latents) - images).max() > 1e-3
    numpy.testing.assert_allclose(model.encode(x)[0], encoder(seen).data[:, :4], atol=1e-5)
    assert abs(plain.encode(x)[0] - model.encode(x)[0]).max() > 1e-3
    again = kind(**model.settings())
    again.load_state(model.state())
    numpy.testing.assert_array_equal(again.sample(3, rng=1), model.sample(3, rng=1))


def test_plain_and_constrained_start_alike_and_agree_while_every_sample_is_outside(rng):
    plain, constrained = models.VAEGAN(**GAN), models.ConstrainedVAEGAN(d=-5.0, **GAN)
    for i in range(3):
        x = rng.random((8, 12), dtype="float32")
        for model in (plain, constrained):
            model.step(x, numpy.random.default_rng(i))
    state = plain.state()
    for key, value in constrained.state().items():
        numpy.testing.assert_allclose(value, state[key], rtol=1e-3, atol=1e-6)


def trained(kind, rng):
    model = kind(**(VAE if kind is models.VAE else GAN))
    x = rng.random((64, 12), dtype="float32")
    for i in range(30):
        model.step(x, numpy.random.default_rng(i))
    return model, x


@every_kind
def test_encode_decode_reconstruct(kind, rng):
    model, x = trained(kind, rng)
    many = numpy.concatenate([x] * 40)                                      # more than one chunk
    mu, logvar = model.encode(many)
    assert mu.shape == logvar.shape == (2560, 4) and not isinstance(mu, Tensor)
    both = to_host(model.networks["encoder"](x))
    numpy.testing.assert_allclose(mu[:64], both[:, :4], rtol=1e-4, atol=1e-6)
    numpy.testing.assert_allclose(logvar[-64:], both[:, 4:], rtol=1e-4, atol=1e-6)
    decoded = model.decode(mu)
    assert decoded.shape == (2560, 12) and decoded.dtype == "float32" and 0 <= decoded.min()
    assert decoded.max() <= 1
    assert (model.reconstruct(many) == decoded).all() and decoded[:64].std(axis=0).max() > 1e-5
    numpy.testing.assert_allclose(model.sample(9, rng=3),
                                  model.decode(model.noise(9, numpy.random.default_rng(3))))


@every_kind
def test_interpolate(kind, rng):
    model, x = trained(kind, rng)
    path = model.interpolate(x[:5], x[5:10], 7)
    assert path.shape == (5, 7, 12)
    numpy.testing.assert_allclose(path[:, 0], model.reconstruct(x[:5]), rtol=1e-5)
    numpy.testing.assert_allclose(path[:, -1], model.reconstruct(x[5:10]), rtol=1e-5)
    middle = model.decode((model.encode(x[:5])[0] + model.encode(x[5:10])[0]) / 2)
    numpy.testing.assert_allclose(path[:, 3], middle, rtol=1e-5)
    with pytest.raises(ValueError, match="an integer steps of at least 2 expected, 1 found"):
        model.interpolate(x[:5], x[5:10], 1)


@every_kind
def test_latents_follow_the_posterior(kind):
    model = kind(**(VAE if kind is models.VAE else GAN))
    mu, logvar = numpy.float32([[0.5, -1, 0, 2]] * 20_000), numpy.float32([[0.0, -2, 1, -9]] * 20_000)
    z = model.latents(mu, logvar, numpy.random.default_rng(0))
    numpy.testing.assert_allclose(z.mean(axis=0), mu[0], atol=0.05)
    numpy.testing.assert_allclose(z.std(axis=0), numpy.exp(logvar[0] / 2), rtol=0.03)


def test_settings_take_effect():
    model = models.ConstrainedVAEGAN(lr=0.3, d_lr=0.2, **GAN)
    assert model.optimizers["autoencoder"].lr == 0.3 and model.optimizers["discriminator"].lr == 0.2
    encoder, decoder, D = (model.networks[name].parameters()
                           for name in ("encoder", "decoder", "discriminator"))
    for found, expected in ((model.optimizers["autoencoder"].parameters, encoder + decoder),
                            (model.optimizers["discriminator"].parameters, D)):
        assert len(found) == len(expected) and all(p is q for p, q in zip(found, expected))
    assert [p.shape for p in encoder[::2]] == [(12, 9), (9, 7), (7, 5), (5, 8)]
    assert [p.shape for p in decoder[::2]] == [(4, 5), (5, 7), (7, 9), (9, 12)]
    assert D[-2].shape == (5, 3)
    assert max(abs(p.data).max() * p.shape[0] ** 0.5 for p in encoder[::2]) <= 1
    for network in models.VAEGAN(init="he_normal", **GAN).networks.values():
        assert max(abs(p.data).max() * p.shape[0] ** 0.5 for p in network.parameters()[::2]) > 2


def test_plain_and_constrained_start_from_the_same_networks():
    assert PLAIN.state().keys() == CONSTRAINED.state().keys()
    assert all((value == CONSTRAINED.state()[key]).all() for key, value in PLAIN.state().items())
    assert set(CONSTRAINED.settings()) - set(PLAIN.settings()) == {"d", "per_sample", "multiplier", "eta"}


def test_convolutional_models_encode_decode_and_show_pictures(rng):
    model, x = models.VAEGAN(**LARSEN), faces(rng, 3)
    model.step(x, rng)
    assert model.encode(x)[0].shape == (3, 3)
    assert model.interpolate(x[:2], x[1:], 4).shape == (2, 4, 64, 64, 3)
    # With running statistics an image is encoded alone as it is among others.
    numpy.testing.assert_allclose(model.encode(x[:1])[0], model.encode(x)[0][:1], rtol=1e-4)
    sample = model.sample(5, rng=1)
    assert sample.shape == (5, 64, 64, 3) and 0 <= sample.min() < 0.5 < sample.max() <= 1
    latents = model.noise(5, numpy.random.default_rng(1))
    numpy.testing.assert_allclose(2 * sample - 1, model.networks["decoder"].eval()(latents).data, atol=1e-6)


def test_convolutional_networks_see_black_at_minus_1(rng):
    model, x = models.VAEGAN(**LARSEN), faces(rng, 3)
    seen = []
    forward = model.networks["encoder"].forward
    model.networks["encoder"].forward = lambda images: (seen.append(images), forward(images))[1]
    model.step(x, numpy.random.default_rng(0))
    model.encode(x)
    for images in seen:
        numpy.testing.assert_allclose(images, 2 * x - 1, atol=1e-6)


@pytest.mark.parametrize("make, message", [
    (lambda: models.VAE(reconstruction_weight=-1.0),
     r"VAE: a number reconstruction_weight in \[0, inf\) expected, -1.0 found"),
    (lambda: models.VAE(reconstruction_weight=math.nan), "a number reconstruction_weight in .* nan found"),
    (lambda: models.VAEGAN(gan_weight=-0.1), r"VAEGAN: a number gan_weight in \[0, inf\) expected, -0.1"),
    (lambda: models.ConstrainedVAEGAN(gan_weight=-2.0), "ConstrainedVAEGAN: a number gan_weight .* -2.0"),
    (lambda: models.ConstrainedVAEGAN(gan_weight=math.inf), "a number gan_weight .* inf found"),
    (lambda: models.ConstrainedVAEGAN(d=math.nan), "ConstrainedVAEGAN: a number d in .* nan found"),
    (lambda: models.ConstrainedVAEGAN(d=-math.inf), "a number d in .* -inf found"),
    (lambda: models.VAE(architecture="larsen", width=0.0), "a number width in .* 0.0 found"),
    *[(lambda kind=kind: kind(width=0.05), "'fully_connected' has sizes, not a width: width 0.05 found")
      for kind in KINDS],
    *[(lambda kind=kind: kind(architecture="larsen", sizes=(12, 9)),
       r"'larsen' has a width, not sizes: sizes \(12, 9\) found") for kind in KINDS],
    (lambda: models.VAE(optimizer="adam"), "VAE: optimizer one of SGD, RMSProp, Adam expected, 'adam' found"),
    (lambda: models.VAEGAN(learned_similarity=True),
     "learned_similarity needs a discriminator with features"),
    (lambda: models.ConstrainedVAEGAN(multiplier="x"), "multiplier 'fixed' or 'dual' expected, 'x' found"),
    (lambda: models.ConstrainedVAEGAN(multiplier="dual", per_sample=False),
     "^ConstrainedVAEGAN: per_sample .*: True expected with a dual one, False found"),
    (lambda: models.ConstrainedVAEGAN(eta=0.0), r"a number eta in \(0, inf\) expected, 0.0 found"),
    (lambda: models.VAE(architecture="conv", sizes=(784, 9)), r"'conv' has a width, not sizes: .*\(784, 9\)"),
    (lambda: models.GAN(architecture="larsen", r1=1.0), "^GAN: r1 needs a discriminator without BatchNorm"),
    (lambda: models.WGAN(architecture="larsen", lipschitz="penalty"),
     "^WGAN: lipschitz 'penalty' needs a critic without BatchNorm"),
    (lambda: models.VAEGAN(architecture="conv", learned_similarity=True), "needs a discriminator with feat"),
    (lambda: models.VAEGAN(d_lr=0.0), r"VAEGAN: a number d_lr in \(0, inf\) expected, 0.0 found"),
])
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
