"""GAN, WGAN, VAE and VAE-GAN on the same networks and data: the report's Table 1 and Figures 4 and 5, and what only the
models with an encoder can do: reconstruct images, and walk from one to another through the latent space.
"""

import json

import numpy

from minigen import classifier, cli, entropy, figures, models, to_host, training

SAMPLES = 10_000
MODELS = {"GAN": models.GAN, "WGAN": models.WGAN, "VAE": models.VAE, "VAE-GAN": models.VAEGAN}
REPORT = {"GAN": 0.0, "WGAN": 2.280, "VAE": 2.266, "VAE-GAN": 2.263}        # the report's Table 1


def key(name):
    return name.lower().replace("-", "")


def main():
    flags = cli.parser(__doc__.split(":")[0], iterations=4000, out="runs/mnist_compare_models", seeds=3)
    args, data = cli.parse(flags, batches_per_step=models.WGAN.critic_steps)
    judge = classifier.trained(data.train_images, data.train_labels)
    accuracy = judge.accuracy(data.test_images, data.test_labels)
    print(f"classifier: {accuracy:.2%} of the test images right (the report's: 95.4%)")

    table = {name: {"mode_entropy": [], "image_entropy": []} for name in MODELS}
    shown = {}              # of the first seed: the model, and images with their labels and entropies
    for seed in range(args.seed, args.seed + args.seeds):
        for name, kind in MODELS.items():
            model = kind(seed=seed)
            training.train(model, data.train_images, iterations=args.iterations, batch_size=args.batch_size, seed=seed,
                           out=args.out / f"{key(name)}_seed{seed}", resume=args.resume)
            images = model.sample(SAMPLES, rng=0)
            probabilities = judge.predict_proba(images)
            for measure, value in entropy.measure(probabilities).items():
                table[name][measure].append(value)
            if seed == args.seed:
                shown[name] = {"model": model, "images": images[:10], "labels": to_host(probabilities[:10].argmax(axis=1)),
                               "entropies": to_host(entropy.image_entropy(probabilities))}
    summary = {"samples": SAMPLES, "seeds": args.seeds, "classifier_accuracy": accuracy,
               "table1": {key(name): row for name, row in table.items()}}
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")

    figures.image_rows(args.out / "figure4.png", {name: result["images"] for name, result in shown.items()},
                       {name: result["labels"] for name, result in shown.items()},
                       title=f"Ten images of each model, and what the classifier takes them for (seed {args.seed})")
    figures.image_entropies(args.out / "figure5.png", {name: result["entropies"] for name, result in shown.items()},
                            title=f"How sure the classifier is of an image (seed {args.seed})")
    encoders = {name: result["model"] for name, result in shown.items() if isinstance(result["model"], models.VAE)}
    first = [int(numpy.flatnonzero(data.test_labels == label)[0]) for label in numpy.unique(data.test_labels)]
    originals = data.test_images[first]
    figures.image_rows(args.out / "reconstructions.png",
                       {"test images": originals, **{name: model.reconstruct(originals) for name, model in encoders.items()}},
                       title="Images of the test set, encoded and decoded")
    figures.image_rows(args.out / "interpolations.png",
                       {name: numpy.concatenate(to_host(model.interpolate(originals[:2], originals[[-1, -2]], steps=10)))
                        for name, model in encoders.items()},
                       title="From one test image to another through the latent space")

    print(f"\nTable 1: entropy of {SAMPLES:,} generated digits, in nats, at most log 10 = {numpy.log(10):.3f}; "
          f"mean (standard deviation) over {args.seeds} seeds")
    print(f"{'':8}{'minigen':>16}{'report':>9}{'image entropy':>18}")
    for name, row in table.items():
        cells = [f"{numpy.mean(values):.3f}" + (f" ({numpy.std(values, ddof=1):.3f})" if args.seeds > 1 else "")
                 for values in row.values()]
        print(f"{name:8}{cells[0]:>16}{REPORT[name]:9.3f}{cells[1]:>18}")
    print(f"\n{args.out}: figure4.png, figure5.png, reconstructions.png, interpolations.png, summary.json, "
          "and a run directory per model and seed")


if __name__ == "__main__":
    cli.run(main)
