"""Two distances to the data: the paper's Figure 6 as an experiment, and the divergences of its section 2.2.

Images of two pixels lie on a curve in the plane. A discriminator learns to tell them from images all over the
plane; its L_GAN then measures how far a point is from the curve, wherever along it, while the VAE's squared
error measures how far it is from one image x. Between the two, VAE-GAN and constrained VAE-GAN choose
differently.
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

import math

import numpy

from minigen import cli, figures, losses, networks, no_grad, optim, to_device, to_host
from minigen.experiment import Experiment
from minigen.metrics import divergences

NOISE = 0.3             # standard deviation of the data around the curve
HALF = 4.0              # the plane reaches from -HALF to HALF in both directions
BATCH = 256
D_BOUND = math.log(2)   # L_GAN of a point that D takes for real with probability 1/2
HEADS = ("L_vae", "L_gan", "L_vae + L_gan", "L_vae + max(L_gan - d, 0)")


def curve(t):
    """The point on the curve at t in [0, 1]: (..., 2)."""
    x = 6 * t - 3
    return numpy.stack([x, 1.5 * numpy.sin(x)], axis=-1)


def data(n, rng):
    return (curve(rng.random(n)) + NOISE * rng.standard_normal((n, 2))).astype("float32")


def train_discriminator(iterations, seed):
    """D of data against points spread evenly over the plane.

    The best D is p / (p + 1 / area) for the data's density p, so that L_GAN = log(1 + 1 / (p area)).
    """
    D = networks.fully_connected((2, 64, 64, 1), numpy.random.default_rng(seed))
    optimizer = optim.Adam(D.parameters(), lr=3e-3)
    for i in range(iterations):
        rng = numpy.random.default_rng((seed, i))
        spread = rng.uniform(-HALF, HALF, (BATCH, 2)).astype("float32")
        logits = D(to_device(numpy.concatenate([data(BATCH, rng), spread])))
        loss = losses.gan_discriminator(logits[:BATCH], logits[BATCH:])
        optimizer.lr = 3e-3 * (1 - i / iterations)
        optimizer.minimize(loss)
    return D


def distances(D, x):
    """On a grid over the plane: the grid's points (n, n, 2), L_GAN (n, n) and the squared error to x (n,
    n)."""
    ticks = numpy.linspace(-HALF, HALF, 401)
    points = numpy.stack(numpy.meshgrid(ticks, ticks), axis=-1)
    with no_grad():
        l_gan = losses.gan_generator_each(D(to_device(points.reshape(-1, 2).astype("float32"))))
    return points, to_host(l_gan).reshape(points.shape[:2]), ((points - x) ** 2).sum(axis=-1)


def least(points, loss):
    """The grid's point where the loss is least."""
    return points.reshape(-1, 2)[loss.argmin()]


def two_normal_distributions():
    """Eq. 3, Eq. 4 and the Wasserstein distance for N(0, 1) and N(distance, 1), both cut into narrow bins."""
    positions = numpy.linspace(-8, 16, 4801)

    def normal(mean):
        density = numpy.exp(-(positions - mean) ** 2 / 2)
        return density / density.sum()
    apart = numpy.linspace(0, 8, 161)
    p_data = normal(0)
    js = numpy.array([divergences.js(p_data, normal(a)) for a in apart])
    kl = numpy.array([divergences.kl(normal(a), p_data) for a in apart])
    wasserstein = [divergences.wasserstein_1(p_data, normal(a), positions) for a in apart]
    return apart, {"Eq. 3: 2 JS - 2 log 2": 2 * js - 2 * math.log(2), "Eq. 4: KL - 2 JS": kl - 2 * js,
                   "KL in Eq. 4": kl, "-2 JS in Eq. 4": -2 * js, "Wasserstein distance": wasserstein}


def main():
    flags = cli.Parser(description="Two distances to the data: Figure 6 and section 2.2.")
    flags.add_argument("--iterations", type=cli.positive_int, default=3000, metavar="N",
                       help="training steps of D")
    cli.add_output(flags, "runs/manifold_distances")
    args = flags.parse_args()
    cli.make_output(flags, args.out)
    lab = Experiment(args)

    # An image x off the curve, and the losses of all points around it, with a GAN weight of 1.
    t = 0.78
    along = curve(t + 1e-3) - curve(t - 1e-3)
    across = numpy.array([-along[1], along[0]]) / numpy.linalg.norm(along)
    x = curve(t) + 3.5 * NOISE * across
    points, l_gan, l_vae = distances(train_discriminator(args.iterations, args.seed), x)
    plain, constrained = l_vae + l_gan, l_vae + numpy.maximum(l_gan - D_BOUND, 0)

    # Where each loss is least.
    places = {"x": least(points, l_vae), "y": least(points, constrained), "z": least(points, plain)}
    meanings = {"x": "the input image", "y": "least loss of the constrained VAE-GAN",
                "z": "least loss of the VAE-GAN"}
    labelled = {name: (place, meanings[name]) for name, place in places.items()}
    lab.figure("figure6", figures.manifold, points[0, :, 0], points[:, 0, 1], l_gan, l_vae,
               curve(numpy.linspace(0, 1, 200)), labelled, D_BOUND,
               title="What a discriminator measures (shades), and what the VAE's error measures (rings)")

    # Section 2.2.
    apart, curves = two_normal_distributions()
    lab.figure("section22", figures.moving_apart, apart, curves,
               title="Two normal distributions move apart")

    # The losses at these points.
    table, rows = {}, {}
    for name, place in places.items():
        at = tuple(numpy.argwhere((points == place).all(axis=-1))[0])
        row = {"l_vae": l_vae[at], "l_gan": l_gan[at], "vaegan": plain[at], "constrained": constrained[at]}
        table[name] = {"place": place.tolist()} | {key: float(loss) for key, loss in row.items()}
        rows[f"{name}: {meanings[name]}"] = dict(zip(HEADS, (f"{loss:.3f}" for loss in row.values())))
    lab.table(f"d = {D_BOUND:.3f}", rows)
    lab.finish(d=D_BOUND, points=table)


if __name__ == "__main__":
    cli.run(main)
