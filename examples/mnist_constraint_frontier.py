"""The paper's constraint, solved: which losses VAE-GAN and constrained VAE-GAN reach, and what lambda costs.

The paper could not solve min L_vae s.t. L_gan <= d (section 4.1) and fixed lambda. Here dual ascent finds the
multiplier for each d. Beside it are the VAE-GAN over a range of lambda, and the paper's hinge over d, per
image and on the mean. Does the constraint reach losses that no lambda reaches, or does it only choose among
those? This is a trade-off between distortion and perception (Blau and Michaeli, 2018), with the rate left
free (Blau and Michaeli, 2019).
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

import numpy

from minigen import cli, figures, models
from minigen.comparison import Comparison
from minigen.experiment import Variant, span, spread
from minigen.metrics.intervals import confidence_interval, deciding_number

BOUNDS = [3.0, 4.0, 5.0]
FAMILIES = {
    "vaegan": Variant(models.VAEGAN, "VAE-GAN", {"gan_weight": [0.25, 0.4, 0.6, 1.0]}),
    "hinge": Variant(models.ConstrainedVAEGAN, "hinge per image", {"gan_weight": 1.0, "d": BOUNDS}),
    "mean_hinge": Variant(models.ConstrainedVAEGAN, "hinge on the mean",
                          {"gan_weight": 1.0, "d": BOUNDS, "per_sample": False}),
    "dual": Variant(models.ConstrainedVAEGAN, "solved constraint",
                    {"gan_weight": 1.0, "d": BOUNDS, "multiplier": "dual"})}
LETTERS = {"gan_weight": "$\\lambda$", "d": "d"}      # of the settings that may vary
TITLES = {"l_gan": "$L_{GAN}$ (nats)", "l_vae": "$L_{vae}$ (nats)", "mode_entropy": "mode entropy (nats)",
          "image_entropy": "mean image entropy (nats)", "precision": "precision", "recall": "recall"}
PANELS = {"the two losses": ("l_gan", "l_vae"), "the two entropies": ("image_entropy", "mode_entropy"),
          "fidelity and variety": ("recall", "precision")}


def late(run, name, share, function=lambda values: values):
    """The mean of a metric, or of a function of it, over the last ``share`` of the training."""
    iterations, values = map(numpy.array, run.curve(name))
    return float(function(values[iterations > (1 - share) * iterations[-1]]).mean())


def place(trial):
    """What varies within a family, as a figure shows it."""
    name = "d" if "d" in trial.settings else "gan_weight"
    shown = trial.varied or {name: trial.settings[name]}
    return ", ".join(f"{LETTERS[name]} {value:g}" for name, value in shown.items())


def measures(judged):
    """What is known of one run; lambda is a fixed weight, ``multiplier`` the weight of L_gan in effect."""
    settings, run = judged.trial.settings, judged.run
    found = {"lambda": settings["gan_weight"], "d": settings.get("d"), "seed": settings["seed"],
             "l_vae": late(run, "l_vae", 0.1), "l_gan": late(run, "l_gan", 0.1), **judged.entropies,
             **judged.fidelity}
    if found["d"] is None:
        return {**found, "multiplier": found["lambda"], "violation": None}
    violation = late(run, "l_gan", 0.2) - found["d"]
    if settings.get("multiplier") == "dual":
        return {**found, "lambda": None, "multiplier": late(run, "multiplier", 0.2), "violation": violation,
                "slackness": late(run, "slackness", 0.2)}
    if settings.get("per_sample", True):
        outside = 1 - late(run, "inside", 0.2)
    else:
        outside = late(run, "l_gan", 0.2, lambda l_gan: l_gan > found["d"])
    return {**found, "multiplier": found["lambda"] * outside, "violation": violation}


def from_the_vaegan(points, seeds):
    """L_vae of each family minus that of the VAE-GAN with the same seed and L_gan: a list of means per seed.

    The VAE-GAN's points, one per lambda, are joined by straight lines. Where L_gan is outside of their range,
    nothing is compared.
    """
    reached, found = {}, {}
    for point in points:
        reached.setdefault((point["model"], point["seed"]), []).append((point["l_gan"], point["l_vae"]))
    for family in FAMILIES:
        for seed in seeds if family != "vaegan" else ():
            line = numpy.array(sorted(reached["vaegan", seed])).T
            apart = [l_vae - numpy.interp(l_gan, *line) for l_gan, l_vae in reached[family, seed]
                     if line[0, 0] <= l_gan <= line[0, -1]]
            if apart:
                found.setdefault(family, []).append(float(numpy.mean(apart)))
    return {family: values for family, values in found.items() if len(values) > 1}


def verdict(title, values):
    """The interval of the differences, and what it says."""
    apart = confidence_interval(values)
    words = f"{title}: at the same L_gan, L_vae is {span(apart, 2)} nats from the VAE-GAN's: it "
    if apart["high"] < 0:
        return words + "lies below the lines between the VAE-GAN's points, as a convex frontier does as well."
    if apart["low"] > 0:
        return words + "costs more than the right lambda would."
    number = deciding_number(values)
    return words + f"chooses a point of the same frontier, as far as {len(values)} seeds show" + (
        f"; with such differences {number:,} would decide." if number else ".")


def main():
    flags = cli.parser("The paper's constraint, solved, on MNIST.", iterations=2500,
                       out="runs/mnist_constraint_frontier", seeds=5)
    args, data = cli.parse(flags)
    if args.seeds < 2:
        flags.error(f"argument --seeds: at least 2 expected, for an interval, {args.seeds} found")
    for name, values in args.set.items():
        if len(values) > 1 and name not in LETTERS:
            flags.error(f"argument --set: one value of {name} expected, as only d and gan_weight vary here, "
                        f"{len(values)} found")
    lab = Comparison(args, data)

    # Train each family with each of its settings and each seed.
    groups = lab.train_and_judge(FAMILIES, log_every=max(1, args.iterations // 250), fidelity=True)
    points, families, rows = [], {}, {}
    for group, judged in groups.items():
        name = next(name for name in FAMILIES if group == name or group.startswith(f"{name}_"))
        one = {key: [measures(run)[key] for run in judged] for key in measures(judged[0])}
        points += [{"model": name, **measures(run)} for run in judged]
        where = place(judged[0].trial)
        families.setdefault(FAMILIES[name].title, {})[where] = one
        violation = {} if one["d"][0] is None else {"violation": spread(one["violation"])}
        rows[f"{FAMILIES[name].title}, {where}".replace("$\\lambda$", "lambda")] = {
            "L_vae": spread(one["l_vae"]), "L_gan": spread(one["l_gan"]),
            "lambda in effect": spread(one["multiplier"]), "violation": "", **violation,
            "mode entropy": spread(one["mode_entropy"]), "image entropy": spread(one["image_entropy"]),
            "precision": spread(one["precision"]), "recall": spread(one["recall"])}

    # The table, the figure, and the distance between the frontiers.
    lab.table(f"losses at the end of {args.iterations:,} iterations, in nats; mean (standard deviation) over "
              f"{args.seeds} seeds", rows)
    lab.figure("frontier", figures.frontiers, families, PANELS, TITLES,
               title="What a weight and a constraint reach")
    apart = from_the_vaegan(points, lab.seeds)
    print("", *(verdict(FAMILIES[family].title, values) for family, values in apart.items()), sep="\n")
    intervals = {family: confidence_interval(values) for family, values in apart.items()}
    lab.finish(iterations=args.iterations, points=points, difference=intervals.get("dual"),
               differences=intervals)


if __name__ == "__main__":
    cli.run(main)
