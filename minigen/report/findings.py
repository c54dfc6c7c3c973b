"""What the results say about each item of the paper: rows that compare, a verdict, and a conclusion.

Each public function takes the summary of one example and returns a ``Finding``. All entropies are in nats;
differences are what is found here minus the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minigen import models
from minigen.experiment import span, spread

Summary = Mapping[str, Any]

TITLES = {"gan": "GAN", "wgan": "WGAN", "vae": "VAE", "vaegan": "VAE-GAN",
          "constrained": "constrained VAE-GAN"}
TABLE_1 = {"gan": 0.0, "wgan": 2.280, "vae": 2.266, "vaegan": 2.263}       # the paper's
ACCURACY = 0.954                        # of the paper's classifier
COLLAPSED, VARIED = math.log(2), math.log(8)    # mode entropies of two and of eight equally frequent digits

AGREES, DIFFERS, PARTLY = "as in the paper", "not as in the paper", "partly as in the paper"
UNDECIDED, NEW = "undecided", "new here"


@dataclass(frozen=True)
class Row:
    """One quantity: the paper's value, the one found here, and the difference, all as text."""

    quantity: str
    paper: str
    here: str
    difference: str = ""


@dataclass(frozen=True)
class Finding:
    """What an item comes to: a verdict in a few words, a conclusion in one or two sentences, and the rows."""

    verdict: str
    conclusion: str
    rows: Sequence[Row]


def architecture(summary: Summary) -> Finding:
    """Figure 1, for which nothing has to be trained."""
    networks: dict[str, Any] = {**models.VAEGAN().networks}
    sizes = {role: [len(network.layers[0].weight), *(len(layer.bias) for layer in network.layers[::2])]
             for role, network in networks.items()}
    paper = {"discriminator": [784, 392, 196, 98, 100], "decoder": [100, 98, 196, 392, 784]}
    rows = [Row(f"layers of the {role}", "-".join(map(str, paper[role])) if role in paper else "analogous",
                "-".join(map(str, found))) for role, found in sizes.items()]
    same = all(sizes[role] == found for role, found in paper.items())
    return Finding(AGREES if same else DIFFERS, "Encoder, decoder and discriminator are fully connected. The "
                   "encoder's outputs are the mean and the logarithm of the variance of each latent.", rows)


def _compared(quantity: str, paper: float, values: Sequence[float]) -> Row:
    return Row(quantity, f"{paper:.3f}", spread(values), f"{numpy.mean(values) - paper:+.3f}")


def _digits(entropy: float) -> str:
    """A mode entropy as a number of equally frequent digits."""
    return f"{math.exp(entropy):.1f}"


def _collapse(modes: Mapping[str, float]) -> tuple[str, str]:
    """The verdict on mode entropies by model, and in words which models have lost modes."""
    varied = all(modes[name] > VARIED for name in modes if name != "gan")
    verdict = AGREES if varied and modes["gan"] < COLLAPSED else DIFFERS
    ends = ", ".join(f"{TITLES[name]} {_digits(value)}" for name, value in modes.items())
    lost = [TITLES[name] for name, value in modes.items() if value <= VARIED]
    rule = f"only the {lost[0]} loses modes" if len(lost) == 1 else (
        f"{' and '.join(lost)} lose modes" if lost else "no model loses modes")
    return verdict, f"Counted as equally frequent digits, there are at the end: {ends}. So {rule}."


def _modes(summary: Summary) -> dict[str, float]:
    return {name: summary[name]["mode_entropy"] for name in ("gan", "wgan")}


def training_images(summary: Summary) -> Finding:
    """Figure 2."""
    modes = _modes(summary)
    paper = {"gan": "1 (the digit 1)", "wgan": "various"}
    rows = [Row(f"digits of the {TITLES[name]} at the end, exp(mode entropy)", paper[name], _digits(value))
            for name, value in modes.items()]
    return Finding(*_collapse(modes), rows)


def training_entropies(summary: Summary) -> Finding:
    """Figure 3."""
    modes = _modes(summary)
    rows = [_compared(f"mode entropy of the {TITLES[name]} at the end", TABLE_1[name], [value])
            for name, value in modes.items()]
    verdict, _ = _collapse(modes)
    return Finding(verdict, f"The GAN's mode entropy ends at {modes['gan']:.3f}, the WGAN's at "
                            f"{modes['wgan']:.3f}, of at most {math.log(10):.3f}.", rows)


def four_models(summary: Summary) -> Finding:
    """Table 1."""
    table = summary["table1"]
    rows = [_compared(f"mode entropy of the {TITLES[name]}", TABLE_1[name], found["mode_entropy"])
            for name, found in table.items()]
    found = summary["classifier_accuracy"]
    rows.append(Row("the classifier's accuracy", f"{ACCURACY:.1%}", f"{found:.1%}",
                    f"{100 * (found - ACCURACY):+.1f} points"))
    return Finding(*_collapse(_means(table, "mode_entropy")), rows)


def ten_images(summary: Summary) -> Finding:
    """Figure 4."""
    modes = _means(summary["table1"], "mode_entropy")
    rows = [Row(f"digits of the {TITLES[name]}, exp(mode entropy)", _digits(TABLE_1[name]), _digits(value),
                f"{math.exp(value) - math.exp(TABLE_1[name]):+.1f}") for name, value in modes.items()]
    verdict, _ = _collapse(modes)
    return Finding(verdict, "The GAN shows one image again and again, the others many digits."
                   if verdict == AGREES else "The models show other digits than the paper's do.", rows)


def image_entropies(summary: Summary) -> Finding:
    """Figure 5."""
    paper = {"gan": "low", "wgan": "several high", "vae": "several high", "vaegan": "the lowest"}
    table = summary["table1"]
    rows = [Row(f"mean image entropy of the {TITLES[name]}", paper[name], spread(found["image_entropy"]))
            for name, found in table.items()]
    means = _means(table, "image_entropy")
    varied = {name: value for name, value in means.items() if name != "gan"}
    clearest = min(varied, key=lambda name: varied[name])
    return Finding(AGREES if clearest == "vaegan" else DIFFERS,
                   f"Of WGAN, VAE and VAE-GAN, the {TITLES[clearest]} makes the clearest images: their "
                   f"mean image entropy is {means[clearest]:.3f}. The GAN's, {means['gan']:.3f}, is that of "
                   "the few images that it happens to end in.", rows)


def _means(table: Summary, measure: str) -> dict[str, float]:
    return {name: float(numpy.mean(found[measure])) for name, found in table.items()}


def two_distances(summary: Summary) -> Finding:
    """Figure 6."""
    points = summary["points"]
    losses = {"vaegan": ("the VAE-GAN", "z below y"), "constrained": ("the constrained model", "y below z")}
    rows, holds = [], []
    for loss, (words, paper) in losses.items():
        y, z = points["y"][loss], points["z"][loss]
        found = "z below y" if z < y else "y below z"
        holds.append(found == paper)
        rows.append(Row(f"the loss of {words}", paper, f"{found}: {z:.3f} at z, {y:.3f} at y"))
    words = "the VAE-GAN prefers z, on the data, the constrained model y, the allowed image nearest to x"
    return Finding(AGREES, f"As the paper says, {words}.", rows) if all(holds) else Finding(
        DIFFERS, f"It does not hold here that {words}.", rows)


def divergences(summary: Summary) -> Finding:
    """Section 2.2."""
    return Finding("see the figure", "Eq. 3 becomes flat as the distributions move apart. One part of Eq. 4 "
                   "pulls them together while the other pushes them apart. The Wasserstein distance has the "
                   "same slope everywhere.", [])


def _change(words: str, interval: Summary, unit: str = "") -> tuple[str, str]:
    """Whether an interval lies below 0, above it or around it, and a sentence that says so."""
    if interval["high"] < 0:
        return "lower", f"{words} is lower ({span(interval)}{unit})"
    if interval["low"] > 0:
        return "higher", f"{words} is higher ({span(interval)}{unit})"
    return "undecided", f"{words} is not shown to change ({span(interval)}{unit})"


def constrained_images(summary: Summary) -> Finding:
    """Figure 7 (a, b)."""
    change, words = _change("the mode entropy", summary["difference"]["mode_entropy"])
    rows = [Row(f"mode entropy of the {TITLES[name]}", "not given", spread(summary[name]["mode_entropy"]))
            for name in ("vaegan", "constrained")]
    inside = numpy.mean(summary["constrained"]["inside"])
    interval = span(summary["difference"]["mode_entropy"])
    rows += [Row("difference, 95 % interval", "neither dominates", interval),
             Row("share of generated images inside the constraint", "not given", f"{inside:.0%}")]
    return Finding(AGREES if change == "undecided" else DIFFERS, f"With the constraint, {words}.", rows)


def constrained_entropies(summary: Summary) -> Finding:
    """Figure 8."""
    interval = summary["difference"]["image_entropy"]
    change, words = _change("the mean image entropy", interval)
    rows = [Row(f"mean image entropy of the {TITLES[name]}", paper, spread(summary[name]["image_entropy"]))
            for name, paper in (("vaegan", "higher"), ("constrained", "lower"))]
    rows.append(Row("difference, 95 % interval", "below 0", span(interval)))
    verdict = {"lower": AGREES, "higher": DIFFERS, "undecided": UNDECIDED}[change]
    return Finding(verdict, f"With the constraint, {words}.", rows)


_FACES = {"frechet_samples": "squared Fréchet distance of samples",
          "frechet_reconstructions": "squared Fréchet distance of reconstructions",
          "precision": "precision of samples", "recall": "recall of samples"}


def faces(summary: Summary) -> Finding:
    """Figure 7 (c, d)."""
    rows = [Row(f"{words}, {TITLES[name]}", "not given", spread(summary[name][measure]))
            for measure, words in _FACES.items() for name in ("vaegan", "constrained")]
    plain, constrained = (numpy.mean(summary[name]["frechet_samples"]) for name in ("vaegan", "constrained"))
    return Finding(NEW, f"The paper stopped before a result. Here, after {summary['iterations']:,} "
                        f"iterations on {summary['data']}, the squared Fréchet distance of samples to "
                        f"held-out images is {plain:.3f} for the VAE-GAN and {constrained:.3f} for the "
                        "constrained model.", rows)


def solved(summary: Summary) -> Finding:
    """Open question 1: whether the constraint can be solved."""
    points = [point for point in summary["points"] if point["model"] == "dual"]
    by_bound: dict[float, list[Summary]] = {}
    for point in points:
        by_bound.setdefault(point["d"], []).append(point)
    rows = []
    for d, found in by_bound.items():
        violations, lambdas = ([point[name] for point in found] for name in ("violation", "multiplier"))
        rows += [Row(f"L_GAN minus the bound d = {d:g}", "at most 0", spread(violations)),
                 Row(f"lambda for d = {d:g}", "0 or infinite", spread(lambdas))]
    worst = max(abs(point["violation"]) for point in points)
    lambdas = [point["multiplier"] for point in points]
    if worst < 0.3:
        return Finding(NEW, f"Yes. Dual ascent keeps L_GAN within {worst:.2f} of the bound. Its lambda, from "
                            f"{min(lambdas):.2f} to {max(lambdas):.2f}, is neither 0 nor infinite.", rows)
    return Finding(UNDECIDED, f"These runs do not show it: L_GAN ends up to {worst:.2f} away from the bound.",
                   rows)


_WAYS = {"dual": "the solved constraint", "hinge": "the paper's hinge for each image",
         "mean_hinge": "the hinge on the mean"}


def frontier(summary: Summary) -> Finding:
    """Open question 2: whether the constraint helps."""
    found = summary["differences"]
    rows = [Row(f"L_vae at the same L_GAN, {words} minus the VAE-GAN", "little difference",
                span(found[name], 2)) for name, words in _WAYS.items() if name in found]
    helps = [_WAYS[name] for name in found if found[name]["high"] < 0]
    costs = [_WAYS[name] for name in found if found[name]["low"] > 0]
    said = [f"At the same L_GAN, L_vae is {word} with {', '.join(ways)}."
            for word, ways in (("lower", helps), ("higher", costs)) if ways]
    if len(helps) + len(costs) < len(rows):
        other = "other " if said else ""
        said.append(f"No {other}way is shown to differ from the VAE-GAN with the right lambda.")
    return Finding(NEW if helps or costs else UNDECIDED, " ".join(said), rows)


_QUALITIES = {"mode_entropy": ("mode entropy", 1), "image_entropy": ("image entropy", -1),
              "recall": ("recall", 1), "frechet": ("Fréchet distance", -1)}      # 1 if more is better


def _versus(summary: Summary, pairs: Mapping[str, str],
            expected: str) -> tuple[list[Row], list[str], list[str]]:
    """Rows for each pair of models and quality, and which of them are better and worse."""
    rows: list[Row] = []
    better: list[str] = []
    worse: list[str] = []
    for pair, words in pairs.items():
        for name, (quality, sign) in _QUALITIES.items() if pair in summary["differences"] else ():
            interval = summary["differences"][pair][name]
            rows.append(Row(f"change of the {quality} of {words}", expected, span(interval)))
            change = _change(quality, interval)[0]
            if change != "undecided":
                (better if (change == "higher") == (sign > 0) else worse).append(f"{quality} of {words}")
    return rows, better, worse


def _shown(better: Sequence[str], worse: Sequence[str]) -> str:
    """Which qualities the intervals show to change, as sentences."""
    said = [f"Shown to be {change}: {', '.join(names)}."
            for change, names in (("better", better), ("worse", worse)) if names]
    return " ".join(said) or "No quality is shown to change."


def stronger_wgan(summary: Summary) -> Finding:
    """Open question 3: whether the WGAN's network was too weak."""
    pairs = {"wgan_penalty - wgan": "the WGAN with a penalty"}
    rows, better, worse = _versus(summary, pairs, "")
    if len(better) > len(worse):
        return Finding(DIFFERS, "No: the same network does better with a gradient penalty instead of clipped "
                                f"weights. {_shown(better, worse)}", rows)
    return Finding(UNDECIDED, "The same network does not do better here with a gradient penalty instead of "
                              f"clipped weights. {_shown(better, worse)}", rows)


def convolution(summary: Summary) -> Finding:
    """Open question 4: whether convolution would have been better."""
    pairs = {f"{name}_conv - {name}": f"the {TITLES[name]} with convolution"
             for name in ("wgan", "vae", "vaegan")}
    rows, better, worse = _versus(summary, pairs, "better")
    verdict = PARTLY if better and worse else AGREES if better else DIFFERS if worse else UNDECIDED
    return Finding(verdict, _shown(better, worse), rows)


def complicated_data(summary: Summary) -> Finding:
    """Open question 5: whether the constraint helps more where the data are more complicated."""
    if "difference" in summary:
        changes = {name: _change(words, summary["difference"][name]) for name, words in _FACES.items()}
        rows = [Row(f"{words}, difference", "", span(summary["difference"][name]))
                for name, words in _FACES.items()]
        shown = [words for change, words in changes.values() if change != "undecided"]
        return Finding(NEW if shown else UNDECIDED, f"With the constraint, {'; '.join(shown)}." if shown else
                       "On faces the constraint is not shown to change anything.", rows)
    rows = []
    for name, words in _FACES.items():
        plain, constrained = (numpy.mean(summary[model][name]) for model in ("vaegan", "constrained"))
        rows.append(Row(f"{words}, difference", "", f"{constrained - plain:+.3f}"))
    return Finding(UNDECIDED, "One seed of each model cannot tell; with --seeds 5 the example computes "
                              "intervals.", rows)


def coverage(summary: Summary) -> Finding:
    """Covered modes of known mixtures."""
    named = {**TITLES, "gan_r1": "GAN with R1", "wgan_penalty": "WGAN with penalty"}.__getitem__
    rows = [Row(f"{data}, {named(model)}: covered modes; share of good points", "",
                f"{spread(found['modes'])}; {spread(found['good'])}")
            for data in ("ring", "grid") for model, found in summary[data].items()]
    fewest = {data: min(summary[data], key=lambda model: numpy.mean(summary[data][model]["modes"]))
              for data in ("ring", "grid")}
    said = [f"On the {data}, the model that covers the fewest modes covers "
            f"{numpy.mean(summary[data][fewest[data]]['modes']):.1f} of {number}: {named(fewest[data])}."
            for data, number in (("ring", 8), ("grid", 25))]
    return Finding(NEW, " ".join(said), rows)
