"""VAE-GAN and constrained VAE-GAN on faces, with Larsen's networks: Figure 7 (c, d), which the paper left
unfinished.

Without CelebA (--data) the faces are drawn ones. On the CPU the networks are narrower and the training
shorter than the paper's, unless --full asks for those; --gpu always does.
"""

import numpy

from minigen import cli, datasets, figures, models, to_host
from minigen.experiment import Experiment
from minigen.metrics import frechet

EPOCHS, WIDTH = 25, 1.0                         # the paper's
SMALL_ITERATIONS, SMALL_WIDTH = 600, 0.125      # ten minutes on two processor cores
HELD_OUT, SHOWN = 1000, 6                       # test images to measure with, and the fewest to show
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
                       data="CelebA's archive or folder, or any folder of pictures; without it, drawn faces")
    flags.add_argument("--full", action="store_true",
                       help=f"the paper's width {WIDTH:g} and {EPOCHS} epochs, as with --gpu")
    flags.add_argument("--model", choices=[*MODELS, "both"], default="both", help="the model to train")
    flags.add_argument("--width", type=cli.positive_float, metavar="X",
                       help=f"width of the networks (default: {SMALL_WIDTH}; with --full or --gpu {WIDTH:g})")
    flags.add_argument("--gan-weight", type=cli.non_negative_float, default=20.0, metavar="X",
                       help="weight of the GAN term, the paper's lambda")
    flags.add_argument("--d", type=cli.finite_float, default=1.0, metavar="X",
                       help="upper bound of L_gan, in nats")
    flags.add_argument("--on-mean", action="store_true",
                       help="constrain the batch mean of L_gan, not each image's")
    flags.add_argument("--reconstruction-weight", type=cli.non_negative_float, default=0.3, metavar="X",
                       help="weight of the squared error")
    flags.add_argument("--learned-similarity", action="store_true",
                       help="compare reconstructions by D's features, not by pixels")
    args, data = cli.parse(flags, load=load)
    if args.data is None:
        print(NO_CELEBA, flush=True)
    large = args.full or args.gpu
    epochs = EPOCHS * (len(data.train_images) // args.batch_size)
    args.width = args.width or (WIDTH if large else SMALL_WIDTH)
    args.iterations = args.iterations or (epochs if large else SMALL_ITERATIONS)
    return args, data


def build(lab, kind, args):
    settings = {"gan_weight": args.gan_weight, "reconstruction_weight": args.reconstruction_weight,
                "learned_similarity": args.learned_similarity, "latent": 128, "outputs": 1}
    if kind is models.ConstrainedVAEGAN:
        settings |= {"d": args.d, "per_sample": not args.on_mean}
    return lab.build(kind, args.seed, architecture="larsen", width=args.width, **settings)


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
    for name in MODELS if args.model == "both" else [args.model]:
        model = build(lab, MODELS[name], args)
        runs[name] = lab.train(model, name, prepare=datasets.flip_and_scale, evaluate=evaluate,
                               evaluate_at=tenths, sample_at=tenths, log_every=max(1, args.iterations // 100))
        trained[model.title] = model

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
        curves = {MODELS[name].title: run.curve(measure) for name, run in runs.items()}
        logged = {name: curve for name, curve in curves.items() if curve[0]}
        if logged:
            panels[title] = logged
    lab.figure("losses.png", figures.training_curves, panels, title="Training")

    # The distances at the end.
    real = frechet.distance(frechet.features(datasets.scale(data.train_images[:HELD_OUT])), features)
    results, rows = {}, {}
    for name, run in runs.items():
        end = run.metrics()[-1]
        results[name] = {"images_per_second": run.images_per_second, **end}
        speed = f"{run.images_per_second:,.0f}" if run.images_per_second else "-"
        rows[MODELS[name].title] = {"samples": f"{end['frechet_samples']:.4f}",
                                    "reconstructions": f"{end['frechet_reconstructions']:.4f}",
                                    "images per second": speed}
    lab.table(f"width {args.width:g}, {args.iterations:,} iterations; squared Fréchet distance to "
              f"{len(held_out):,} held-out images in the features of an untrained network (training images: "
              f"{real:.4f})", rows)
    lab.finish(data=str(args.data or "drawn faces"), width=args.width, iterations=args.iterations,
               frechet_training_images=real, **results)


if __name__ == "__main__":
    cli.run(main)
