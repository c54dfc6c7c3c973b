"""GAN, WGAN, VAE and VAE-GAN on the same networks and data: the paper's Table 1 and Figures 4 and 5.

Also what only models with an encoder can do: reconstruct images, and walk from one to another through the
latent space.
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

import numpy

from minigen import cli, figures, models
from minigen.comparison import SAMPLES, Comparison
from minigen.experiment import spread

MODELS = {"gan": models.GAN, "wgan": models.WGAN, "vae": models.VAE, "vaegan": models.VAEGAN}
PAPER = {models.GAN: 0.0, models.WGAN: 2.280, models.VAE: 2.266, models.VAEGAN: 2.263}      # its Table 1


def main():
    flags = cli.parser("GAN, WGAN, VAE and VAE-GAN on the same networks and data.", iterations=4000,
                       out="runs/mnist_compare_models", seeds=3)
    args, data = cli.parse(flags, batches_per_step=models.WGAN.critic_steps)
    lab = Comparison(args, data)

    # Train each model with each seed.
    groups = lab.train_and_judge(MODELS)

    # Figures 4 and 5, of the first seed.
    first = {judged[0].trial.title: judged[0] for judged in groups.values()}
    images = {name: judged.images[:10] for name, judged in first.items()}
    labels = {name: [*map(data.class_name, judged.labels[:10])] for name, judged in first.items()}
    lab.figure("figure4", figures.image_rows, images, labels,
               title=f"Ten images of each model, with the classifier's labels (seed {args.seed})")
    entropies = {name: judged.image_entropies for name, judged in first.items()}
    lab.figure("figure5", figures.image_entropies, entropies, classes=data.classes,
               title=f"How sure the classifier is of an image (seed {args.seed})")

    # Reconstructions and interpolations of test images, one per class.
    _, places = numpy.unique(data.test_labels, return_index=True)
    originals = data.test_images[places]
    reconstructions, walks = {"test images": lab.pictures(originals)}, {}
    for name, judged in first.items():
        if isinstance(judged.model, models.VAE):
            reconstructions[name] = lab.pictures(judged.model.reconstruct(originals))
            walks[name] = lab.pictures(judged.model.interpolate(originals[:2], originals[::-1][:2], steps=10))
    lab.figure("reconstructions", figures.image_rows, reconstructions,
               title="Images of the test set, encoded and decoded")
    lab.figure("interpolations", figures.image_rows, walks,
               title="From one test image to another through the latent space")

    # Table 1.
    table, rows = {}, {}
    for group, judged in groups.items():
        modes = [one.entropies["mode_entropy"] for one in judged]
        images = [one.entropies["image_entropy"] for one in judged]
        table[group] = {"mode_entropy": modes, "image_entropy": images}
        trial = judged[0].trial
        rows[trial.title] = {"mode entropy": spread(modes), **lab.paper(PAPER[trial.kind]),
                             "image entropy": spread(images)}
    lab.table(f"Table 1: entropies of {SAMPLES:,} generated images, in nats; {lab.ceiling}; mean (standard "
              f"deviation) over {args.seeds} seeds", rows)
    lab.finish(table1=table)


if __name__ == "__main__":
    cli.run(main)
