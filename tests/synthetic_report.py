"""What the examples would leave, made up: folders with results and figures, and a small explorer."""

import io
import json

import numpy
from PIL import Image

from minigen import datasets, models, report
from minigen.metrics.classifier import Classifier
from minigen.report.items import EXAMPLES, QUESTIONS, RESULTS

LOWER, AROUND, HIGHER = ({"mean": mean, "low": mean - 0.1, "high": mean + 0.1} for mean in (-0.5, 0.0, 0.5))
QUALITIES = ("mode_entropy", "image_entropy", "recall", "frechet")
FACES = {"frechet_samples": [0.2], "frechet_reconstructions": [0.02], "precision": [0.9], "recall": [0.5]}
SEVEN = ("gan", "gan_r1", "wgan", "wgan_penalty", "vae", "vaegan", "constrained")

SUMMARIES = {
    "mnist_gan_vs_wgan": {"gan": {"mode_entropy": 0.0, "image_entropy": 0.8},
                          "wgan": {"mode_entropy": 2.268, "image_entropy": 0.4}},
    "mnist_compare_models": {"classifier_accuracy": 0.98, "table1": {
        name: {"mode_entropy": [modes, modes], "image_entropy": [image, image]} for name, modes, image in
        (("gan", 0.0, 0.8), ("wgan", 2.239, 0.4), ("vae", 2.285, 0.3), ("vaegan", 2.281, 0.25))}},
    "manifold_distances": {"points": {"y": {"vaegan": 0.9, "constrained": 0.2},
                                      "z": {"vaegan": 0.6, "constrained": 0.4}}},
    "mnist_constrained_vaegan": {
        "vaegan": {"mode_entropy": [2.1, 2.2], "image_entropy": [0.3, 0.3]},
        "constrained": {"mode_entropy": [2.1, 2.2], "image_entropy": [0.2, 0.2], "inside": [0.5, 0.6]},
        "difference": {"mode_entropy": AROUND, "image_entropy": LOWER}},
    "celeba_vaegan": {"data": "drawn faces", "iterations": 60, "vaegan": FACES, "constrained": FACES},
    "mnist_constraint_frontier": {
        "points": [{"model": "dual", "d": d, "violation": -0.05, "multiplier": 0.5} for d in (3.0, 4.0)],
        "differences": {"dual": AROUND, "hinge": HIGHER, "mean_hinge": AROUND}},
    "mnist_stronger_models": {"differences": {
        "wgan_penalty - wgan": dict.fromkeys(QUALITIES, HIGHER) | {"image_entropy": LOWER, "frechet": LOWER},
        "vae_conv - vae": dict.fromkeys(QUALITIES, HIGHER)}},
    "mode_coverage": {data: {model: {"modes": [7.0], "good": [0.5]} for model in SEVEN}
                      for data in ("ring", "grid")}}


def write(folder, name, **changes):
    """Leave this example's results and figures in ``folder``; the keywords change its summary."""
    folder.mkdir(parents=True)
    made = {"command": f"/somewhere/{name}.py --seeds 2 --out {folder} --resume",
            "machine": "Abacus, 2 cores", "versions": {"minigen": "1.2.3", "numpy": "4.5"}, "seconds": 61.4}
    summary = {"seeds": [0, 1], **SUMMARIES[name], **changes}
    (folder / "command.json").write_text(json.dumps(made))
    (folder / "summary.json").write_text(json.dumps(summary))
    for item in (*RESULTS, *QUESTIONS):
        for figure in item.figures if item.example == name else ():
            (folder / f"{figure.stem}.png").write_bytes(png())


def png():
    file = io.BytesIO()
    Image.new("RGB", (4, 3), "white").save(file, "png")
    return file.getvalue()


def outcomes(folder):
    """The results of all examples."""
    for name in EXAMPLES:
        write(folder / name, name)
    return {name: report.read(folder / name) for name in EXAMPLES}


def explored():
    """Models that were not trained but make images of some contrast, a classifier, and data for them."""
    rng = numpy.random.default_rng(0)
    kinds = (models.VAE, models.VAEGAN, models.ConstrainedVAEGAN)
    made = [kind(init="he_normal", seed=seed) for seed, kind in enumerate(kinds)]
    for model in made:
        last = model.networks["decoder"].layers[-2]
        last.weight.data = 4 * last.weight.data
    images, labels = rng.random((50, 784), dtype="float32"), numpy.arange(50) % 10
    data = datasets.Dataset(images, labels, images, labels, image_shape=(28, 28, 1))
    return made, Classifier(epochs=1, batch_size=10).fit(images, labels), data
