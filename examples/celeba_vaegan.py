"""VAE-GAN and constrained VAE-GAN on faces, with Larsen's networks: Figure 7 (c, d), which the paper left
unfinished.

Without CelebA (--data) the faces are drawn ones. On the CPU the networks are narrower and the training
shorter than the paper's, unless --full asks for those; --gpu always does.
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

import numpy

from minigen import cli, datasets, figures, models, to_host
from minigen.experiment import Experiment
from minigen.metrics import frechet, neighbours

EPOCHS, WIDTH = 25, 1.0                         # the paper's
SMALL_ITERATIONS, SMALL_WIDTH = 600, 0.125      # ten minutes on two processor cores
HELD_OUT, SHOWN = 1000, 6                       # test images to measure with, and the fewest to show
SETTINGS = {"gan_weight": 20.0, "d": 1.0, "reconstruction_weight": 0.3, "latent": 128, "outputs": 1}
MODELS = {"vaegan": models.VAEGAN, "constrained": models.ConstrainedVAEGAN}
CURVES = {"reconstruction_error": "squared error of an image", "kl": "KL divergence (nats)",
          "l_gan": "$L_{GAN}$ (nats)", "d_loss": "D's loss (nats)", "inside": "share inside the constraint",
          "frechet_samples": "Fréchet distance of samples"}
NO_CELEBA = """
 **************************************************************************************
 *  This is NOT CelebA: without --data the networks are trained on drawn faces.       *
 *  For the paper's experiment get CelebA's img_align_celeba.zip ("Align&Cropped      *
 *  Images") from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and add           *
 *      --data img_align_celeba.zip                                                   *
 **************************************************************************************
"""


def load(path):
    if path is None:
        return datasets.faces()
    data = datasets.photographs(path)
    if len(data.test_images) < SHOWN:
        raise ValueError(f"{path}: at least {SHOWN} images for test expected, to show and to measure with, "
                         f"{len(data.test_images)} found")
    return data


def parse():
    flags = cli.parser("VAE-GAN and constrained VAE-GAN on faces.", iterations=None, full=None,
                       out="runs/celeba_vaegan",
                       side_by_side=False,
                       data="CelebA's archive or folder, or any folder of pictures; without it, drawn faces")
    flags.add_argument("--full", action="store_true",
                       help=f"the paper's width {WIDTH:g} and {EPOCHS} epochs, as with --gpu")
    flags.add_argument("--model", choices=[*MODELS, "both"], default="both", help="the model to train")
    flags.add_argument("--width", type=cli.positive_float, metavar="X",
                       help=f"width of the networks (default: {SMALL_WIDTH}; with --full or --gpu {WIDTH:g})")
    args, data = cli.parse(flags, load=load, outside=True)
    if args.data is None:
        print(NO_CELEBA, flush=True)
    large = args.full or args.gpu
    epochs = EPOCHS * (len(data.train_images) // args.batch_size)
    args.width = args.width or (WIDTH if large else SMALL_WIDTH)
    args.iterations = args.iterations or (epochs if large else SMALL_ITERATIONS)
    return args, data


def main():
    args, data = parse()
    lab = Experiment(args, data)
    held_out = datasets.scale(data.test_images[:HELD_OUT])
    features = frechet.features(held_out)

    def evaluate(model):
        samples, reconstructions = model.sample(HELD_OUT, rng=0), model.reconstruct(held_out)
        return {"frechet_samples": frechet.distance(frechet.features(samples), features),
                "frechet_reconstructions": frechet.distance(frechet.features(reconstructions), features)}

    # Train the models; draw samples and measure distances at every tenth of the training.
    tenths = {max(1, args.iterations * i // 10) for i in range(1, 11)}
    trained, runs = {}, {}
    kinds = MODELS if args.model == "both" else {args.model: MODELS[args.model]}
    trials = lab.trials(kinds, **SETTINGS, architecture="larsen", width=args.width)
    for trial in trials:
        model = trained[trial.title] = lab.build(trial)
        runs[trial.title] = lab.train(model, trial.folder, prepare=datasets.flip_and_scale, evaluate=evaluate,
                                      evaluate_at=tenths, sample_at=tenths,
                                      log_every=max(1, args.iterations // 100))

    # Figure 7, reconstructions and interpolations.
    faces, walks = {}, {}
    originals = held_out[:10]
    reconstructions = {"held out": originals}
    for name, model in trained.items():
        faces[name] = model.sample(64, rng=1)
        reconstructions[name] = model.reconstruct(originals)
        walks[name] = numpy.concatenate(to_host(model.interpolate(originals[:3], originals[3:6], steps=10)))
    lab.figure("figure7.png", figures.grids, faces,
               title=f"Generated faces after {args.iterations:,} iterations")
    lab.figure("reconstructions.png", figures.image_rows, reconstructions,
               title="Held-out images, encoded and decoded")
    lab.figure("interpolations.png", figures.image_rows, walks,
               title="From one held-out image to another through the latent space")

    # The losses.
    panels = {}
    for measure, title in CURVES.items():
        curves = {name: run.curve(measure) for name, run in runs.items()}
        logged = {name: curve for name, curve in curves.items() if curve[0]}
        if logged:
            panels[title] = logged
    lab.figure("losses.png", figures.training_curves, panels, title="Training")

    # The distances at the end, and which of the samples are like held-out images and the other way round.
    real = frechet.distance(frechet.features(datasets.scale(data.train_images[:HELD_OUT])), features)
    results, rows = {}, {}
    for trial in trials:
        run = runs[trial.title]
        samples = frechet.features(trained[trial.title].sample(HELD_OUT, rng=0))
        end = results[trial.group] = {**run.metrics()[-1], **neighbours.measure(features, samples)}
        speed = f"{run.images_per_second:,.0f}" if run.images_per_second else "-"
        rows[trial.title] = {"samples": f"{end['frechet_samples']:.4f}",
                             "reconstructions": f"{end['frechet_reconstructions']:.4f}",
                             "precision": f"{end['precision']:.3f}", "recall": f"{end['recall']:.3f}",
                             "images per second": speed}
    lab.table(f"width {args.width:g}, {args.iterations:,} iterations; squared Fréchet distance to "
              f"{len(held_out):,} held-out images in the features of an untrained network (training images: "
              f"{real:.4f}), and precision and recall of the samples there", rows)
    lab.finish(data=str(args.data or "drawn faces"), width=args.width, iterations=args.iterations,
               frechet_training_images=real, **results)


if __name__ == "__main__":
    cli.run(main)
