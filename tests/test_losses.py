"""Each loss against a closed form written in Python floats, and the paper's Eq. 3 and 4 on discrete
distributions."""

import math
import re

import numpy
import pytest

from minigen import losses, networks, nn, ops
from minigen.core import Tensor, grad, to_host
from minigen.gradcheck import check_grad, check_subgradient

REAL = [[-50.0, 2.0, 0.0], [50.0, -1.5, 1e-3]]
FAKE = [[50.0, -3.0, 0.0], [-50.0, 0.5, -1e-3]]


def flat(logits):
    return [v for row in logits for v in row]


def mean(items):
    items = list(items)
    return math.fsum(items) / len(items)


def minus_log_d(logit):
    """-log(1 / (1 + exp(-logit)))."""
    return math.log1p(math.exp(-logit)) if logit > 0 else math.log1p(math.exp(logit)) - logit


def minus_log_not_d(logit):
    return minus_log_d(-logit)


@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("loss, logits, expected", [
    (losses.gan_discriminator,
     (REAL, FAKE), mean(map(minus_log_d, flat(REAL))) + mean(map(minus_log_not_d, flat(FAKE)))),
    (losses.gan_generator, (FAKE,), mean(map(minus_log_d, flat(FAKE)))),
    (losses.gan_generator_minimax, (FAKE,), -mean(map(minus_log_not_d, flat(FAKE)))),
    (losses.wgan_critic, (REAL, FAKE), mean(flat(FAKE)) - mean(flat(REAL))),
    (losses.wgan_generator, (FAKE,), -mean(flat(FAKE)))], ids=lambda v: getattr(v, "__name__", ""))
def test_adversarial_losses(loss, logits, expected, dtype, rtol):
    found = loss(*(Tensor(rows, dtype) for rows in logits))
    assert found.shape == () and found.dtype == dtype
    assert found.item() == pytest.approx(expected, rel=rtol)
    assert loss(*(numpy.array(rows, dtype) for rows in logits)) == pytest.approx(expected, rel=rtol)
    check_grad(loss, [numpy.array(rows) / 10 for rows in logits], order=2)


def test_batches_of_real_and_generated_images_may_differ_in_size():
    real, fake = numpy.array([[1.0]]), numpy.array([[2.0], [4.0]])
    assert losses.wgan_critic(real, fake) == 3 - 1
    assert losses.gan_discriminator(real, fake) == pytest.approx(
        minus_log_d(1.0) + (minus_log_not_d(2.0) + minus_log_not_d(4.0)) / 2, rel=1e-12)


@pytest.mark.parametrize("logit", [-50.0, 50.0])
def test_extreme_logits_keep_value_and_gradient(logit):
    x = Tensor([logit], "float64")
    for loss, value, slope in [(losses.gan_generator, minus_log_d(logit), -1 / (1 + math.exp(logit))),
                               (losses.gan_generator_minimax, -minus_log_not_d(logit),
                                -1 / (1 + math.exp(-logit))),
                               (lambda t: losses.gan_discriminator(t, Tensor([0.0], "float64")),
                                minus_log_d(logit) + math.log(2), -1 / (1 + math.exp(logit)))]:
        y = loss(x)
        assert y.item() == pytest.approx(value, rel=1e-12, abs=0)           # 2e-22 counts too
        assert grad(y, x)[0] == pytest.approx(slope, rel=1e-12, abs=0)


def test_at_d_one_half_the_losses_are_log_2():
    zero = numpy.zeros((3, 2))
    assert losses.gan_generator(zero) == pytest.approx(math.log(2))
    assert losses.gan_generator_minimax(zero) == pytest.approx(-math.log(2))
    assert losses.gan_discriminator(zero, zero) == pytest.approx(2 * math.log(2))


def test_the_norm_of_a_zero_row_has_finite_derivatives_of_order_2():
    x = Tensor([[3.0, 4.0], [0.0, 0.0]], "float64")
    norms = losses._row_norm(x)
    assert norms.data.tolist() == [5, 0]
    slope = grad(ops.sum(norms * norms * norms), x, create_graph=True)
    assert slope.data.tolist() == [[45, 60], [0, 0]]
    assert grad(ops.sum(slope), x)[1].tolist() == [0, 0]        # of a smooth function
    assert numpy.isfinite(grad(ops.sum(grad(ops.sum(losses._row_norm(x)), x, create_graph=True)), x)).all()


def in_float64(network, rng):
    """The network with weights, and biases, that are spread."""
    for p in network.parameters():
        p.adopt(rng.normal(size=p.shape) * 0.6)
    return network


# Networks, and the shape of an image; their outputs are (N, 3), (N,), (N, 3) and (N, 2, 2, 3).
PENALISED = {
    "rows": (lambda rng: nn.Sequential(nn.Linear(5, 4, rng=rng), nn.Tanh(), nn.Linear(4, 3, rng=rng)), (5,)),
    "one": (lambda rng: nn.Sequential(nn.Linear(5, 1, rng=rng), nn.Tanh(), nn.Reshape()), (5,)),
    "images": (lambda rng: nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1, rng=rng), nn.ReLU(),
                                         nn.Reshape(12), nn.Linear(12, 3, rng=rng)), (4, 4, 2)),
    "patches": (lambda rng: nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1, rng=rng), nn.Tanh()),
                (4, 4, 2))}


def norms_by_differences(network, images, h=1e-5):
    """The norm of the gradient of the mean output of each image, alone, pixel by pixel."""
    def mean_output(x):
        return mean(to_host(network(x[None])).ravel())
    return [math.hypot(*((mean_output(x + step) - mean_output(x - step)) / (2 * h)
                         for step in h * numpy.eye(x.size).reshape(-1, *x.shape))) for x in images]


@pytest.mark.parametrize("name", PENALISED)
def test_penalties_against_differences(name, rng):
    make, shape = PENALISED[name]
    network = in_float64(make(rng), rng)
    real, fake, t = rng.random((4, *shape)), rng.random((4, *shape)), rng.random(4)
    between = [a * x + (1 - a) * y for a, x, y in zip(t, real, fake)]
    expected = mean((norm - 1) ** 2 for norm in norms_by_differences(network, between))
    for kind in (numpy.asarray, Tensor):
        found = losses.gradient_penalty(network, kind(real), kind(fake), kind(t))
        assert found.shape == () and found.item() == pytest.approx(expected, rel=1e-7)
    ends = [losses.gradient_penalty(network, real, fake, numpy.full(4, end)).item() for end in (1.0, 0.0)]
    assert ends == pytest.approx([mean((norm - 1) ** 2 for norm in norms_by_differences(network, images))
                                  for images in (real, fake)], rel=1e-7)
    expected = mean(norm ** 2 for norm in norms_by_differences(network, real)) / 2
    for kind in (numpy.asarray, Tensor):
        found = losses.r1_penalty(network, kind(real))
        assert found.shape == () and found.item() == pytest.approx(expected, rel=1e-7)
    network = make(rng)
    real, fake, t = (a.astype("float32") for a in (real, fake, t))
    for found in (losses.gradient_penalty(network, real, fake, t), losses.r1_penalty(network, real)):
        assert found.dtype == "float32" and found.shape == ()


@pytest.mark.parametrize("architecture", [
    networks.FullyConnected((6, 5, 4)), networks.Convolutional(1, 0.02)], ids=lambda a: type(a).__name__)
def test_penalised_objectives_are_gradient_checked(architecture, rng, monkeypatch):
    # Finite differences need a smooth function.
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: ops.softplus(x))
    critic = in_float64(architecture.discriminator(3, rng), rng)
    real, fake = rng.random((2, 2, *architecture.image_shape))
    t = rng.random(2)

    def wgan(real, fake):
        penalty = losses.gradient_penalty(critic, real, fake, t)
        return losses.wgan_critic(critic(real), critic(fake)) + 10 * penalty

    def gan(real, fake):
        return losses.gan_discriminator(critic(real), critic(fake)) + 5 * losses.r1_penalty(critic, real)
    for objective in (wgan, gan):
        check_grad(lambda *_: objective(real, fake), critic.parameters(), order=2)
        check_grad(objective, [real, fake], order=2)
    check_grad(lambda real, fake: losses.gradient_penalty(critic, real, fake, t), [real, fake], order=2)
    check_grad(lambda t: losses.gradient_penalty(critic, real, fake, t), [t], order=2)
    check_grad(lambda real: losses.r1_penalty(critic, real), [real], order=2)


def test_where_the_outputs_do_not_depend_on_the_images_the_penalty_is_1(rng):
    real, fake, t = rng.random((3, 4)), rng.random((3, 4)), rng.random(3)
    flat = nn.Linear(4, 2, rng=rng)
    for p in flat.parameters():
        p.adopt(numpy.zeros(p.shape))
    for penalty, expected in ((losses.gradient_penalty(flat, real, fake, t), 1),
                              (losses.r1_penalty(flat, real), 0)):
        assert penalty.item() == expected and (grad(penalty, flat.weight) == 0).all()
    constant = Tensor(numpy.ones((3, 2)))
    assert losses.gradient_penalty(lambda x: constant, real, fake, t).item() == 1
    assert losses.r1_penalty(lambda x: constant, real).item() == 0


X = [[0.0, 0.5, 1.0, 0.25], [1.0, 0.0, 0.0, 0.125]]
Y = [[0.1, 0.4, 0.7, 0.25], [0.5, 0.5, 0.25, 0.0]]
MU = [[0.5, -2.0], [0.0, 1.0]]
LOGVAR = [[0.3, -50.0], [0.0, 1.5]]
ERROR = mean(math.fsum((a - b) ** 2 for a, b in zip(x, y)) for x, y in zip(X, Y))
KL = mean(
    math.fsum(0.5 * (m * m + math.exp(v) - 1 - v) for m, v in zip(ms, vs)) for ms, vs in zip(MU, LOGVAR))


def arrays(*lists):
    return [numpy.array(item) for item in lists]


def test_squared_error_is_summed_over_pixels_and_averaged_over_the_batch():
    assert losses.squared_error(*arrays(X, Y)) == pytest.approx(ERROR, rel=1e-14)
    images = [numpy.array(item).reshape(2, 2, 2, 1) for item in (X, Y)]
    assert losses.squared_error(*images) == pytest.approx(ERROR, rel=1e-14)
    check_grad(losses.squared_error, arrays(X, Y), order=2)


def test_gaussian_kl():
    assert losses.gaussian_kl(*arrays(MU, LOGVAR)) == pytest.approx(KL, rel=1e-14)
    assert losses.gaussian_kl(numpy.zeros((2, 3)), numpy.zeros((2, 3))) == 0
    check_grad(losses.gaussian_kl, arrays(MU, [[0.3, -1.0], [0.0, 1.5]]), order=2)


def ones(*shape, dtype="float64"):
    return numpy.ones(shape, dtype)


def penalty(critic):
    return lambda real, fake, t: losses.gradient_penalty(critic, real, fake, t)


@pytest.mark.parametrize("loss, shapes, message", [
    (losses.gan_discriminator, [(4, 3), (4, 1)],
     r"real_logits and fake_logits of shape \(N, ...\) expected, \(4, 3\) and \(4, 1\) found"),
    (losses.gan_discriminator, [(4,), (4, 1)], r"\(4,\) and \(4, 1\) found"),
    (losses.gan_discriminator, [(0, 3), (4, 3)], r"\(0, 3\) and \(4, 3\) found"),
    (losses.gan_discriminator, [(4, 3), (0, 3)], r"\(0, 3\) found"),
    (losses.gan_generator_minimax, [(0, 3)], r"fake_logits of shape \(N, ...\) expected, \(0, 3\) found"),
    (losses.gan_generator_minimax, [()], r"\(\) found"), (losses.gan_generator, [(4, 0)], r"\(4, 0\) found"),
    (losses.gan_generator_each, [(4,)], r"fake_logits of shape \(N, outputs\) expected, \(4,\) found"),
    (losses.gan_generator_each, [(4, 2, 2)], r"\(4, 2, 2\) found"),
    (losses.gan_generator_each, [(0, 2)], r"\(0, 2\) found"),
    (losses.wgan_critic, [(4, 3), (4,)],
     r"real_scores and fake_scores of shape .* \(4, 3\) and \(4,\) found"),
    (losses.wgan_generator, [(0,)], r"fake_scores of shape \(N, ...\) expected, \(0,\) found"),
    (losses.squared_error, [(4, 3), (4, 1)],
     r"x and reconstruction of shape \(N, pixels, ...\) expected, \(4, 3\) and \(4, 1\) found"),
    (losses.squared_error, [(4, 3), (2, 3)], r"\(2, 3\) found"),
    (losses.squared_error, [(3,)] * 2, r"\(3,\) found"),
    (losses.squared_error, [(0, 3)] * 2, r"\(0, 3\) found"),
    (losses.gaussian_kl, [(4, 3), (4, 1)],
     r"mu and logvar of shape \(N, latent\) expected, \(4, 3\) and \(4, 1\) found"),
    (losses.gaussian_kl, [(3,)] * 2, r"\(3,\) found"), (losses.gaussian_kl, [(2, 0)] * 2, r"\(2, 0\) found"),
    (losses.vae, [(4,), ()], r"a scalar reconstruction_error expected, one of shape \(4,\) found"),
    (losses.vae, [(), (4,)], r"a scalar kl expected, one of shape \(4,\) found"),
    (losses.vaegan, [(4,), (4,)], r"a scalar l_vae expected, one of shape \(4,\) found"),
    (losses.vaegan, [(), ()], r"l_gan of shape \(N,\) expected, \(\) found"),
    (losses.vaegan, [(), (4, 2)], r"l_gan of shape \(N,\) expected, \(4, 2\) found"),
    (lambda v, g: losses.constrained(v, g, 1.0), [(), (0,)], r"l_gan of shape \(N,\) expected, \(0,\) found"),
    (lambda v, g: losses.constrained(v, g, 1.0), [(1,), (4,)], r"a scalar l_vae expected"),
    (lambda v, g: losses.constrained(v, g, 1.0, per_sample=False), [(), (4, 2)], r"\(4, 2\) found"),
    (lambda v, g, m: losses.lagrangian(v, g, 1.0, m), [(4,), (4,), ()], "^lagrangian: a scalar l_vae"),
    (lambda v, g, m: losses.lagrangian(v, g, 1.0, m), [(), (4, 2), ()], r"l_gan of shape .* \(4, 2\) found"),
    (lambda v, g, m: losses.lagrangian(v, g, 1.0, m), [(), (4,), (1,)],
     r"a scalar multiplier expected, one of shape \(1,\) found"),
    (penalty(abs), [(4, 3), (4, 1), (4,)],
     r"^gradient_penalty: real and fake of shape \(N, ...\) expected, \(4, 3\) and \(4, 1\) found"),
    (penalty(abs), [(4, 3), (2, 3), (4,)], r"\(4, 3\) and \(2, 3\) found"),
    (penalty(abs), [(0, 3), (0, 3), (0,)], r"\(0, 3\) and \(0, 3\) found"),
    (penalty(abs), [(), (), ()], r"\(\) and \(\) found"),
    (penalty(abs), [(4, 3), (4, 3), (2,)],
     r"^gradient_penalty: t of shape \(4,\) expected, a number per image, \(2,\) found"),
    (penalty(abs), [(4, 3), (4, 3), (4, 1)], r"\(4, 1\) found"),
    (penalty(abs), [(4, 3), (4, 3), ()], r"\(\) found"),
    (penalty(lambda x: x[:2]), [(4, 3), (4, 3), (4,)],
     r"^gradient_penalty: a Tensor \(4, ...\) from the network expected, one row per image, \(2, 3\) found"),
    (penalty(lambda x: None), [(4, 3), (4, 3), (4,)], "NoneType found"),
    (lambda x: losses.r1_penalty(abs, x), [()],
     r"^r1_penalty: real of shape \(N, ...\) expected, \(\) found"),
    (lambda x: losses.r1_penalty(abs, x), [(0, 3)], r"\(0, 3\) found"),
    (lambda x: losses.r1_penalty(ops.sum, x), [(4, 3)],
     r"^r1_penalty: a Tensor \(4, ...\) from the network expected, one row per image, \(\) found"),
    (lambda x: losses.r1_penalty(lambda x: x[:, :0], x), [(4, 3)], r"a Tensor .* \(4, 0\) found"),
    (lambda x: losses.r1_penalty(lambda x: 3.0, x), [(4, 3)], r"^r1_penalty: a Tensor .* float found"),
    (lambda t: losses.softmax_cross_entropy(t, [0]), [(3,)],
     r"logits of shape \(N, classes\) expected, \(3,\)"),
    (lambda t: losses.softmax_cross_entropy(t, []), [(0, 3)], r"\(0, 3\) found")])
def test_shapes_that_would_give_another_loss_are_refused(loss, shapes, message):
    for kind in (numpy.asarray, Tensor):
        with pytest.raises(ValueError, match=message):
            loss(*[kind(ones(*shape)) for shape in shapes])


@pytest.mark.parametrize("loss", [losses.vae, losses.vaegan])
@pytest.mark.parametrize("value", [None, "1", [1.0]], ids=str)
def test_what_is_no_number_is_refused(loss, value):
    found = re.escape(repr(value))
    with pytest.raises(TypeError, match=f"^{loss.__name__}: a scalar .* expected, {found} found$"):
        loss(value, Tensor(1.0) if loss is losses.vae else Tensor([1.0]))


@pytest.mark.parametrize("loss, dtypes, message", [
    (losses.squared_error, ("uint8", "uint8"),
     "^squared_error: x, reconstruction of one dtype, .* uint8, uint8 found"),
    (losses.squared_error, ("uint8", "float32"), "uint8, float32 found"),
    (losses.gan_discriminator, ("float64", "float32"), "^gan_discriminator: .* float64, float32 found"),
    (losses.gan_generator, ("float16",), "^gan_generator: .* float16 found"),
    (losses.wgan_critic, ("int64", "int64"), "^wgan_critic: "),
    (lambda x: losses.r1_penalty(abs, x), ("uint8",), "^r1_penalty: real of .* uint8 found"),
    (lambda g: losses.lagrangian(1.0, g[:, 0], 1.0, 1.0), ("int64",), "^lagrangian: l_gan .* int64 found"),
    (penalty(abs), ("float32", "float64", "float32"), "^gradient_penalty: real, fake .* float64 found"),
    (lambda real, fake, t: losses.gradient_penalty(abs, real, fake, t[:, 0]), ("float32",) * 2 + ("float64",),
     "^gradient_penalty: real, fake, t of one dtype, .* float32, float32, float64 found"),
    (losses.gaussian_kl, ("int64",) * 2, "^gaussian_kl")])
def test_losses_take_floats_of_one_dtype(loss, dtypes, message):
    with pytest.raises(TypeError, match=message):
        loss(*[ones(4, 3, dtype=dtype) for dtype in dtypes])


@pytest.mark.parametrize("weighted, name", [
    (lambda w: losses.vae(1.0, 1.0, w), "vae: a number reconstruction_weight"),
    (lambda w: losses.vaegan(1.0, ones(2), w), "vaegan: a number gan_weight"),
    (lambda w: losses.constrained(1.0, ones(2), 1.0, w), "constrained: a number gan_weight"),
    (lambda w: losses.constrained(1.0, ones(2), w if w != -1 else math.inf), "constrained: a number d"),
    (lambda w: losses.lagrangian(1.0, ones(2), w if w != -1 else math.inf, 1.0), "lagrangian: a number d")])
@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, True, None, "1"], ids=str)
def test_weights_that_are_no_weights_are_refused(weighted, name, weight):
    with pytest.raises((TypeError, ValueError), match=f"^{name} in "):
        weighted(weight)


@pytest.mark.parametrize("labels, message", [
    ([0, -1, 2], "^softmax_cross_entropy: labels from 0 to 2 expected, -1 found$"),
    ([0, 1, 3], "labels from 0 to 2 expected, 3 found"),
    ([0.0, 1.0, 2.0], r"labels: an array of integers expected, float64 \(3,\) found"),
    ([True, False, True], r"bool \(3,\) found"),
    (["0", "1", "2"], "integers expected, <U1"),
    (Tensor([0, 1, 2]), "integers expected, float32"),
    ([[0], [1], [2]], r"labels of shape \(3,\) expected, \(3, 1\) found"),
    ([0, 1], r"labels of shape \(3,\) expected, \(2,\) found"),
    (numpy.eye(3, dtype=int), r"\(3, 3\) found")], ids=str)
def test_labels_that_are_no_classes_are_refused(labels, message):
    labels = labels if isinstance(labels, Tensor) else numpy.array(labels)
    with pytest.raises(ValueError, match=message):
        losses.softmax_cross_entropy(Tensor(ones(3, 3)), labels)


@pytest.mark.parametrize("labels", [[2, 0], numpy.array([2, 0], "uint8"), numpy.array([2, 0], "int8")],
                         ids=repr)
def test_labels_may_be_a_list_or_of_any_integer_dtype(labels):
    logits = numpy.log([[1.0, 2.0, 3.0] + [1e-300] * 200, [4.0, 1.0, 1.0] + [1e-300] * 200])
    assert losses.softmax_cross_entropy(logits, labels) == pytest.approx(
        -(math.log(3 / 6) + math.log(4 / 6)) / 2, rel=1e-12)


def test_gaussian_kl_against_monte_carlo():
    mu, logvar, n = numpy.array([0.7, -1.2]), numpy.array([0.4, -0.9]), 400_000
    z = mu + numpy.exp(logvar / 2) * numpy.random.default_rng(0).standard_normal((n, 2))
    ratios = (0.5 * (z ** 2 - (z - mu) ** 2 / numpy.exp(logvar) - logvar)).sum(axis=1)
    tolerance = 4 * ratios.std() / math.sqrt(n)
    assert losses.gaussian_kl(mu[None], logvar[None]) == pytest.approx(ratios.mean(), abs=tolerance)


def test_vae():
    assert losses.vae(numpy.float64(5), numpy.float64(3)) == 8
    assert losses.vae(numpy.float64(5), numpy.float64(3), reconstruction_weight=0.5) == 5.5
    check_grad(
        lambda x, y, mu, logvar: losses.vae(losses.squared_error(x, y), losses.gaussian_kl(mu, logvar), 3.0),
        arrays(X, Y, MU, [[0.3, -1.0], [0.0, 1.5]]),
        order=2)


ROWS = [mean(map(minus_log_d, row)) for row in FAKE]


def test_gan_generator_of_each_image():
    numpy.testing.assert_allclose(losses.gan_generator_each(numpy.array(FAKE)), ROWS, rtol=1e-14)
    check_grad(losses.gan_generator_each, [numpy.array(FAKE) / 10], order=2)
    numpy.testing.assert_allclose(losses.gan_generator_each(numpy.zeros((4, 2))), [math.log(2)] * 4,
                                  rtol=1e-15)


def test_vaegan():
    assert losses.vaegan(numpy.float64(7), numpy.array(ROWS)) == pytest.approx(7 + mean(ROWS), rel=1e-14)
    weighted = losses.vaegan(numpy.float64(7), numpy.array(ROWS), gan_weight=0.2)
    assert weighted == pytest.approx(7 + 0.2 * mean(ROWS), rel=1e-14)
    # Eq. 7 is G's part of Eq. 2.
    assert mean(ROWS) == pytest.approx(losses.gan_generator(numpy.array(FAKE)), rel=1e-14)
    check_grad(lambda v, f: losses.vaegan(v, losses.gan_generator_each(f), 3.0),
               [numpy.array(7.0), numpy.array(FAKE) / 10], order=2)


def test_constrained():
    for d in (0.0, 1.0, 10.0, 17.0, 30.0):
        each = 7 + 0.5 * mean(max(row - d, 0) for row in ROWS)
        batch = 7 + 0.5 * max(mean(ROWS) - d, 0)
        for per_sample, expected in ((True, each), (False, batch)):
            found = losses.constrained(numpy.float64(7), numpy.array(ROWS), d, 0.5, per_sample)
            assert found == pytest.approx(expected, rel=1e-14)
    for per_sample in (True, False):
        check_grad(lambda v, f: losses.constrained(v, losses.gan_generator_each(f), 0.8, 3.0, per_sample),
                   [numpy.array(7.0), numpy.array(FAKE) / 10], order=2)


def test_lagrangian():
    for d, multiplier in ((0.8, 0.0), (10.0, 0.5), (30.0, 3)):
        expected = 7 + multiplier * (mean(ROWS) - d)        # also where it is below L_vae
        for kind in (float, numpy.float64, numpy.array):
            found = losses.lagrangian(numpy.float64(7), numpy.array(ROWS), d, kind(multiplier))
            assert found == pytest.approx(expected, rel=1e-14)
    l_vae, l_gan, multiplier = Tensor(7.0, "float64"), Tensor(ROWS, "float64"), Tensor(0.5, "float64")
    gradients = grad(losses.lagrangian(l_vae, l_gan, 10.0, multiplier), [l_vae, l_gan, multiplier])
    assert gradients[0] == 1 and gradients[2] == pytest.approx(mean(ROWS) - 10, rel=1e-14)
    numpy.testing.assert_allclose(gradients[1], [0.5 / len(ROWS)] * len(ROWS), rtol=1e-14)
    check_grad(lambda v, f, m: losses.lagrangian(v, losses.gan_generator_each(f), 0.8, m),
               [numpy.array(7.0), numpy.array(FAKE) / 10, numpy.array(3.0)], order=2)
    assert losses.lagrangian(Tensor(7.0), Tensor(ROWS), 10.0, numpy.array(0.5, "float32")).dtype == "float32"


@pytest.mark.parametrize("multiplier", [-1, -1e-9, math.nan, math.inf, True, None, "1", [1.0]], ids=str)
def test_a_multiplier_that_is_none_is_refused(multiplier):
    with pytest.raises((TypeError, ValueError), match="^lagrangian: a (number|scalar) multiplier "):
        losses.lagrangian(1.0, ones(2), 1.0, multiplier)


def test_constrained_takes_subgradient_0_where_l_gan_equals_d():
    for per_sample in (True, False):
        l_gan = Tensor([0.75, 0.75], "float64")
        for d, expected in [(0.75, 0.0), (0.75 + 1e-9, 0.0), (0.75 - 1e-9, 1.5)]:
            loss = losses.constrained(Tensor(0.0, "float64"), l_gan, d, 3.0, per_sample)
            numpy.testing.assert_allclose(grad(loss, l_gan), [expected] * 2, rtol=1e-12)
    mixed = Tensor([0.5, 0.75, 1.0], "float64")                 # inside, on the boundary, outside
    assert grad(losses.constrained(Tensor(0.0, "float64"), mixed, 0.75, 3.0), mixed).tolist() == [0, 0, 1]
    check_subgradient(lambda v: losses.constrained(numpy.float64(0), v, 0.75, 3.0),
                      numpy.array([0.5, 0.75, 1.0]))


def test_softmax_cross_entropy():
    logits = [[50.0, -50.0, 0.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]
    labels = [1, 0, 2]
    expected = mean(
        math.log(math.fsum(math.exp(v - max(row)) for v in row)) + max(row) - row[k]
        for row, k in zip(logits, labels))
    found = losses.softmax_cross_entropy(numpy.array(logits), numpy.array(labels))
    assert found == pytest.approx(expected, rel=1e-14)
    check_grad(lambda t: losses.softmax_cross_entropy(t, numpy.array(labels)), [numpy.array(logits) / 10],
               order=2)


# Discrete distributions on five points, as counts, so that a batch can hold them exactly.
P = numpy.array([8, 4, 2, 1, 1])
Q = numpy.array([1, 3, 3, 4, 5])


def kl(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q))


def js(p, q):
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def test_equation_3_and_4_at_the_optimal_discriminator():
    p, q = P / P.sum(), Q / Q.sum()
    logits = numpy.log(p / q)                               # D* = p / (p + q)
    real, fake = numpy.repeat(logits, P), numpy.repeat(logits, Q)
    value = -losses.gan_discriminator(real, fake)
    assert value == pytest.approx(2 * js(p, q) - 2 * math.log(2), rel=1e-12)                        # Eq. 3
    assert losses.gan_generator_minimax(fake) - losses.gan_generator(real) == pytest.approx(value, rel=1e-12)
    # Eq. 4: the same plus terms that do not depend on the generator
    eq4 = losses.gan_generator(fake) + losses.gan_generator(real)
    assert eq4 == pytest.approx(kl(q, p) - 2 * js(p, q) + 2 * math.log(2), rel=1e-12)
    free = Tensor(logits)                                   # no other discriminator does better
    d_loss = losses.gan_discriminator(free[numpy.repeat(range(5), P)], free[numpy.repeat(range(5), Q)])
    assert abs(grad(d_loss, free)).max() < 1e-15


def test_the_generators_gradients_are_those_of_equation_3_and_4():
    p, q = P / P.sum(), Q / Q.sum()
    theta = Tensor(numpy.log(q))
    optimal = numpy.log(p / q)                              # D* for this q, held fixed
    generated = ops.softmax(theta)
    non_saturating = grad(ops.sum(generated * ops.softplus(-optimal)), theta)
    minimax = grad(-ops.sum(generated * ops.softplus(optimal)), theta)

    def slope(f, h=1e-6):
        def at(i, step):
            moved = numpy.exp(numpy.log(q) + step * (numpy.arange(5) == i))
            return f(moved / moved.sum())
        return [(at(i, h) - at(i, -h)) / (2 * h) for i in range(5)]
    numpy.testing.assert_allclose(non_saturating, slope(lambda q: kl(q, p) - 2 * js(p, q)), atol=1e-9)
    numpy.testing.assert_allclose(minimax, slope(lambda q: 2 * js(p, q)), atol=1e-9)
