"""A short training run on tiny images, which the tests of training interrupt, damage and compare."""

import numpy

from minigen import models, storage, training

SETTINGS = {"sizes": (16, 8), "latent": 3, "outputs": 2, "lr": 1e-3}
IMAGES = numpy.random.default_rng(7).random((200, 16), dtype="float32")
LENGTH = {
    "iterations": 30, "batch_size": 8, "log_every": 4, "checkpoint_every": 5, "sample_at": (1, 12, 30),
    "samples": 4, "image_shape": (4, 4), "evaluate_at": (1, 7, 18, 30)
}


# What a run of each kind leaves out, by a name.
VARIANTS = {
    "penalty": (models.WGAN, {"lipschitz": "penalty"}), "r1": (models.GAN, {"r1": 0.5}),
    "dual": (models.ConstrainedVAEGAN, {"multiplier": "dual", "d": 0.5, "eta": 0.1}),
    "average": (models.VAEGAN, {"average": 0.9})}


class Stop(Exception):
    """Stands for any accident."""


def measure(model):
    return {"brightness": float(model.sample(10, rng=0).mean())}


def build(kind):
    """A model of this kind, or of a variant by its name."""
    kind, more = VARIANTS.get(kind, (kind, {}))
    return kind(**{key: value for key, value in SETTINGS.items() if key in kind.__dataclass_fields__}, **more)


def run(out, kind=models.GAN, model=None, images=IMAGES, **changes):
    """A model of this kind, trained; a shorter run is evaluated and sampled as the longer one until then."""
    model = model or build(kind)
    options = {"evaluate": measure, **LENGTH, **changes}
    for name in {"evaluate_at", "sample_at"} - changes.keys():
        options[name] = [i for i in options[name] if i <= options["iterations"]]
    return model, training.train(model, images, out=out, **options)


def newest(out):
    """The iteration of the newest checkpoint."""
    return training.Run(out).checkpoints()[0][0]


def record(run):
    """Everything in the run directory that an uninterrupted run leaves, byte for byte."""
    files = sorted(p.relative_to(run.folder) for p in run.folder.rglob("*") if p.is_file())
    return {str(p): (run.folder / p).read_bytes() for p in files if p.suffix != ".npz"}, [
        (p.name, {k: v.tobytes() for k, v in storage.load(p).items()}) for _, p in run.checkpoints()]


def assert_same(straight, model, result):
    """The run and its model are those of ``straight``: kind, final state and record of a run."""
    kind, state, (files, checkpoints) = straight
    found_files, found_checkpoints = record(result)
    assert found_files == files and found_checkpoints == checkpoints
    assert all((model.state()[key] == value).all() for key, value in state.items())


def interrupt_at(monkeypatch, kind, n, how):
    """Do ``how`` at the beginning of the n-th step; the first three of all are those of the rehearsal."""
    step, count = kind.step, iter(range(10_000))

    def interrupted(self, *args):
        if next(count) == n + 2:
            how()
        return step(self, *args)
    monkeypatch.setattr(kind, "step", interrupted)
