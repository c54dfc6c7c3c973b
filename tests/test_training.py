"""The run directory and the loop: exact resume after every kind of interruption, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import types

import numpy
import pytest

from minigen import models, storage, training
from minigen.training import loop

SETTINGS = {"sizes": (16, 8), "latent": 3, "outputs": 2, "lr": 1e-3}
IMAGES = numpy.random.default_rng(7).random((200, 16), dtype="float32")
LENGTH = {
    "iterations": 30, "batch_size": 8, "log_every": 4, "checkpoint_every": 5, "sample_at": (1, 12, 30),
    "samples": 4, "evaluate_at": (1, 7, 18, 30)
}


class Stop(Exception):
    """Stands for any accident."""


def measure(model):
    return {"brightness": float(model.sample(10, rng=0).mean())}


def build(kind):
    return kind(**{key: value for key, value in SETTINGS.items() if key in kind.__dataclass_fields__})


def run(out, kind=models.GAN, model=None, images=IMAGES, **changes):
    model = model or build(kind)
    return model, training.train(model, images, out=out, **{"evaluate": measure, **LENGTH, **changes})


def record(run):
    """Everything in the run directory that an uninterrupted run leaves, byte for byte."""
    files = sorted(p.relative_to(run.folder) for p in run.folder.rglob("*") if p.is_file())
    return {str(p): (run.folder / p).read_bytes() for p in files if p.suffix != ".npz"}, [
        (p.name, {k: v.tobytes() for k, v in storage.load(p).items()}) for p in run._checkpoints()]


KINDS = [models.GAN, models.WGAN, models.VAE, models.VAEGAN, models.ConstrainedVAEGAN]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def straight(request, tmp_path_factory):
    """An uninterrupted run: kind of model, final state, record."""
    model, result = run(tmp_path_factory.mktemp("straight") / "run", request.param)
    return request.param, model.state(), record(result)


def assert_same(straight, model, result):
    kind, state, (files, checkpoints) = straight
    found_files, found_checkpoints = record(result)
    assert found_files == files and found_checkpoints == checkpoints
    assert all((model.state()[key] == value).all() for key, value in state.items())


def interrupt_at(monkeypatch, kind, n, how):
    """Do ``how`` at the beginning of the n-th step."""
    step, count = kind.step, iter(range(1, 10_000))

    def interrupted(self, *args):
        if next(count) == n:
            how()
        return step(self, *args)
    monkeypatch.setattr(kind, "step", interrupted)


def test_the_record(straight):
    kind, state, (files, checkpoints) = straight
    assert sorted(files) == ["config.json", "metrics.jsonl"] + [f"samples/{i:08d}.png" for i in (1, 12, 30)]
    assert [name for name, _ in checkpoints] == ["00000030.npz", "00000025.npz", "00000020.npz"]
    lines = [json.loads(line) for line in files["metrics.jsonl"].decode().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 4, 7, 8, 12, 16, 18, 20, 24, 28, 30]
    assert [line["iteration"] for line in lines if "brightness" in line] == [1, 7, 18, 30]
    loss = "l_vae" if issubclass(kind, models.VAE) else "g_loss"
    assert all(isinstance(line[loss], float) for line in lines)
    config = json.loads(files["config.json"])
    assert config["model"] == kind.__name__ and config["settings"]["latent"] == 3
    assert config["iterations"] == 30
    assert {"numpy", "python", "backend", "threads", "processors", "minigen"} == set(config["environment"])
    assert files["samples/00000001.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("n", [1, 5, 6, 13, 30])
def test_ctrl_c_saves_and_the_resumed_run_ends_the_same(straight, tmp_path, monkeypatch, n):
    with monkeypatch.context() as patch:
        interrupt_at(patch, straight[0], n, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt, match=f"stopped at iteration {n} of 30; .*run can be resumed"):
            run(tmp_path / "run", straight[0])
    assert training.Run(tmp_path / "run").newest_checkpoint()[0] == n
    model, result = run(tmp_path / "run", model=build(straight[0]), resume=True)
    files, checkpoints = straight[2]
    assert record(result)[0] == files and record(result)[1][0] == checkpoints[0]
    assert all((model.state()[key] == value).all() for key, value in straight[1].items())


@pytest.mark.parametrize("where", ["evaluate", "save_samples"])
def test_ctrl_c_during_evaluation_or_sampling_saves_too(straight, tmp_path, monkeypatch, where):
    """Iteration 1 is evaluated and sampled."""
    with monkeypatch.context() as patch:
        save = training.Run.save_samples
        if where == "save_samples":
            patch.setattr(training.Run, "save_samples",
                          lambda *args: (signal.raise_signal(signal.SIGINT), save(*args)))

        def interrupted(model):
            if where == "evaluate":
                signal.raise_signal(signal.SIGINT)
            return measure(model)
        with pytest.raises(KeyboardInterrupt, match="stopped at iteration 1 of 30"):
            run(tmp_path / "run", straight[0], evaluate=interrupted)
    assert training.Run(tmp_path / "run").newest_checkpoint()[0] == 1
    model, result = run(tmp_path / "run", straight[0], resume=True)
    assert record(result)[0] == straight[2][0]
    assert all((model.state()[key] == value).all() for key, value in straight[1].items())


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    interrupt_at(monkeypatch, models.GAN, 7, twice)
    with pytest.raises(KeyboardInterrupt, match="^$"):
        run(tmp_path)
    assert training.Run(tmp_path).newest_checkpoint()[0] == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("n", [1, 5, 6, 28])
def test_an_accident_and_the_resumed_run_ends_the_same(straight, tmp_path, monkeypatch, n):
    def accident():
        raise Stop
    with monkeypatch.context() as patch:
        interrupt_at(patch, straight[0], n, accident)
        with pytest.raises(Stop):
            run(tmp_path, straight[0])
    assert_same(straight, *run(tmp_path, straight[0], resume=True))


# A process that goes on with a run and kills itself at the point that ``code`` chooses.
KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import numpy
import test_training
from minigen import models, training
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
{code}
test_training.run({out!r}, resume=True)
"""
STEPPED = """
step = models.GAN.step
def stepped(self, images, rng):
    metrics = step(self, images, rng)
    return kill() if self.optimizers["generator"].steps == 7 else metrics
models.GAN.step = stepped
"""
LOGGED = """
log = training.Run.log
training.Run.log = lambda self, record: (log(self, record), record["iteration"] == 12 and kill())
"""
HALF_WRITTEN = """
savez = numpy.savez
def half(file, **arrays):
    savez(file, **arrays)
    if "/00000015.npz" in file.name:
        file.truncate(file.tell() // 2)
        kill()
numpy.savez = half
"""
WRITTEN = """
replace = os.replace
os.replace = lambda part, path: kill() if path.name == "00000020.npz" else replace(part, path)
"""
NAMED = """
replace = os.replace
os.replace = lambda part, path: (replace(part, path), path.name == "00000025.npz" and kill())
"""
# At each point: the newest checkpoint that is left, and the file that is left unfinished.
KILLS = [(STEPPED, 5, []), (LOGGED, 10, []), (HALF_WRITTEN, 10, ["00000015"]), (WRITTEN, 15, ["00000020"]),
         (NAMED, 25, [])]


def test_kill_9_again_and_again_and_the_resumed_run_ends_the_same(tmp_path):
    """After a step that is not logged yet; after metrics that no checkpoint has yet; while a checkpoint is
    written; before it gets its name; and before older checkpoints are removed."""
    model, straight = run(tmp_path / "straight")
    out = tmp_path / "killed" / "straight"
    for code, newest, unfinished in KILLS:
        command = KILLED.format(tests=os.path.dirname(__file__), code=code, out=str(out))
        assert subprocess.run([sys.executable, "-c", command]).returncode == -signal.SIGKILL
        assert training.Run(out).newest_checkpoint()[0] == newest
        assert [path.name[:8] for path in out.rglob("*.part")] == unfinished
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 30, "d_lo')           # what a kill in the middle of a write leaves
    assert_same((None, model.state(), record(straight)), *run(out, resume=True))


@pytest.mark.parametrize("damage", [
    lambda b: b[:len(b) // 2], lambda b: b"", lambda b: numpy.random.default_rng(0).bytes(len(b)),
    lambda b: b[:300] + b"noise" * 20 + b[400:]], ids=["cut", "empty", "noise", "spot"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning_that_names_it(straight, tmp_path, damage):
    _, result = run(tmp_path, straight[0], iterations=23)
    newest = tmp_path / "checkpoints" / "00000023.npz"
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match="checkpoint skipped: .*00000023.npz is damaged"):
        model, result = run(tmp_path, straight[0], resume=True)
    assert all((model.state()[key] == value).all() for key, value in straight[1].items())


def test_without_any_readable_checkpoint_the_run_begins_anew(straight, tmp_path):
    run(tmp_path, straight[0], iterations=6)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="checkpoint skipped"):
        assert_same(straight, *run(tmp_path, straight[0], resume=True))


def test_resume_without_a_run_begins_one(straight, tmp_path):
    assert_same(straight, *run(tmp_path / "new", straight[0], resume=True))


def test_resume_in_another_environment_warns(tmp_path, monkeypatch):
    run(tmp_path, iterations=6)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    with pytest.warns(UserWarning, match="another environment.*now .*'OPENBLAS_NUM_THREADS': '7'"):
        run(tmp_path, resume=True)


def test_a_longer_run_drops_what_was_logged_after_its_checkpoint(tmp_path):
    run(tmp_path, iterations=12)
    (tmp_path / "checkpoints" / "00000012.npz").unlink()
    found = []

    def look(model):
        result = training.Run(tmp_path)
        found.append(([record["iteration"] for record in result.metrics()], [i for i, _ in result.samples()]))
        return {}
    run(tmp_path, resume=True, evaluate_at=(11,), evaluate=look)
    assert found == [([1, 4, 7, 8], [1])]


def test_a_missing_samples_folder_is_made_again(straight, tmp_path):
    run(tmp_path, straight[0], iterations=6)
    for path in (tmp_path / "samples").iterdir():
        path.unlink()
    (tmp_path / "samples").rmdir()
    model, _ = run(tmp_path, straight[0], resume=True)
    assert all((model.state()[key] == value).all() for key, value in straight[1].items())


def test_resume_of_a_finished_run_changes_nothing(straight, tmp_path):
    run(tmp_path, straight[0])
    assert_same(straight, *run(tmp_path, straight[0], resume=True))


def test_a_longer_run_continues_the_shorter_one(straight, tmp_path):
    run(tmp_path, straight[0], iterations=20)
    model, result = run(tmp_path, straight[0], resume=True)
    assert all((model.state()[key] == value).all() for key, value in straight[1].items())
    assert result.config()["iterations"] == 30


def test_without_resume_an_earlier_run_is_replaced_and_other_files_stay(straight, tmp_path):
    run(tmp_path, models.GAN, seed=5, iterations=60)
    (tmp_path / "checkpoints" / "00000007.npz.4321.part").write_text("what a killed run was just writing")
    mine = [tmp_path / "notes.txt", tmp_path / "film.mp4.part", tmp_path / "samples" / "photo.png",
            tmp_path / "checkpoints" / "best.npz"]
    for path in mine:
        path.write_text("mine")
    model, result = run(tmp_path, straight[0])
    run(tmp_path, straight[0], resume=True)
    for path in mine:
        assert path.read_text() == "mine"
        path.unlink()
    assert_same(straight, model, result)


@pytest.mark.parametrize("changes, message", [
    ({"seed": 1}, "its seed is 0, but 1 is asked for"), ({"batch_size": 9}, "its batch_size is 8, but 9"),
    ({"kind": models.WGAN}, "its model is GAN, but WGAN"),
    ({"model": models.GAN(**{**SETTINGS, "lr": 1.0})}, "its settings.lr is 0.001, but 1.0 is"),
    ({"images": IMAGES[:199]}, "its data is"), ({"images": 1 - IMAGES}, "its data is"),
    ({"iterations": 29}, "already at iteration 30, beyond the 29 asked for")])
def test_a_run_with_other_settings_is_not_resumed(tmp_path, changes, message):
    _, result = run(tmp_path)
    before = record(result)
    with pytest.raises(training.RunError, match=message):
        run(tmp_path, resume=True, **changes)
    assert record(result) == before


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, value):
    step, count = models.GAN.step, iter(range(1, 100))

    def poisoned(self, *args):
        losses = step(self, *args)
        return {**losses, "g_loss": losses["g_loss"] + (value if next(count) == 13 else 0)}
    monkeypatch.setattr(models.GAN, "step", poisoned)
    with pytest.raises(training.Diverged, match=f"g_loss is {value} at iteration 13"):
        run(tmp_path)
    assert training.Run(tmp_path).newest_checkpoint()[0] == 10 and len(training.load(tmp_path).state()) > 0


@pytest.mark.parametrize("kind", [models.VAE, models.VAEGAN, models.ConstrainedVAEGAN])
def test_images_that_are_not_finite_stop_the_vaes(tmp_path, kind):
    images = IMAGES.copy()
    images[3, 3] = numpy.nan
    with pytest.raises(training.Diverged, match="(d_loss|l_vae) is nan at iteration"):
        run(tmp_path, kind, images=images)


def test_a_parameter_that_is_not_finite_is_never_saved(tmp_path, monkeypatch):
    def poison(self, *args):
        bias = self.networks["generator"].parameters()[1]
        bias.data = bias.data * numpy.nan
        return {"loss": numpy.zeros(())}
    monkeypatch.setattr(models.GAN, "step", poison)
    with pytest.raises(training.Diverged,
                       match="networks.generator.layers.0.bias is no longer finite at iteration 5"):
        run(tmp_path, evaluate=None, sample_at=())
    assert training.Run(tmp_path).newest_checkpoint() == (0, None)


def test_load_rebuilds_the_trained_model(straight, tmp_path):
    model, _ = run(tmp_path, straight[0])
    loaded = training.load(str(tmp_path))
    assert type(loaded) is straight[0] and loaded.settings() == json.loads(json.dumps(model.settings()))
    assert (loaded.sample(5, rng=1) == model.sample(5, rng=1)).all()


def write_config(text):
    return lambda folder: (folder / "config.json").write_text(text)


def change_config(old, new):
    def change(folder):
        text = (folder / "config.json").read_text()
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new))
    return change


@pytest.mark.parametrize("damage, message", [
    (lambda folder: (folder / "config.json").unlink(), "is no run directory: config.json: No such file"),
    (write_config("{"), "config.json is damaged"),
    (write_config("[]"), "config.json is damaged"),
    (change_config('"latent"', '"lament"'), "not the settings of a GAN"),
    (change_config('"latent": 3', '"latent": 4'),
     "its newest checkpoint does not belong to the model in config.json: Sequential.load_state"),
    (change_config('"GAN"', '"Model"'), "unknown model 'Model'"),
    (change_config('"GAN"', '"os"'), "unknown model 'os'"),
    (lambda folder: [path.unlink() for path in (folder / "checkpoints").iterdir()],
     "has no readable checkpoint"),
])
def test_load_names_the_fault_of_a_run_directory(tmp_path, damage, message):
    run(tmp_path)
    damage(tmp_path)
    with pytest.raises(training.RunError, match=message):
        training.load(tmp_path)


def test_damaged_metrics_are_named(tmp_path):
    run(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("{}\nnoise\n" + metrics.read_text())
    with pytest.raises(training.RunError, match="metrics.jsonl is damaged"):
        run(tmp_path, resume=True)


def test_metrics_are_looked_at_once():
    """Those that were looked at are let go, or a long run would fill the memory."""
    pending = [(i, {"loss": numpy.array(float(i)), "kl": numpy.array(-1.0)}) for i in (1, 2, 3)]
    assert loop._finite(pending) == {"loss": 3.0, "kl": -1.0} and pending == []
    assert loop._finite(pending) == {}


def test_a_curve_has_the_iterations_at_which_a_metric_was_logged(straight, tmp_path):
    _, result = run(tmp_path, straight[0])
    iterations, brightness = result.curve("brightness")
    assert iterations == [1, 7, 18, 30]
    assert brightness == [
        record["brightness"] for record in result.metrics() if record["iteration"] in iterations]
    assert result.curve("nonsense") == ([], [])


def test_each_step_gets_its_batches(tmp_path, monkeypatch):
    seen = []

    def step(self, images, rng):
        seen.append((images, rng.random()))
        return {"loss": numpy.zeros(())}
    monkeypatch.setattr(models.WGAN, "step", step)
    run(tmp_path, models.WGAN, evaluate=None, iterations=3)
    assert [images.shape for images, _ in seen] == [(40, 16)] * 3 and len({number for _, number in seen}) == 3
    assert all(any((row == image).all() for image in IMAGES) for row in seen[0][0])


def brighter(images, rng):
    """Stands for anything that is done to a batch: it depends on the images and on chance."""
    return images + numpy.float32(0.1) * rng.random(images.shape, dtype="float32")


@pytest.mark.parametrize("n", [1, 2, 17, 29])
def test_prepared_batches_and_resume(tmp_path, monkeypatch, n):
    """200 images in batches of 8 are an epoch of 25 iterations: most of these stops are in the middle of
    one."""
    model, straight = run(tmp_path / "straight", models.VAE, prepare=brighter)
    with monkeypatch.context() as patch:
        interrupt_at(patch, models.VAE, n, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt, match=f"stopped at iteration {n} of 30") as stopped:
            run(tmp_path / "run", models.VAE, prepare=brighter)
        # The thread has ended although the error's traceback still holds the loop and its batches.
        assert stopped.tb and "batches" not in " ".join(thread.name for thread in threading.enumerate())
    resumed, result = run(tmp_path / "run", models.VAE, prepare=brighter, resume=True)
    assert record(result)[0] == record(straight)[0]
    assert all((resumed.state()[key] == value).all() for key, value in model.state().items())
    other, _ = run(tmp_path / "other", models.VAE)
    assert any((other.state()[key] != value).any() for key, value in model.state().items())


def test_batches_are_prepared_on_another_thread(tmp_path, monkeypatch):
    prepared, taken = [], []

    def prepare(images, rng):
        prepared.append((threading.current_thread().name, images, rng.random()))
        return images + 1

    def step(self, images, rng):
        taken.append(images)
        return {"loss": numpy.zeros(())}
    monkeypatch.setattr(models.GAN, "step", step)
    run(tmp_path, evaluate=None, iterations=7, prepare=prepare)
    assert len(prepared) == len(taken) == 7 and len({number for *_, number in prepared}) == 7
    for (name, before, _), after in zip(prepared, taken):
        assert name.startswith("batches") and (after == before + 1).all()


def test_two_batches_are_prepared_ahead_of_their_use(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("minigen.training.batches.ThreadPoolExecutor", at_once)
    prepared, at_each_step = [], []

    def prepare(images, rng):
        prepared.append(images)
        return images

    def step(self, images, rng):
        at_each_step.append(len(prepared))
        return {"loss": numpy.zeros(())}
    monkeypatch.setattr(models.GAN, "step", step)
    run(tmp_path, evaluate=None, iterations=7, prepare=prepare)
    assert at_each_step == [3, 4, 5, 6, 7, 7, 7]


def test_a_batch_that_cannot_be_loaded_stops_the_run_with_its_cause(tmp_path):
    failures = []

    def prepare(images, rng):
        failures.append(len(failures) + 1)
        if len(failures) == 12:
            raise OSError("the disk is gone")
        return images

    with pytest.raises(training.LoadError,
                       match="the images of iteration 12 could not be loaded: the disk is gone") as found:
        run(tmp_path / "run", prepare=prepare)
    assert isinstance(found.value.__cause__, OSError)
    assert training.Run(tmp_path / "run").newest_checkpoint()[0] == 10
    assert "batches" not in " ".join(thread.name for thread in threading.enumerate())


def test_the_speed_counts_only_the_steps_of_this_call(tmp_path, monkeypatch):
    clock = iter([100.0, 104.0] * 3)
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    assert run(tmp_path)[1].images_per_second == 30 * 8 / 4
    assert run(tmp_path, iterations=40, resume=True)[1].images_per_second == 10 * 8 / 4
    assert run(tmp_path, iterations=40, resume=True)[1].images_per_second is None


@pytest.mark.parametrize("changes, message", [
    ({"iterations": 0}, "at least 1"), ({"batch_size": 0}, "at least 1"), ({"log_every": 0}, "at least 1"),
    ({"batch_size": 201}, "takes 201 images, but there are only 200"),
    ({"batch_size": 41, "kind": models.WGAN}, "takes 205 images")])
def test_impossible_arguments_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **changes)
    assert not (tmp_path / "config.json").exists()


def test_training_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=run, args=(tmp_path,))
    thread.start()
    thread.join()
    assert training.Run(tmp_path).newest_checkpoint()[0] == 30


def test_no_progress_bar_without_a_terminal(tmp_path, capfd):
    run(tmp_path)
    assert capfd.readouterr() == ("", "")
