"""Does the paper's constraint help? VAE-GAN against constrained VAE-GAN on MNIST: Figures 7 (a, b) and 8.

Both models have the same networks, settings, seeds and iterations. They differ in one function: L_vae + w
L_gan in the one, L_vae + w max(L_gan - d, 0) in the other (section 4.1, where the weight w is lambda). Over
several seeds, their image entropies and mode entropies are compared pair by pair. With ``--sweep`` both are
shown for a range of w and d instead.
"""

import math

import numpy

from minigen import cli, figures, models
from minigen.experiment import SAMPLES, Experiment, spread
from minigen.metrics.intervals import confidence_interval

SWEEP_WEIGHTS, SWEEP_DS = (0.2, 1.0, 5.0), (1.0, 2.0, 4.0, 6.0, 9.0)
MEASURES = {"image_entropy": "image entropy", "mode_entropy": "mode entropy"}
PANELS = {"image_entropy": "mean image entropy (nats)", "mode_entropy": "mode entropy (nats)",
          "inside": "share inside the constraint"}
PLAIN, CONSTRAINED = models.VAEGAN.title, models.ConstrainedVAEGAN.title


def measures(judged):
    """A value per seed of each measure; of the constrained model also the share of samples in the
    constraint."""
    found = {name: [one.entropies[name] for one in judged] for name in MEASURES}
    if isinstance(judged[0].model, models.ConstrainedVAEGAN):
        found["inside"] = [float(numpy.mean(one.run.curve("inside")[1])) for one in judged]
    return found


def verdict(difference):
    """An interval in words."""
    if difference["low"] > 0 or difference["high"] < 0:
        return f"{'higher' if difference['mean'] > 0 else 'lower'} by {abs(difference['mean']):.3f} nats"
    return "not shown to change (its interval contains 0)"


def compare(lab, args):
    # Train both models with each seed.
    settings = {"gan_weight": args.gan_weight, "reconstruction_weight": args.reconstruction_weight}
    constraint = {"d": args.d, "per_sample": not args.on_mean}
    both = {PLAIN: lab.train_seeds(models.VAEGAN, "vaegan", **settings),
            CONSTRAINED: lab.train_seeds(models.ConstrainedVAEGAN, "constrained", **settings, **constraint)}

    # Figures 7 and 8.
    images = {name: judged[0].images for name, judged in both.items()}
    lab.figure("figure7.png", figures.grids, images, title=f"64 images of each (seed {args.seed})")
    entropies = {name: [one.image_entropies for one in judged] for name, judged in both.items()}
    lab.figure("figure8.png", figures.entropy_histogram, entropies, classes=lab.data.classes,
               title=f"Image entropies of {SAMPLES:,} images, mean and range over {args.seeds} seeds")

    # The differences, pair by pair.
    plain, constrained = measures(both[PLAIN]), measures(both[CONSTRAINED])
    differences, rows = {}, {}
    for name, words in MEASURES.items():
        found = confidence_interval(numpy.subtract(constrained[name], plain[name]))
        span = f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
        rows[words] = {PLAIN: spread(plain[name]), CONSTRAINED: spread(constrained[name]),
                       "difference, 95 % interval": span}
        differences[name] = found
    lab.table(f"GAN weight {args.gan_weight:g}, d {args.d:g}, {args.seeds} seeds, {SAMPLES:,} images each; "
              "in nats, mean (standard deviation)", rows)
    inside = numpy.mean(constrained["inside"])
    print(f"generated images inside the constraint, over the training: {inside:.0%}")
    print(f"With the constraint, the mean image entropy is {verdict(differences['image_entropy'])}, and the "
          f"mode entropy is {verdict(differences['mode_entropy'])}.")
    lab.finish(iterations=args.iterations, d=args.d, on_mean=args.on_mean, **settings,
               vaegan=plain, constrained=constrained, difference=differences)


def sweep(lab, args):
    # Train with each weight: without the constraint, and with each d.
    table = {}
    for weight in SWEEP_WEIGHTS:
        settings = {"gan_weight": weight, "reconstruction_weight": args.reconstruction_weight}
        row = {"plain": measures(lab.train_seeds(models.VAEGAN, f"weight{weight:g}_plain", **settings))}
        for d in SWEEP_DS:
            judged = lab.train_seeds(models.ConstrainedVAEGAN, f"weight{weight:g}_d{d:g}", d=d,
                                     per_sample=not args.on_mean, **settings)
            row[f"{d:g}"] = measures(judged)
        table[f"GAN weight {weight:g}"] = row

    # A panel per measure.
    panels = {}
    for measure, title in PANELS.items():
        panels[title] = {}
        for name, row in table.items():
            panels[title][name] = [found.get(measure, [math.nan]) for found in row.values()]
    lab.figure("sweep.png", figures.constraint_sweep, panels, ["plain", *(f"{d:g}" for d in SWEEP_DS)],
               title="The effect of d and of the GAN weight")

    # Their means over the seeds.
    for name, row in table.items():
        rows = {}
        for d, found in row.items():
            rows[f"d {d}"] = {key: f"{numpy.mean(found.get(key, math.nan)):.3f}" for key in PANELS}
        lab.table(f"{name}: means over {args.seeds} seeds", rows)
    lab.finish("sweep.json", **table)


def main():
    flags = cli.parser("VAE-GAN against constrained VAE-GAN on MNIST.", iterations=5000,
                       out="runs/mnist_constrained_vaegan", seeds=5)
    flags.add_argument("--gan-weight", type=cli.non_negative_float, default=1.0, metavar="X",
                       help="weight of the GAN term, the paper's lambda")
    flags.add_argument("--d", type=cli.finite_float, default=4.0, metavar="X",
                       help="upper bound of L_gan, in nats")
    flags.add_argument("--on-mean", action="store_true",
                       help="constrain the batch mean of L_gan, not each image's")
    flags.add_argument("--reconstruction-weight", type=cli.non_negative_float, default=1.0, metavar="X",
                       help="weight of the squared error")
    flags.add_argument("--sweep", action="store_true",
                       help=f"compare GAN weights {SWEEP_WEIGHTS} and bounds {SWEEP_DS} instead")
    args, data = cli.parse(flags)
    if args.sweep and (args.gan_weight, args.d) != (flags.get_default("gan_weight"), flags.get_default("d")):
        flags.error("argument --sweep: not allowed with --gan-weight or --d, which it chooses itself")
    if args.seeds < 2 and not args.sweep:
        flags.error(f"argument --seeds: at least 2 expected, for an interval, {args.seeds} found")
    (sweep if args.sweep else compare)(Experiment(args, data, judged=True), args)


if __name__ == "__main__":
    cli.run(main)
