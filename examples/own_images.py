"""A model of your own pictures on one page: a VAE-GAN of 64 x 64 pixels, trained on a folder of any pictures.

    python examples/own_images.py ~/pictures

Called again, it goes on where it was: --iterations 6000 makes a longer training of a finished one. A few
hundred pictures of one kind of thing are enough to see shapes and colours; faces in a row want thousands.
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

import shlex

from minigen import cli, datasets, figures, models, to_host, training
from minigen.experiment import Experiment


def main():
    flags = cli.Parser(description="A VAE-GAN of the pictures in a folder.")
    flags.add_argument("folder", type=cli.path, help="the pictures; subfolders count")
    flags.add_argument("--iterations", type=cli.positive_int, default=3000, metavar="N",
                       help="training iterations (default: 3000, five minutes on two cores)")
    flags.add_argument("--width", type=cli.positive_float, default=0.125, metavar="X",
                       help="width of the networks (default: 0.125; 1 is Larsen et al.'s, for a GPU)")
    flags.add_argument("--overwrite", action="store_true", help="begin anew, as after a change of pictures")
    cli.add_output(flags, "runs/own_images")
    args = flags.parse_args()
    cli.refuse_inside(flags, args.out, args.folder)
    cli.make_output(flags, args.out)
    try:
        data = datasets.folder(args.folder, size=64)
        model = models.VAEGAN(architecture="larsen", width=args.width, outputs=1, latent=128, gan_weight=5.0,
                              reconstruction_weight=0.3, lr=2e-3, average=0.999, seed=args.seed)
    except ValueError as error:
        flags.error(str(error))
    if len(data.train_images) < 2:
        flags.error(f"{args.folder}: at least 3 pictures expected, {len(data.train_images) + 1} found")
    few = datasets.scale(data.test_images[:8])
    training.train(model, data.train_images, prepare=datasets.flip_and_scale, iterations=args.iterations,
                   batch_size=min(16, len(data.train_images)), seed=args.seed, out=args.out / "model",
                   resume=not args.overwrite, overwrite=args.overwrite, sample_at={args.iterations})

    lab = Experiment(args, data)
    lab.figure("samples", figures.grids, {"generated": model.sample(64, rng=args.seed)},
               title=f"{len(data.train_images):,} pictures, {args.iterations:,} iterations")
    lab.figure("reconstructions", figures.image_rows, {"pictures": few, "decoded": model.reconstruct(few)},
               title="Pictures that were not trained on, encoded and decoded")
    walk = to_host(model.interpolate(few[:1], datasets.scale(data.train_images[:1]), 30, spherical=True))[0]
    lab.figure("walk.gif", figures.gif, [*walk, *walk[::-1]], seconds=0.08)
    more = shlex.join(["python", "-m", "minigen", "sample", str(args.out / "model"), "--out", "more.png"])
    print(f"{args.out}: {', '.join(lab.files)}; {more}")


if __name__ == "__main__":
    cli.run(main, again="the same command, without --overwrite,")
