"""VAE-GAN and constrained VAE-GAN on faces, with Larsen's networks: Figure 7 (c, d), the experiment that the report had to stop.

Without CelebA (--data) the faces are drawn ones. On the CPU the networks are narrower and the training shorter than the report's,
unless --full asks for those; --gpu always does.
"""

import json

import numpy

from minigen import cli, datasets, figures, frechet, models, to_host, training

EPOCHS, WIDTH = 25, 1.0                         # the report's
SMALL_ITERATIONS, SMALL_WIDTH = 600, 0.125      # what two processor cores do in ten minutes
HELD_OUT = 1000                                 # images to measure with
MODELS = {"vaegan": ("VAE-GAN", models.VAEGAN), "constrained": ("constrained VAE-GAN", models.ConstrainedVAEGAN)}
CURVES = {"reconstruction_error": "squared error of an image", "kl": "KL divergence (nats)", "l_gan": "$L_{GAN}$ (nats)",
          "d_loss": "D's loss (nats)", "inside": "share inside the constraint", "frechet_samples": "Fréchet distance of samples"}
NO_CELEBA = """
 **************************************************************************************
 *  This is NOT CelebA: without --data the networks are trained on drawn faces.       *
 *  For the report's experiment get CelebA's img_align_celeba.zip ("Align&Cropped     *
 *  Images") from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and add           *
 *      --data img_align_celeba.zip                                                   *
 **************************************************************************************
"""


def load(path):
    if path is None:
        print(NO_CELEBA, flush=True)
        return datasets.faces()
    return datasets.celeba(path)


def train(key, args, data, held_out):
    """The trained model, its run, and what is measured on it at the end."""
    _, kind = MODELS[key]
    settings = {"gan_weight": args.gan_weight, "reconstruction_weight": args.reconstruction_weight,
                "learned_similarity": args.learned_similarity, "width": args.width}
    if kind is models.ConstrainedVAEGAN:
        settings |= {"d": args.d, "per_sample": not args.on_mean}
    model = kind(latent=128, outputs=1, seed=args.seed, **settings)
    wanted = frechet.features(held_out)

    def evaluate(model):
        return {"frechet_samples": frechet.distance(frechet.features(model.sample(HELD_OUT, rng=0)), wanted),
                "frechet_reconstructions": frechet.distance(frechet.features(model.reconstruct(held_out)), wanted)}
    at = {max(1, args.iterations * i // 10) for i in range(1, 11)}
    run = training.train(model, data.train_images, iterations=args.iterations, batch_size=args.batch_size, seed=args.seed,
                         out=args.out / key, resume=args.resume, prepare=datasets.flip_and_scale, evaluate=evaluate,
                         evaluate_at=at, sample_at=at, log_every=max(1, args.iterations // 100))
    return model, run


def main():
    flags = cli.parser(__doc__.splitlines()[0], iterations=None, full=None, out="runs/celeba_vaegan",
                       data="CelebA: img_align_celeba.zip, or the unpacked folder; without it, drawn faces")
    flags.add_argument("--full", action="store_true", help=f"the report's width {WIDTH:g} and {EPOCHS} epochs, as with --gpu")
    flags.add_argument("--model", choices=[*MODELS, "both"], default="both", help="what to train")
    flags.add_argument("--width", type=cli.more_than_0, metavar="X",
                       help=f"width of the networks, instead of {SMALL_WIDTH} or, with --full or --gpu, {WIDTH:g}")
    flags.add_argument("--lambda", dest="gan_weight", type=cli.weight, default=20.0, metavar="X", help="weight of the GAN term")
    flags.add_argument("--d", type=cli.finite, default=1.0, metavar="X", help="the most that L_gan may be, in nats")
    flags.add_argument("--on-mean", action="store_true", help="constrain the batch mean of L_gan, not each image's")
    flags.add_argument("--reconstruction-weight", type=cli.weight, default=0.3, metavar="X", help="weight of the squared error")
    flags.add_argument("--learned-similarity", action="store_true", help="compare reconstructions by D's features, not by pixels")
    args, data = cli.parse(flags, load=load)
    large = args.full or args.gpu
    args.width = args.width or (WIDTH if large else SMALL_WIDTH)
    epochs = EPOCHS * (len(data.train_images) // args.batch_size)
    args.iterations = args.iterations or (epochs if large else SMALL_ITERATIONS)

    held_out = datasets.scale(data.test_images[:HELD_OUT])
    chosen = list(MODELS) if args.model == "both" else [args.model]
    trained = {key: train(key, args, data, held_out) for key in chosen}
    real = frechet.distance(frechet.features(datasets.scale(data.train_images[:HELD_OUT])), frechet.features(held_out))
    summary = {"data": str(args.data or "drawn faces"), "width": args.width, "iterations": args.iterations, "seed": args.seed,
               "frechet_training_images": real}
    for key, (model, run) in trained.items():
        summary[key] = {"images_per_second": run.images_per_second, **run.metrics()[-1]}
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")

    names = {key: MODELS[key][0] for key in chosen}
    shown = {names[key]: model for key, (model, _) in trained.items()}
    figures.grids(args.out / "figure7.png", {name: model.pictures(model.sample(64, rng=1)) for name, model in shown.items()},
                  title=f"Generated faces after {args.iterations:,} iterations")
    originals = held_out[:10]
    pictures = next(iter(shown.values())).pictures
    figures.image_rows(args.out / "reconstructions.png",
                       {"held out": pictures(originals),
                        **{name: model.pictures(model.reconstruct(originals)) for name, model in shown.items()}},
                       title="Held-out images, encoded and decoded")
    figures.image_rows(args.out / "interpolations.png",
                       {name: model.pictures(numpy.concatenate(to_host(model.interpolate(originals[:3], originals[3:6], steps=10))))
                        for name, model in shown.items()},
                       title="From one held-out image to another through the latent space")
    records = {names[key]: run.metrics() for key, (_, run) in trained.items()}
    figures.training_curves(
        args.out / "losses.png",
        {title: {name: ([r["iteration"] for r in rows if measure in r], [r[measure] for r in rows if measure in r])
                 for name, rows in records.items() if measure in rows[-1]} for measure, title in CURVES.items()},
        title="Training")

    print(f"\nwidth {args.width:g}, {args.iterations:,} iterations; squared Fréchet distance to {len(held_out):,} held-out images "
          f"in the features of an untrained network (training images: {real:.4f})")
    print(f"{'':22}{'samples':>10}{'reconstructions':>18}{'images per second':>20}")
    for key, name in names.items():
        row = summary[key]
        speed = f"{row['images_per_second']:,.0f}" if row["images_per_second"] else "-"
        print(f"{name:22}{row['frechet_samples']:10.4f}{row['frechet_reconstructions']:18.4f}{speed:>20}")
    print(f"\n{args.out}: figure7.png, reconstructions.png, interpolations.png, losses.png, summary.json, "
          "and a run directory per model")


if __name__ == "__main__":
    cli.run(main)
