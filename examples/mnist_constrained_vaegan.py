"""Does the paper's constraint help? VAE-GAN against constrained VAE-GAN on MNIST: Figures 7 (a, b) and 8.

Both models have the same networks, settings, seeds and iterations. They differ in one function: L_vae + w
L_gan in the one, L_vae + w max(L_gan - d, 0) in the other (section 4.1, where the weight w is lambda). Over
several seeds, their image entropies and mode entropies are compared pair by pair. With several values of d,
or of another setting, a figure shows both models for each of them:

    python examples/mnist_constrained_vaegan.py --set d=1,2,4,6,9 --set gan_weight=0.2,1,5 --seeds 3
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

import numpy

from minigen import cli, figures, models
from minigen.comparison import SAMPLES, Comparison
from minigen.experiment import span, spread
from minigen.metrics.intervals import deciding_number, paired_difference

MODELS = {"vaegan": models.VAEGAN, "constrained": models.ConstrainedVAEGAN}
SETTINGS = {"gan_weight": 1.0, "d": 4.0}
MEASURES = {"image_entropy": "image entropy", "mode_entropy": "mode entropy"}
PANELS = {"image_entropy": "mean image entropy (nats)", "mode_entropy": "mode entropy (nats)",
          "inside": "share inside the constraint"}


def measures(judged):
    """A value per seed of each measure; of the constrained model also the share of samples in the
    constraint."""
    found = {name: [one.entropies[name] for one in judged] for name in MEASURES}
    if judged[0].trial.kind is models.ConstrainedVAEGAN:
        found["inside"] = [float(numpy.mean(one.run.curve("inside")[1])) for one in judged]
    return found


def verdict(constrained, plain):
    """The interval of the differences in words."""
    difference = paired_difference(constrained, plain)
    if difference["low"] > 0 or difference["high"] < 0:
        return f"{'higher' if difference['mean'] > 0 else 'lower'} by {abs(difference['mean']):.3f} nats"
    number = deciding_number(numpy.subtract(constrained, plain))
    return "not shown to change (its interval contains 0" + (
        f"; with such differences it would take {number:,} seeds)" if number else ")")


def compare(lab, plain, constrained):
    """Print the differences between two models, seed by seed; return all that was measured."""
    titles = [judged[0].trial.kind.title for judged in (plain, constrained)]
    settings = {name: constrained[0].trial.settings[name] for name in SETTINGS}
    named = {**settings, **constrained[0].trial.varied}
    chosen = ", ".join(f"{name} {value}" for name, value in named.items())
    plain, constrained = measures(plain), measures(constrained)
    differences, rows = {}, {}
    for name, words in MEASURES.items():
        found = paired_difference(constrained[name], plain[name])
        rows[words] = {titles[0]: spread(plain[name]), titles[1]: spread(constrained[name]),
                       "difference, 95 % interval": span(found)}
        differences[name] = found
    lab.table(f"{chosen}; {lab.args.seeds} seeds, {SAMPLES:,} images each; in nats, {lab.ceiling}; mean "
              "(standard deviation)", rows)
    inside = numpy.mean(constrained["inside"])
    print(f"generated images inside the constraint, over the training: {inside:.0%}")
    found = {name: verdict(constrained[name], plain[name]) for name in MEASURES}
    print(f"With the constraint, the mean image entropy is {found['image_entropy']}, and the mode entropy is "
          f"{found['mode_entropy']}.")
    return {**settings, "vaegan": plain, "constrained": constrained, "difference": differences}


def show_pair(lab, plain, constrained):
    """Figures 7 and 8."""
    both = {judged[0].trial.title: judged for judged in (plain, constrained)}
    images = {name: judged[0].images for name, judged in both.items()}
    lab.figure("figure7", figures.grids, images, title=f"64 images of each (seed {lab.args.seed})")
    entropies = {name: [one.image_entropies for one in judged] for name, judged in both.items()}
    lab.figure("figure8", figures.entropy_histogram, entropies, classes=lab.data.classes,
               title=f"Image entropies of {SAMPLES:,} images, mean and range over {lab.args.seeds} seeds")


def show_sweep(lab, pairs):
    """A panel per measure; a line for each plain model and the constrained ones that are compared with it."""
    lines, places = {}, ["plain"]
    for plain, constrained in pairs:
        shared, own = plain[0].trial.varied, constrained[0].trial.varied
        line = ", ".join(f"{key} {value}" for key, value in shared.items()) or constrained[0].trial.kind.title
        place = ", ".join(f"{key} {value}" for key, value in own.items() if key not in shared)
        lines.setdefault(line, [measures(plain)]).append(measures(constrained))
        places += [] if place in places else [place]
    panels = {title: {line: [found.get(measure, [numpy.nan]) for found in row] for line, row in lines.items()}
              for measure, title in PANELS.items()}
    lab.figure("sweep", figures.constraint_sweep, panels, places, title="The effect of the settings")


def main():
    flags = cli.parser("VAE-GAN against constrained VAE-GAN on MNIST.", iterations=5000,
                       out="runs/mnist_constrained_vaegan", seeds=5)
    args, data = cli.parse(flags)
    if args.seeds < 2:
        flags.error(f"argument --seeds: at least 2 expected, for an interval, {args.seeds} found")
    lab = Comparison(args, data)

    # Train both models with each seed; each constrained one is compared with the plain one of its settings.
    groups = lab.train_and_judge(MODELS, **SETTINGS)
    plain, constrained = ({group: judged for group, judged in groups.items() if judged[0].trial.kind is kind}
                          for kind in MODELS.values())
    pairs = {group: (other, judged) for group, judged in constrained.items() for other in plain.values()
             if other[0].trial.varied.items() <= judged[0].trial.varied.items()}

    # Figures and tables.
    results = {group: compare(lab, *pair) for group, pair in pairs.items()}
    if len(pairs) > 1:
        show_sweep(lab, pairs.values())
        lab.finish(iterations=args.iterations, **results)
    else:
        show_pair(lab, *pairs["constrained"])
        lab.finish(iterations=args.iterations, **results["constrained"])


if __name__ == "__main__":
    cli.run(main)
