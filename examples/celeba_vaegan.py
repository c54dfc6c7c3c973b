"""VAE-GAN and constrained VAE-GAN on faces, with Larsen's networks: Figure 7 (c, d), which the paper left
unfinished.

Without CelebA (--data) the faces are drawn ones. On the CPU the networks are narrower and the training
shorter than the paper's, unless --full asks for those; --gpu always does. With several --seeds, the two
models are compared pair by pair.
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy

from minigen import cli, datasets, figures, models, to_host, training
from minigen.comparison import side_by_side
from minigen.experiment import Experiment, Trial, span, spread
from minigen.metrics import frechet, neighbours
from minigen.metrics.intervals import deciding_number, paired_difference

EPOCHS, WIDTH, BATCH = 25, 1.0, 64              # the paper's, and Larsen's batch
SMALL_ITERATIONS, SMALL_WIDTH, SMALL_BATCH = 6000, 0.125, 16    # ten minutes on two processor cores
HELD_OUT, SHOWN = 1000, 6                       # test images to measure with, and the fewest to show
SETTINGS = {"gan_weight": 5.0, "d": 1.5, "reconstruction_weight": 0.3, "latent": 128, "outputs": 1,
            "lr": 2e-3, "average": 0.999}
MODELS = {"vaegan": models.VAEGAN, "constrained": models.ConstrainedVAEGAN}
CURVES = {"reconstruction_error": "squared error of an image", "kl": "KL divergence (nats)",
          "l_gan": "$L_{GAN}$ (nats)", "d_loss": "D's loss (nats)", "inside": "share inside the constraint",
          "frechet_samples": "Fréchet distance of samples"}
MEASURES = {"frechet_samples": "samples", "frechet_reconstructions": "reconstructions",
            "precision": "precision", "recall": "recall"}
NO_CELEBA = """
 **************************************************************************************
 *  This is NOT CelebA: without --data the networks are trained on drawn faces.       *
 *  For the paper's experiment get CelebA's img_align_celeba.zip ("Align&Cropped      *
 *  Images") from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and add           *
 *      --data img_align_celeba.zip                                                   *
 **************************************************************************************
"""


@lru_cache(1)       # a worker trains several models
def load(path):
    if path is None:
        return datasets.faces()
    data = datasets.photographs(path)
    if len(data.test_images) < SHOWN:
        raise ValueError(f"{path}: at least {SHOWN} images for test expected, to show and to measure with, "
                         f"{len(data.test_images)} found")
    return data


def parse():
    flags = cli.parser("VAE-GAN and constrained VAE-GAN on faces.", iterations=None, full=None, seeds=1,
                       out="runs/celeba_vaegan", batch_size=SMALL_BATCH,
                       data="CelebA's archive or folder, or any folder of pictures; without it, drawn faces")
    flags.add_argument("--full", action="store_true",
                       help=f"the paper's width {WIDTH:g} and {EPOCHS} epochs of batches of {BATCH}, as with "
                       "--gpu")
    flags.add_argument("--model", choices=[*MODELS, "both"], default="both", help="the model to train")
    flags.add_argument("--width", type=cli.positive_float, default=SMALL_WIDTH, metavar="X",
                       help="width of the networks")
    asked = flags.parse_args()
    large = asked.full or asked.gpu
    if large:
        flags.set_defaults(width=WIDTH, batch_size=BATCH)
    args, data = cli.parse(flags, load=load, outside=True)
    if args.data is None:
        print(NO_CELEBA, flush=True)
    epochs = EPOCHS * (len(data.train_images) // args.batch_size)
    args.iterations = args.iterations or (epochs if large else SMALL_ITERATIONS)
    return args, data


@dataclass(frozen=True)
class Faces:
    """A trial after its training: its run, what was measured, and images of the model."""

    trial: Trial
    run: training.Run
    found: dict
    samples: numpy.ndarray
    reconstructions: numpy.ndarray
    walks: numpy.ndarray


def train_and_measure(trial, args):
    """Train a model in a worker process; draw samples and measure distances at each tenth of the training."""
    lab = Experiment(args, load(args.data))
    held_out = datasets.scale(lab.data.test_images[:HELD_OUT])
    real = frechet.features(held_out)

    def evaluate(model):
        samples, reconstructions = model.sample(HELD_OUT, rng=0), model.reconstruct(held_out)
        return {"frechet_samples": frechet.distance(frechet.features(samples), real),
                "frechet_reconstructions": frechet.distance(frechet.features(reconstructions), real)}

    tenths = {max(1, args.iterations * i // 10) for i in range(1, 11)}
    model = lab.build(trial)
    run = lab.train(model, trial.folder, prepare=datasets.flip_and_scale, evaluate=evaluate,
                    evaluate_at=tenths, sample_at=tenths, log_every=max(1, args.iterations // 100))
    samples = frechet.features(model.sample(HELD_OUT, rng=0))
    walks = model.interpolate(held_out[:3], held_out[3:6], steps=10)
    return Faces(trial, run, {**run.metrics()[-1], **neighbours.measure(real, samples)},
                 to_host(model.sample(64, rng=1)), to_host(model.reconstruct(held_out[:10])),
                 numpy.concatenate(to_host(walks)))


def compare(plain, constrained):
    """Print the differences that the constraint makes, seed by seed; return their intervals."""
    differences = {}
    print("\nconstrained VAE-GAN minus VAE-GAN, 95 % intervals:")
    for name, words in MEASURES.items():
        pairs = [[one.found[name] for one in faces] for faces in (constrained, plain)]
        found = differences[name] = paired_difference(*pairs)
        number = deciding_number(numpy.subtract(*pairs))
        undecided = found["low"] <= 0 <= found["high"] and number
        print(f"  {words}: {span(found)}"
              + (f"; with such differences it would take {number:,} seeds" if undecided else ""))
    return differences


def main():
    args, data = parse()
    lab = Experiment(args, data)

    # Train each model with each seed.
    kinds = MODELS if args.model == "both" else {args.model: MODELS[args.model]}
    trials = lab.trials(kinds, **SETTINGS, architecture="larsen", width=args.width)
    groups = side_by_side(partial(train_and_measure, args=args), trials, args)

    # Figure 7, reconstructions and interpolations, of the first seed.
    held_out = datasets.scale(data.test_images[:HELD_OUT])
    first = {faces[0].trial.title: faces[0] for faces in groups.values()}
    lab.figure("figure7", figures.grids, {name: one.samples for name, one in first.items()},
               title=f"Generated faces after {args.iterations:,} iterations")
    lab.figure("reconstructions", figures.image_rows,
               {"held out": held_out[:10], **{name: one.reconstructions for name, one in first.items()}},
               title="Held-out images, encoded and decoded")
    lab.figure("interpolations", figures.image_rows, {name: one.walks for name, one in first.items()},
               title="From one held-out image to another through the latent space")

    # The losses.
    panels = {}
    for measure, title in CURVES.items():
        curves = {name: one.run.curve(measure) for name, one in first.items()}
        logged = {name: curve for name, curve in curves.items() if curve[0]}
        if logged:
            panels[title] = logged
    lab.figure("losses", figures.training_curves, panels, title="Training")

    # The distances at the end, and which of the samples are like held-out images and the other way round.
    trained = datasets.scale(data.train_images[:HELD_OUT])
    real = frechet.distance(frechet.features(trained), frechet.features(held_out))
    results, rows = {}, {}
    for group, faces in groups.items():
        found = results[group] = {name: [one.found[name] for one in faces] for name in faces[0].found}
        speeds = [one.run.images_per_second for one in faces if one.run.images_per_second]
        rows[faces[0].trial.title] = {**{words: spread(found[name]) for name, words in MEASURES.items()},
                                      "images per second": f"{numpy.mean(speeds):,.0f}" if speeds else "-"}
    seeds = f"{args.seeds} seed{'s' * (args.seeds > 1)}"
    lab.table(f"width {args.width:g}, {args.iterations:,} iterations, {seeds}; squared Fréchet "
              f"distance to {len(held_out):,} held-out images in the features of an untrained network "
              f"(training images: {real:.4f}), and precision and recall of the samples there", rows)
    if args.seeds > 1 and list(groups) == list(MODELS):
        results["difference"] = compare(*groups.values())
    lab.finish(data=str(args.data or "drawn faces"), width=args.width, iterations=args.iterations,
               frechet_training_images=real, **results)


if __name__ == "__main__":
    cli.run(main)
