"""Mode coverage where the truth is known: how many modes a model reaches, and how many samples are good.

The data are points around 8 centres on a ring and around 25 on a grid or, with --data stacked, images of
three digits, which have 1,000 classes. The protocols are those of PacGAN (Lin et al., 2018), whose published
results the tables show next to ours:

    python examples/mode_coverage.py
    python examples/mode_coverage.py --data stacked --seeds 1
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy

from minigen import cli, datasets, figures, models, networks, to_host, training
from minigen.comparison import side_by_side, trained_judge
from minigen.experiment import Experiment, Trial, Variant, spread
from minigen.metrics.modes import label_coverage, point_coverage, stacked_labels

KINDS = {"gan": (models.GAN, "GAN"), "gan_r1": (models.GAN, "GAN, R1"),
         "wgan": (models.WGAN, "WGAN, clipping"), "wgan_penalty": (models.WGAN, "WGAN, penalty"),
         "vae": (models.VAE, "VAE"), "vaegan": (models.VAEGAN, "VAE-GAN"),
         "constrained": (models.ConstrainedVAEGAN, "constrained VAE-GAN")}
FRAMES = 25             # of an animation
STACKED = Path("stacked")


class Plane:
    """Points from a mixture of normal distributions in the plane, and the protocol for them."""

    iterations, samples, kept, drawn = 5000, 2500, 2500, 1000
    image_shape = prepare = None
    about = {}
    measures = {"modes": "modes of {}", "good": "share of good samples"}
    # Four hidden layers pull modes apart better than two that are wider. The reconstruction weight is that of
    # p(x | z) with a standard deviation of 0.1.
    settings = {"architecture": "points", "sizes": (2, 64, 64, 64, 64), "latent": 2, "outputs": 1,
                "init": "he_normal", "beta1": 0.5, "lr": 1e-3, "d_lr": 1e-3, "reconstruction_weight": 50.0,
                "gan_weight": 1.0}
    own = {"gan": {"lr": 2e-4}, "gan_r1": {"lr": 2e-4, "r1": 0.1}, "wgan": {"clip": 0.1, "lr": 5e-4},
           "wgan_penalty": {"lipschitz": "penalty", "penalty": 0.1},
           "constrained": {"multiplier": "dual", "d": 2.0}}     # without the constraint, L_GAN is 2 to 3

    def __init__(self, mixture, published):
        self.mixture, self.published = mixture, published
        self.train_images, self.modes = mixture.points, len(mixture.centres)

    def measure(self, points):
        return point_coverage(points, self.mixture.centres, self.mixture.sigma)

    def sample_at(self, n):
        """The iterations of the animation's frames, of which most are early ones."""
        return {max(1, round(n * (i / (FRAMES - 1)) ** 2)) for i in range(FRAMES)}

    def show(self, lab, name, judged):
        """The points of each model at the end, and during the training."""
        mixture, n = self.mixture, lab.args.iterations
        options = {"centres": mixture.centres, "radius": 3 * mixture.sigma}
        few, seed = mixture.points[:self.samples], lab.args.seed
        lab.figure(name, figures.point_clouds,
                   {"data": few, **{title: one.samples for title, one in judged.items()}}, **options,
                   title=f"{self.samples:,} points of each model after {n:,} iterations (seed {seed})")
        films = {title: dict(one.run.points()) for title, one in judged.items()}
        # A resumed run may have frames of its earlier length.
        shown = sorted(set.intersection(*map(set, films.values()), self.sample_at(n)))
        films = {"data": dict.fromkeys(shown, few), **films}
        lab.figure(f"{name}.gif", figures.moving_points,
                   {title: [(i, points[i]) for i in shown] for title, points in films.items()}, **options,
                   title=f"Points of each model during the training (seed {seed})")


class StackedDigits:
    """Images of three digits, one per colour, and the protocol for them, whose judge is a classifier."""

    iterations, samples, kept, drawn = 3000, 26_000, 10, 64
    measures = {"modes": "modes of {}", "kl": "KL to uniform"}
    published = {"DCGAN": {"modes": "78.9 (6.5)", "kl": "4.50 (0.13)"},
                 "PacDCGAN2": {"modes": "1000.0 (0.0)", "kl": "0.06 (0.003)"}}
    own = {"gan_r1": {"r1": 10.0}, "wgan_penalty": {"lipschitz": "penalty"},
           "constrained": {"d": 4.0}}

    def __init__(self, root):
        self.root, self.data = root, datasets.stacked_mnist(root)
        self.train_images, self.image_shape = self.data.train_images, self.data.image_shape
        self.modes = self.data.classes
        self.settings = {"sizes": (self.train_images.shape[1], *networks.SIZES[1:]), "init": "he_normal",
                         "beta1": 0.5, "gan_weight": 1.0}

    @cached_property
    def judge(self):
        """The classifier of single digits."""
        return trained_judge(datasets.mnist(self.root))

    @property
    def about(self):
        images = datasets.scale(self.data.test_images)
        right = to_host(stacked_labels(self.judge, images)) == self.data.test_labels
        return {"data": self.data.name, "classifier_accuracy": float(right.mean())}

    @staticmethod
    def prepare(images, rng):
        return datasets.scale(images)

    def measure(self, images):
        return label_coverage(stacked_labels(self.judge, images), self.modes)

    def sample_at(self, n):
        return {n}

    def show(self, lab, name, judged):
        """Ten images of each model, with the labels of their digits."""
        images = {title: one.samples for title, one in judged.items()}
        digits = len(str(self.modes - 1))
        labels = {title: [f"{label:0{digits}}" for label in to_host(stacked_labels(self.judge, ten))]
                  for title, ten in images.items()}
        lab.figure(name, figures.image_rows,
                   {title: ten.reshape(-1, *self.image_shape) for title, ten in images.items()}, labels,
                   title=f"Ten images of each model, with the classifier's labels (seed {lab.args.seed})")


@lru_cache
def benchmarks(data):
    """What --data names, by name."""
    if data is not None:
        return {"stacked": StackedDigits(None if data == STACKED else data)}
    ring = {"GAN": {"modes": "6.3 (0.5)", "good": "0.982 (0.002)"},
            "PacGAN2": {"modes": "7.9 (0.1)", "good": "0.956 (0.020)"}}
    grid = {"GAN": {"modes": "17.3 (0.8)", "good": "0.948 (0.007)"},
            "PacGAN2": {"modes": "23.8 (0.7)", "good": "0.913 (0.008)"}}
    return {"ring": Plane(datasets.ring(), ring), "grid": Plane(datasets.grid(), grid)}


def benchmark(data, trial):
    """Its folder's name begins with the benchmark's."""
    return benchmarks(data)[trial.group.partition("_")[0]]


@dataclass(frozen=True)
class Measured:
    """A trial after its training: its run, samples of the model for a figure, and what was measured."""

    trial: Trial
    run: training.Run
    samples: numpy.ndarray
    found: dict


def train_and_judge(trial, args):
    """Train a model in a worker process, and measure its samples; the first seed leaves some on the way."""
    one = benchmark(args.data, trial)
    lab = Experiment(args, one)
    model = lab.build(trial)
    run = lab.train(model, trial.folder, prepare=one.prepare, samples=one.drawn,
                    sample_at=one.sample_at(args.iterations) if model.seed == args.seed else ())
    samples = model.sample(one.samples, rng=0)
    return Measured(trial, run, to_host(samples[:one.kept]).copy(), one.measure(samples))


def tabulate(lab, name, one, own):
    """Print a table of the measures, with the published ones; return those of each model and seed."""
    results = {model: {measure: [seed.found[measure] for seed in judged] for measure in one.measures}
               for model, judged in own.items()}
    heads = {measure: head.format(f"{one.modes:,}") for measure, head in one.measures.items()}
    rows = {own[model][0].trial.title: {head: spread(found[measure]) for measure, head in heads.items()}
            for model, found in results.items()}
    rows |= {f"{model}, Lin et al. (2018)": {head: found[measure] for measure, head in heads.items()}
             for model, found in one.published.items()}
    lab.table(f"{name}: {one.samples:,} samples; mean (standard deviation) over {lab.args.seeds} seeds; Lin "
              "et al.: mean (standard error) over 10", rows)
    return results


def main():
    flags = cli.parser("Mode coverage of all models where the modes are known.", iterations=None,
                       out="runs/mode_coverage", seeds=5, full=None,
                       data="'stacked', for stacked MNIST in place of ring and grid, or four IDX files, as "
                       "of Fashion-MNIST, that are stacked")
    args, first = cli.parse(flags, batches_per_step=models.WGAN.critic_steps,
                            load=lambda data: next(iter(benchmarks(data).values())))
    args.iterations = args.iterations or first.iterations
    lab = Experiment(args)

    # Train each model with each seed on each of the data.
    trials = []
    for name, one in benchmarks(args.data).items():
        kinds = {f"{name}_{key}": Variant(kind, title, one.own.get(key, {}))
                 for key, (kind, title) in KINDS.items()}
        trials += lab.trials(kinds, **one.settings)
    lab.results = {"iterations": args.iterations, **first.about}
    groups = side_by_side(partial(train_and_judge, args=args), trials, args)

    # Figures of the first seed, and a table, for each of the data.
    results = {}
    for name, one in benchmarks(args.data).items():
        own = {group.removeprefix(f"{name}_"): judged for group, judged in groups.items()
               if benchmark(args.data, judged[0].trial) is one}
        one.show(lab, name, {judged[0].trial.title: judged[0] for judged in own.values()})
        results[name] = tabulate(lab, name, one, own)
    lab.finish(**results)


if __name__ == "__main__":
    cli.run(main)
