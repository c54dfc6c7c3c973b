"""Runs that were interrupted, killed or stopped by an accident, and then resumed: they end as the
uninterrupted one, byte for byte."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy
import pytest
from short_runs import VARIANTS, Stop, assert_same, build, interrupt_at, measure, newest, record, run

from minigen import models, threads, training


@pytest.mark.parametrize("n", [1, 5, 6, 13, 30])
def test_ctrl_c_saves_and_the_resumed_run_ends_the_same(straight, tmp_path, monkeypatch, n):
    with monkeypatch.context() as patch:
        interrupt_at(patch, straight[0], n, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt, match=f"stopped at iteration {n} of 30; .*run can be resumed"):
            run(tmp_path / "run", straight[0])
    assert newest(tmp_path / "run") == n
    model, result = run(tmp_path / "run", model=build(straight[0]), resume=True)
    files, checkpoints = straight[2]
    assert record(result)[0] == files and record(result)[1][0] == checkpoints[0]
    assert all((model.state()[key] == value).all() for key, value in straight[1].items())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_resumed_ends_the_same(name, tmp_path, monkeypatch):
    model, straight = run(tmp_path / "straight", name)
    with monkeypatch.context() as patch:
        interrupt_at(patch, type(model), 13, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt, match="stopped at iteration 13 of 30"):
            run(tmp_path / "run", name)
    resumed, result = run(tmp_path / "run", name, resume=True)
    assert record(result) == record(straight)
    assert all((resumed.state()[key] == value).all() for key, value in model.state().items())
    assert training.load(result.folder).settings() == model.settings()
    if name == "dual":
        multipliers = [metrics["multiplier"] for metrics in result.metrics()]
        assert multipliers == sorted(set(multipliers)) and multipliers[-1] < resumed.dual.multiplier.item()


def test_a_run_on_points_resumed_ends_the_same(tmp_path):
    points = 3 * numpy.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    options = {"model": None, "images": points, "sample_at": (), "image_shape": None, "evaluate": None}

    def points_run(name, iterations, **more):
        options["model"] = models.WGAN(architecture="points", lipschitz="penalty", sizes=(2, 8), outputs=1)
        return run(tmp_path / name, iterations=iterations, **options, **more)
    model, straight = points_run("straight", 30)
    points_run("run", 12)
    resumed, result = points_run("run", 30, resume=True)
    assert all((resumed.state()[key] == value).all() for key, value in model.state().items())
    assert result.metrics()[-1] == straight.metrics()[-1]


@pytest.mark.parametrize("n", [26, 31, 32, 33])
@pytest.mark.parametrize("accident", [False, True])
def test_an_interruption_near_the_end_leaves_no_checkpoint(tmp_path, monkeypatch, n, accident):
    """The last checkpoint, of iteration 33, is the only regular one that is no multiple of 5."""
    run(tmp_path / "straight", iterations=33)
    with monkeypatch.context() as patch:
        interrupt_at(patch, models.GAN, n, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", iterations=33)
    if accident:        # the last checkpoint is written, and nothing is removed after it
        with monkeypatch.context() as patch:
            patch.setattr(training.Run, "_remove_superseded", lambda *args: None)
            run(tmp_path / "run", iterations=33, resume=True)
    run(tmp_path / "run", iterations=33, resume=True)
    names = [[path.name for path in sorted((tmp_path / folder / "checkpoints").iterdir())]
             for folder in ("straight", "run")]
    assert names[0] == names[1] == ["00000025.npz", "00000030.npz", "00000033.npz"]


@pytest.mark.parametrize("where", ["evaluate", "save_samples"])
def test_ctrl_c_during_evaluation_or_sampling_saves_too(straight, tmp_path, monkeypatch, where):
    """Iteration 1 is evaluated and sampled."""
    with monkeypatch.context() as patch:
        save = training.Run.save_samples
        if where == "save_samples":
            patch.setattr(training.Run, "save_samples",
                          lambda *args: (signal.raise_signal(signal.SIGINT), save(*args)))

        def interrupted(model):
            if where == "evaluate" and (tmp_path / "run").exists():     # not in the rehearsal
                signal.raise_signal(signal.SIGINT)
            return measure(model)
        with pytest.raises(KeyboardInterrupt, match="stopped at iteration 1 of 30"):
            run(tmp_path / "run", straight[0], evaluate=interrupted)
    assert newest(tmp_path / "run") == 1
    model, result = run(tmp_path / "run", straight[0], resume=True)
    assert record(result)[0] == straight[2][0]
    assert all((model.state()[key] == value).all() for key, value in straight[1].items())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_asks_a_program_to_end_saves_too(straight, tmp_path, monkeypatch, name):
    """Schedulers send SIGTERM, some of them twice; a terminal that closes sends SIGHUP."""
    number, before = signal.Signals[name], signal.getsignal(signal.Signals[name])

    def ask():
        signal.raise_signal(number)
        if name != "SIGINT":
            signal.raise_signal(number)
    with monkeypatch.context() as patch:
        interrupt_at(patch, straight[0], 13, ask)
        with pytest.raises(training.Interrupted, match="stopped at iteration 13 of 30") as stopped:
            run(tmp_path / "run", straight[0])
    assert stopped.value.signal is number and newest(tmp_path / "run") == 13
    assert signal.getsignal(number) == before
    model, result = run(tmp_path / "run", straight[0], resume=True)
    assert record(result)[0] == straight[2][0] and record(result)[1][0] == straight[2][1][0]


def test_a_signal_after_the_last_checkpoint_is_not_lost(straight, tmp_path, monkeypatch):
    """Else a program that trains several models would go on with the next one."""
    save = training.Run.save_checkpoint

    def late(self, iteration, state):
        save(self, iteration, state)
        if iteration == 30:
            signal.raise_signal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(training.Run, "save_checkpoint", late)
        with pytest.raises(training.Interrupted, match="stopped at iteration 30 of 30"):
            run(tmp_path / "run", straight[0])
    assert_same(straight, *run(tmp_path / "run", straight[0], resume=True))


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_signal_that_is_ignored_stays_so_and_handlers_come_back(tmp_path, monkeypatch, handler):
    """A shell lets what it runs in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        if handler is signal.SIG_IGN:
            interrupt_at(monkeypatch, models.GAN, 7, lambda: signal.raise_signal(signal.SIGINT))
        run(tmp_path)
        assert newest(tmp_path) == 30 and signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    interrupt_at(monkeypatch, models.GAN, 7, twice)
    with pytest.raises(KeyboardInterrupt, match="^$"):
        run(tmp_path)
    assert newest(tmp_path) == 5
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
import short_runs
from minigen import models, training
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
{code}
short_runs.run({out!r}, resume=True)
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
    for code, checkpoint, unfinished in KILLS:
        command = KILLED.format(tests=os.path.dirname(__file__), code=code, out=str(out))
        assert subprocess.run([sys.executable, "-c", command]).returncode == -signal.SIGKILL
        assert newest(out) == checkpoint
        assert [path.name[:8] for path in out.rglob("*.part")] == unfinished
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 30, "d_lo')           # what a kill in the middle of a write leaves
    assert_same((None, model.state(), record(straight)), *run(out, resume=True))


# Kills a run at every call that changes or syncs a file, one after the other, and resumes it each time.
KILLED_EVERYWHERE = """
import os, shutil, sys
sys.path.insert(0, {tests!r})
import short_runs

def train(out):
    short_runs.run(out, iterations=4, checkpoint_every=2, log_every=2, sample_at=(4,), evaluate=None,
                   resume=True)

def contents(folder):
    paths = [os.path.join(base, name) for base, _, names in os.walk(folder) for name in names]
    return {{os.path.relpath(path, folder): open(path, "rb").read() for path in paths}}

def killed_at(n):
    calls = []
    def call(event, arguments):
        if event in ("os.fsync", "os.rename", "os.remove", "os.mkdir") or (
                event == "open" and out in str(arguments[0])):
            calls.append(event)
            if len(calls) == n:
                os._exit(9)
    fsync = os.fsync
    os.fsync = lambda number: (call("os.fsync", ()), fsync(number))
    sys.addaudithook(call)
    train(out)
    os._exit(0)

train({out!r} + "/straight/run")
expected, out, n, status = contents({out!r} + "/straight/run"), {out!r} + "/killed/run", 0, 9
while status == 9:
    shutil.rmtree(out, ignore_errors=True)
    n += 1
    child = os.fork()
    if child == 0:
        killed_at(n)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    train(out)
    assert contents(out) == expected, (n, contents(out).keys(), expected.keys())
assert status == 0
print(n)
"""


def test_killed_at_every_write_and_the_resumed_run_ends_the_same(tmp_path):
    code = KILLED_EVERYWHERE.format(tests=os.path.dirname(__file__), out=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


@pytest.mark.parametrize("call, n", [("fsync", 14), ("fsync", 25), ("replace", 4), ("replace", 9)])
def test_a_full_disk_names_the_file_and_the_run_can_be_resumed(straight, tmp_path, monkeypatch, call, n):
    original, count = getattr(os, call), iter(range(1, 1000))

    def full(*args):
        if next(count) >= n:
            raise OSError(28, "No space left on device")
        return original(*args)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match=r"No space left on device at iteration \d+; resume=True .* goes on "
                                          fr"from iteration \d+: '{tmp_path}/run/"):
            run(tmp_path / "run", straight[0])
    assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "run" / ".lock").exists()
    assert_same(straight, *run(tmp_path / "run", straight[0], resume=True))


def test_a_folder_that_is_deleted_under_a_run_does_not_come_back(straight, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, straight[0], 11, lambda: shutil.rmtree(tmp_path / "run"))
        with pytest.raises(FileNotFoundError, match=f"at iteration 12; .* '{tmp_path}/run/metrics.jsonl'"):
            run(tmp_path / "run", straight[0])
    assert not (tmp_path / "run").exists()
    assert_same(straight, *run(tmp_path / "run", straight[0], resume=True))


def test_resume_without_a_run_begins_one(straight, tmp_path):
    assert_same(straight, *run(tmp_path / "new", straight[0], resume=True))


def test_a_run_without_a_checkpoint_begins_anew_with_the_model_that_it_began_with(straight, tmp_path):
    """As in a notebook, where the model still is what it was when the training stopped."""
    kind = straight[0]
    model, step, steps = build(kind), kind.update, iter(range(100))

    def failing(self, *arguments):
        if next(steps) == 6:        # of the 4th iteration; the rehearsal takes three steps
            raise Stop
        return step(self, *arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "update", failing)
        with pytest.raises(Stop):
            run(tmp_path, kind, model=model)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(training.RunError, match="has no checkpoint yet, and the model is not in the state"):
        run(tmp_path, kind, model=model, resume=True)
    assert (tmp_path / "config.json").read_bytes() == before
    assert_same(straight, *run(tmp_path, kind, resume=True))


def test_resume_in_another_environment_warns(tmp_path, monkeypatch):
    run(tmp_path, iterations=6)
    threads.use(2)
    try:
        with pytest.warns(UserWarning, match="another environment.*run's: threads was 1, now 2$"):
            run(tmp_path, resume=True)
    finally:
        threads.use(None)


def test_a_longer_run_drops_what_was_logged_after_its_checkpoint(tmp_path):
    run(tmp_path, iterations=12)
    (tmp_path / "checkpoints" / "00000012.npz").unlink()
    found = []

    def look(model):
        result = training.Run(tmp_path)
        found.append(([record["iteration"] for record in result.metrics()], [i for i, _ in result.samples()]))
        return {}
    run(tmp_path, resume=True, evaluate_at=(11,), evaluate=look)
    assert found == [([1, 4, 7, 8, 12], [1, 12]), ([1, 4, 7, 8], [1])]     # the first: in the rehearsal


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


def brighter(images, rng):
    """Stands for anything that is done to a batch: it depends on the images and on chance."""
    return 0.9 * images + numpy.float32(0.1) * rng.random(images.shape, dtype="float32")


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
    assert record(result) == record(straight)
    assert all((resumed.state()[key] == value).all() for key, value in model.state().items())
    other, _ = run(tmp_path / "other", models.VAE)
    assert any((other.state()[key] != value).any() for key, value in model.state().items())
