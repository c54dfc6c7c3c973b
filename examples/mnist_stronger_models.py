"""Was the network too weak? The paper's Table 1 once more, with convolution and with better constraints.

The paper suspected that its WGAN makes poor images because its network is not powerful enough. Here its
models are trained with fully connected and with convolutional networks, the WGAN also with a gradient penalty
instead of clipped weights, and the GAN also with R1, which keeps D smooth. Another choice of models:

    python examples/mnist_stronger_models.py --models wgan,wgan_penalty --iterations 6000
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

import argparse

from minigen import cli, figures, models
from minigen.comparison import SAMPLES, Comparison
from minigen.experiment import Variant, span, spread
from minigen.metrics.intervals import paired_difference

DENSE = {"gan": Variant(models.GAN, "GAN", {}), "gan_r1": Variant(models.GAN, "GAN, R1", {"r1": 10.0}),
         "wgan": Variant(models.WGAN, "WGAN", {}),
         "wgan_penalty": Variant(models.WGAN, "WGAN, penalty", {"lipschitz": "penalty"}),
         "vae": Variant(models.VAE, "VAE", {}), "vaegan": Variant(models.VAEGAN, "VAE-GAN", {})}
MODELS = {**DENSE, **{f"{name}_conv": Variant(dense.kind, f"{dense.title}, convolution",
                                              {**dense.settings, "architecture": "conv"})
                      for name, dense in DENSE.items()}}
DEFAULT = [*DENSE, "gan_conv", "wgan_conv", "vae_conv", "vaegan_conv"]
PAPER = {"gan": 0.0, "wgan": 2.280, "vae": 2.266, "vaegan": 2.263}      # its Table 1
MEASURES = {"mode_entropy": "mode entropy", "image_entropy": "image entropy", "precision": "precision",
            "recall": "recall", "density": "density", "coverage": "coverage", "frechet": "Fréchet distance"}
SHOWN = ("mode_entropy", "image_entropy", "recall", "frechet")      # of the differences


def chosen(text):
    """The type of a flag: names of models, separated by commas."""
    names = text.split(",")
    wrong = [name for name in names if name not in MODELS]
    if wrong or len({*names}) < len(names):
        raise argparse.ArgumentTypeError(f"different models of {', '.join(MODELS)} expected, {text!r} found")
    return names


def pairs(names):
    """The comparisons among the models: with convolution and without, penalty and clipping, R1 and none."""
    candidates = [(name, name.replace("_conv", "")) for name in names if name.endswith("_conv")]
    candidates += [(f"wgan_penalty{end}", f"wgan{end}") for end in ("", "_conv")]
    candidates += [(f"gan_r1{end}", f"gan{end}") for end in ("", "_conv")]
    return [(one, other) for one, other in candidates if one in names and other in names]


def main():
    flags = cli.parser("The paper's models with convolution, gradient penalty and R1.", iterations=2000,
                       out="runs/mnist_stronger_models", seeds=5)
    flags.add_argument("--models", type=chosen, default=DEFAULT, metavar="NAME,NAME",
                       help=f"what to train, of {', '.join(MODELS)} (default: {','.join(DEFAULT)})")
    args, data = cli.parse(flags, batches_per_step=models.WGAN.critic_steps)
    for name, values in args.set.items():
        if len(values) > 1:
            flags.error(f"argument --set: one value of {name} expected, for the comparisons, {len(values)} "
                        "found")
    lab = Comparison(args, data)

    # Train each model with each seed.
    groups = lab.train_and_judge({name: MODELS[name] for name in args.models}, fidelity=True)
    found = {group: {name: [{**one.entropies, **one.fidelity}[name] for one in judged] for name in MEASURES}
             for group, judged in groups.items()}

    # Ten images of each, of the first seed.
    first = {judged[0].trial.title: judged[0] for judged in groups.values()}
    images = {name: judged.images[:10] for name, judged in first.items()}
    labels = {name: [*map(data.class_name, judged.labels[:10])] for name, judged in first.items()}
    lab.figure("images", figures.image_rows, images, labels,
               title=f"Ten images of each model, with the classifier's labels (seed {args.seed})")

    # Table 1 and the other measures; then the differences, seed by seed.
    rows = {judged[0].trial.title: {words: spread(found[group][name]) for name, words in MEASURES.items()}
            for group, judged in groups.items()}
    if lab.is_mnist:
        for group, judged in groups.items():
            name = group.replace("_conv", "")
            rows[judged[0].trial.title]["paper"] = f"{PAPER[name]:.3f}" if name in PAPER else ""
    lab.table(f"{args.iterations:,} iterations; entropies of {SAMPLES:,} images, in nats, {lab.ceiling}; "
              f"compared with {lab.compared:,} test images; mean (standard deviation), {args.seeds} seeds",
              rows)
    differences = {}
    for one, other in pairs(list(groups)) if args.seeds > 1 else ():
        differences[f"{one} - {other}"] = {name: paired_difference(found[one][name], found[other][name])
                                           for name in MEASURES}
    if differences:
        lab.table("differences, with 95 % intervals", {
            title: {MEASURES[name]: span(apart[name]) for name in SHOWN}
            for title, apart in differences.items()})
    lab.finish(iterations=args.iterations, models=found, differences=differences)


if __name__ == "__main__":
    cli.run(main)
