"""Does the report's constraint help? VAE-GAN against constrained VAE-GAN on MNIST: Figures 7 (a, b) and 8.

Both models have the same networks, settings, seeds and iterations, and differ in one function: L_vae + lambda L_gan in the
one, L_vae + lambda max(L_gan - d, 0) in the other (section 4.1). Over several seeds, the entropy of each image and that of
the generated digits are compared pair by pair. With --sweep, both are shown for a range of d and lambda instead.
"""

import json
import math

import numpy

from minigen import classifier, cli, entropy, figures, models, to_host, training

SAMPLES = 10_000
SWEEP_LAMBDAS, SWEEP_DS = (0.2, 1.0, 5.0), (1.0, 2.0, 4.0, 6.0, 9.0)
PLAIN, CONSTRAINED = "VAE-GAN", "constrained VAE-GAN"
MEASURES = {"image_entropy": "entropy of each image", "mode_entropy": "entropy of the digits"}


def experiment(kind, folder, args, data, judge, **settings):
    """What is measured on a model of each seed, and the first one's images."""
    result = {"mode_entropy": [], "image_entropy": [], "image_entropies": []}
    for seed in range(args.seed, args.seed + args.seeds):
        model = kind(seed=seed, reconstruction_weight=args.reconstruction_weight, **settings)
        run = training.train(model, data.train_images, iterations=args.iterations, batch_size=args.batch_size, seed=seed,
                             out=args.out / f"{folder}_seed{seed}", resume=args.resume)
        images = model.sample(SAMPLES, rng=0)
        probabilities = judge.predict_proba(images)
        for name, value in entropy.measure(probabilities).items():
            result[name].append(value)
        result["image_entropies"].append(to_host(entropy.image_entropy(probabilities)))
        result.setdefault("images", images[:64])
        if kind is models.ConstrainedVAEGAN:
            result.setdefault("inside", []).append(float(numpy.mean([record["inside"] for record in run.metrics()])))
    return result


def interval(differences):
    """The mean of independent differences, and the two ends of its 95 % confidence interval, by Student's t."""
    n = len(differences)
    angles = numpy.linspace(0, numpy.pi / 2, 100_001)       # for t = sqrt(n - 1) tan(angle), its density is cos^(n - 2)
    share = numpy.cumsum(numpy.cos(angles) ** (n - 2))
    t = (n - 1) ** 0.5 * numpy.tan(numpy.interp(0.95, share / share[-1], angles))
    mean, half = numpy.mean(differences), t * numpy.std(differences, ddof=1) / n ** 0.5
    return {"mean": float(mean), "low": float(mean - half), "high": float(mean + half)}


def verdict(difference):
    """What an interval says, in words."""
    if difference["low"] > 0 or difference["high"] < 0:
        return f"{'higher' if difference['mean'] > 0 else 'lower'} by {abs(difference['mean']):.3f} nats"
    return "not shown to change (its interval contains 0)"


def compare(args, data, judge):
    lam = args.gan_weight
    results = {PLAIN: experiment(models.VAEGAN, "vaegan", args, data, judge, gan_weight=lam),
               CONSTRAINED: experiment(models.ConstrainedVAEGAN, "constrained", args, data, judge, gan_weight=lam, d=args.d,
                                       per_sample=not args.on_mean)}
    plain, constrained = results.values()
    differences = {name: interval(numpy.subtract(constrained[name], plain[name])) for name in MEASURES}
    summary = {"samples": SAMPLES, "seeds": args.seeds, "iterations": args.iterations, "lambda": lam, "d": args.d,
               "on_mean": args.on_mean, "reconstruction_weight": args.reconstruction_weight,
               "vaegan": {name: plain[name] for name in MEASURES},
               "constrained": {name: constrained[name] for name in (*MEASURES, "inside")}, "difference": differences}
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    figures.grids(args.out / "figure7.png", {name: result["images"] for name, result in results.items()},
                  title=f"64 images of each (seed {args.seed})")
    figures.entropy_histogram(args.out / "figure8.png", {name: result["image_entropies"] for name, result in results.items()},
                              title=f"Entropies of {SAMPLES:,} images, mean and range over {args.seeds} seeds")

    print(f"\nlambda {lam:g}, d {args.d:g}, {args.seeds} seeds, {SAMPLES:,} images each; nats, mean (standard deviation)")
    print(f"{'':24}{PLAIN:>16}{CONSTRAINED:>22}{'difference, 95 % interval':>32}")
    for name, words in MEASURES.items():
        cells = [f"{numpy.mean(result[name]):.3f} ({numpy.std(result[name], ddof=1):.3f})" for result in results.values()]
        row = differences[name]
        span = f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        print(f"{words:24}{cells[0]:>16}{cells[1]:>22}{span:>32}")
    print(f"generated images inside the constraint, over the training: {numpy.mean(constrained['inside']):.0%}")
    print(f"With the constraint, the mean entropy of an image is {verdict(differences['image_entropy'])}, "
          f"and the entropy of the digits is {verdict(differences['mode_entropy'])}.")
    print(f"\n{args.out}: figure7.png, figure8.png, summary.json, and a run directory per model and seed")


def sweep(args, data, judge):
    results = {}
    for lam in SWEEP_LAMBDAS:
        row = [experiment(models.VAEGAN, f"lambda{lam:g}_plain", args, data, judge, gan_weight=lam)]
        row += [experiment(models.ConstrainedVAEGAN, f"lambda{lam:g}_d{d:g}", args, data, judge, gan_weight=lam, d=d,
                           per_sample=not args.on_mean) for d in SWEEP_DS]
        results[f"lambda = {lam:g}"] = row
    ds = ["plain", *(f"{d:g}" for d in SWEEP_DS)]
    panels = {title: {name: [result.get(key, [math.nan]) for result in row] for name, row in results.items()}
              for key, title in (("image_entropy", "mean entropy of an image (nats)"),
                                 ("mode_entropy", "entropy of the digits (nats)"), ("inside", "share inside the constraint"))}
    figures.constraint_sweep(args.out / "sweep.png", panels, ds, title="What d and lambda do")
    table = {name: {d: {key: result[key] for key in (*MEASURES, "inside") if key in result} for d, result in zip(ds, row)}
             for name, row in results.items()}
    (args.out / "sweep.json").write_text(json.dumps({"samples": SAMPLES, "seeds": args.seeds, **table}, indent=2) + "\n")
    for name, row in table.items():
        print(f"\n{name}: means over {args.seeds} seeds")
        for d, result in row.items():
            print(f"  d {d:>5}: " + ", ".join(f"{key} {numpy.mean(values):.3f}" for key, values in result.items()))
    print(f"\n{args.out}: sweep.png, sweep.json, and a run directory per model and seed")


def main():
    flags = cli.parser(__doc__.splitlines()[0], iterations=5000, out="runs/mnist_constrained_vaegan", seeds=5)
    flags.add_argument("--lambda", dest="gan_weight", type=cli.weight, default=1.0, metavar="X", help="weight of the GAN term")
    flags.add_argument("--d", type=cli.finite, default=4.0, metavar="X", help="the most that L_gan may be, in nats")
    flags.add_argument("--on-mean", action="store_true", help="constrain the batch mean of L_gan, not each image's")
    flags.add_argument("--reconstruction-weight", type=cli.weight, default=1.0, metavar="X", help="weight of the squared error")
    flags.add_argument("--sweep", action="store_true",
                       help=f"compare lambdas {SWEEP_LAMBDAS} and ds {SWEEP_DS} instead")
    args, data = cli.parse(flags)
    if args.sweep and (args.gan_weight, args.d) != (flags.get_default("gan_weight"), flags.get_default("d")):
        flags.error("argument --sweep: not allowed with --lambda or --d, which it chooses itself")
    if args.seeds < 2 and not args.sweep:
        flags.error(f"argument --seeds: at least 2 expected, for an interval, {args.seeds} found")
    judge = classifier.trained(data.train_images, data.train_labels)
    print(f"classifier: {judge.accuracy(data.test_images, data.test_labels):.2%} of the test images right (the report's: 95.4%)")
    (sweep if args.sweep else compare)(args, data, judge)


if __name__ == "__main__":
    cli.run(main)
