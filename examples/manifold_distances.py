"""Two distances to the data: the report's Figure 6 as an experiment, and the divergences of its section 2.2.

Images of two pixels lie on a curve in the plane. A discriminator learns to tell them from images all over the plane; its L_GAN
then measures how far a point is from the curve, wherever along it, while the VAE's squared error measures how far it is from
one image x. Between the two, VAE-GAN and constrained VAE-GAN choose differently.
"""

import json
from pathlib import Path

import numpy

from minigen import cli, divergences, figures, grad, losses, networks, no_grad, optim, to_device, to_host

NOISE = 0.3             # standard deviation of the data around the curve
WIDE = 4.0              # the plane reaches from -WIDE to WIDE in both directions
BATCH = 256
D_BOUND = float(numpy.log(2))       # L_GAN of a point that D takes for real with probability 1/2


def curve(t):
    """The point on the curve at t in [0, 1]: (..., 2)."""
    x = 6 * t - 3
    return numpy.stack([x, 1.5 * numpy.sin(x)], axis=-1)


def data(n, rng):
    return (curve(rng.random(n)) + NOISE * rng.standard_normal((n, 2))).astype("float32")


def train_discriminator(iterations, seed):
    """D of data against points spread evenly: at its best p / (p + 1 / area), so that L_GAN = log(1 + 1 / (p area))."""
    D = networks.fully_connected((2, 64, 64, 1), numpy.random.default_rng(seed))
    player = optim.Adam(D.parameters(), lr=3e-3)
    for i in range(iterations):
        rng = numpy.random.default_rng((seed, i))
        spread = rng.uniform(-WIDE, WIDE, (BATCH, 2)).astype("float32")
        logits = D(to_device(numpy.concatenate([data(BATCH, rng), spread])))
        loss = losses.gan_discriminator(logits[:BATCH], logits[BATCH:])
        player.lr = 3e-3 * (1 - i / iterations)
        player.step(grad(loss, player.parameters))
    return D


def distances(D, x):
    """On a grid over the plane: the grid's points (n, n, 2), L_GAN (n, n) and the squared error to x (n, n)."""
    ticks = numpy.linspace(-WIDE, WIDE, 401)
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
    return apart, {"Eq. 3: 2 JS - 2 log 2": 2 * js - 2 * numpy.log(2), "Eq. 4: KL - 2 JS": kl - 2 * js, "KL in Eq. 4": kl,
                   "-2 JS in Eq. 4": -2 * js, "Wasserstein distance": wasserstein}


def main():
    flags = cli.Parser(description=__doc__.split(":")[0])
    flags.add_argument("--iterations", type=cli.positive, default=3000, metavar="N", help="training of D (default: 3000)")
    flags.add_argument("--seed", type=cli.natural, default=0, metavar="N", help="seed of all random numbers (default: 0)")
    flags.add_argument("--out", type=Path, default=Path("runs/manifold_distances"), metavar="FOLDER",
                       help="where everything is written (default: runs/manifold_distances)")
    args = flags.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    t = 0.78
    along = curve(t + 1e-3) - curve(t - 1e-3)
    x = curve(t) + 3.5 * NOISE * numpy.array([-along[1], along[0]]) / numpy.linalg.norm(along)      # off the curve
    points, l_gan, l_vae = distances(train_discriminator(args.iterations, args.seed), x)
    plain = l_vae + l_gan
    constrained = l_vae + numpy.maximum(l_gan - D_BOUND, 0)         # lambda = 1 in both
    places = {"x": least(points, l_vae), "y": least(points, constrained), "z": least(points, plain)}
    meanings = ("the input image", "least loss of constrained VAE-GAN", "least loss of VAE-GAN")
    figures.manifold(args.out / "figure6.png", points[0, :, 0], points[:, 0, 1], l_gan, l_vae, curve(numpy.linspace(0, 1, 200)),
                     dict(zip(places, zip(places.values(), meanings))), D_BOUND,
                     title="What a discriminator measures (shades), and what the VAE's error does (rings)")
    figures.moving_apart(args.out / "section22.png", *two_normal_distributions(), title="Two normal distributions move apart")

    table = {}
    for name, place in places.items():
        at = tuple(numpy.argwhere((points == place).all(axis=-1))[0])
        table[name] = {"place": place.tolist(), **{key: float(loss[at]) for key, loss in (
            ("l_vae", l_vae), ("l_gan", l_gan), ("vaegan", plain), ("constrained", constrained))}}
    (args.out / "summary.json").write_text(json.dumps({"d": D_BOUND, "points": table}, indent=2) + "\n")
    print(f"d = {D_BOUND:.3f}")
    print("\n".join(f"{name}: {meaning}" for name, meaning in zip(places, meanings)))
    print(f"{'':3}{'L_vae':>8}{'L_gan':>8}{'L_vae + L_gan':>16}{'L_vae + max(L_gan - d, 0)':>28}")
    for name, row in table.items():
        print(f"{name:3}{row['l_vae']:8.3f}{row['l_gan']:8.3f}{row['vaegan']:16.3f}{row['constrained']:28.3f}")
    print(f"\n{args.out}: figure6.png, section22.png, summary.json")


if __name__ == "__main__":
    cli.run(main)
