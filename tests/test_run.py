"""The run directory: what is in it, what counts as damaged, and what is refused."""

import json
import os
import re
import shutil
import zipfile

import numpy
import pytest
from short_runs import IMAGES, SETTINGS, Stop, assert_same, measure, newest, record, run

from minigen import models, storage, training
from minigen.training import loop


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
    assert {"numpy", "python", "backend", "threads", "blas", "minigen"} == set(config["environment"])
    assert files["samples/00000001.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("damage", [
    lambda b: b[:len(b) // 2], lambda b: b"", lambda b: numpy.random.default_rng(0).bytes(len(b)),
    lambda b: b[:300] + b"noise" * 20 + b[400:], lambda b: b[100:]],
    ids=["cut", "empty", "noise", "spot", "cut at the beginning"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning_that_names_it(straight, tmp_path, damage):
    _, result = run(tmp_path, straight[0], iterations=23)
    path = tmp_path / "checkpoints" / "00000023.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="checkpoint skipped: .*00000023.npz is damaged"):
        model, result = run(tmp_path, straight[0], resume=True)
    assert all((model.state()[key] == value).all() for key, value in straight[1].items())


def rewrite(path, changes=(), **more):
    """Write the checkpoint again with other arrays, as a tool that knows nothing of its record would."""
    arrays = storage.load(path)
    storage.save(path, arrays | {key: change(arrays[key]) for key, change in dict(changes).items()} | more)


def write_twice(path):
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], archive.read(archive.namelist()[0]))


def of_a_vaegan(path):
    _, other = run(path.parent.parent / "other", models.VAEGAN, iterations=23)
    os.replace(other.checkpoints()[0][1], path)
    shutil.rmtree(other.folder)


STEPS, SLOT = "optimizers.autoencoder.steps", "optimizers.autoencoder.v.0"
WEIGHT = "networks.decoder.layers.0.weight"
DAMAGES = {
    "steps -1": lambda path: rewrite(path, {STEPS: lambda steps: numpy.array(-1)}),
    "steps 0": lambda path: rewrite(path, {STEPS: lambda steps: numpy.array(0)}),
    "steps 2.5": lambda path: rewrite(path, {STEPS: lambda steps: numpy.array(2.5)}),
    "steps 10^6": lambda path: rewrite(path, {STEPS: lambda steps: numpy.array(10 ** 6)}),
    "slots of another dtype": lambda path: rewrite(path, {SLOT: lambda v: v.astype("float64")}),
    "another shape": lambda path: rewrite(path, {WEIGHT: lambda w: w[:-1]}),
    "NaN weights": lambda path: rewrite(path, {WEIGHT: lambda w: w * numpy.nan}),
    "an array more": lambda path: rewrite(path, seed=numpy.array(1)),
    "a record of 2.5 bytes of metrics": lambda path: rewrite(path, {"minigen.run": lambda text: numpy.array(
        re.sub('"metrics": .*?,', '"metrics": 2.5,', str(text)))}),
    "no record": lambda path: numpy.savez(path, **{STEPS: numpy.array(23)}),
    "record of noise": lambda path: rewrite(path, {"minigen.run": lambda _: numpy.array("[" * 5000)}),
    "pickled": lambda path: numpy.savez(path, a=numpy.array([{}], dtype=object)),
    "twice the same": write_twice,
    "renamed": lambda path: shutil.copy(path.with_name("00000020.npz"), path),
    "of a VAE-GAN": of_a_vaegan,
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_checkpoint_with_another_content_is_skipped_and_the_end_is_the_same(tmp_path, damage):
    _, straight = run(tmp_path / "straight" / "run", models.VAE)
    _, result = run(tmp_path / "run", models.VAE, iterations=23)
    damage(result.checkpoints()[0][1])
    with pytest.warns(UserWarning, match="checkpoint skipped: .*00000023.npz"):
        _, resumed = run(tmp_path / "run", models.VAE, resume=True)
    for name in ("metrics.jsonl", "config.json", "samples/00000030.png", "checkpoints/00000030.npz"):
        assert (resumed.folder / name).read_bytes() == (straight.folder / name).read_bytes(), name


def test_a_checkpoint_in_the_name_of_a_later_one_does_not_push_out_the_others(tmp_path):
    _, result = run(tmp_path, iterations=10)
    for i in (100, 200, 300):
        shutil.copy(result.checkpoints()[-1][1], tmp_path / "checkpoints" / f"{i:08d}.npz")
    with pytest.warns(UserWarning, match="belongs to another run: its iteration is 5, .00 expected"):
        _, resumed = run(tmp_path, resume=True)
    assert [i for i, _ in resumed.checkpoints()] == [300, 200, 100, 30, 25, 20]


def lose_config(folder):
    (folder / "config.json").unlink()


def empty_checkpoints(folder):
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"")


def remove_checkpoints(folder):
    for path in (folder / "checkpoints").iterdir():
        path.unlink()


def lose_metrics(folder):
    (folder / "metrics.jsonl").unlink()


def write_metrics(damage):
    def write(folder):
        path = folder / "metrics.jsonl"
        path.write_bytes(damage(path.read_bytes()))
    return write


def write_config(text):
    return lambda folder: (folder / "config.json").write_text(text)


def change_config(old, new):
    def change(folder):
        text = (folder / "config.json").read_text()
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new))
    return change


UNUSABLE = {
    "no config": (lose_config, "is no run directory: it holds what is left of a run, but no config.json"),
    "config of another model": (change_config('"GAN"', '"VAE"'), "its model is VAE, but GAN is asked for"),
    "config nested": (write_config("[" * 3000), "config.json is damaged"),
    "config of numbers": (change_config('"seed": 0', f'"seed": 1{"0" * 5000}'), "config.json is damaged"),
    "config of words": (change_config('"checkpoint_every": 5', '"checkpoint_every": "5"'),
                        "config.json is damaged: TypeError: whole numbers expected as iterations and"),
    "all checkpoints damaged": (empty_checkpoints, "no checkpoint that can be used: 00000030.npz, "
                                "00000025.npz, 00000020.npz are damaged .*overwrite=True"),
    "no checkpoints": (remove_checkpoints, "no checkpoint left, but metrics up to iteration 30"),
    "metrics lost": (lose_metrics, r"metrics.jsonl is damaged: the \d+ bytes .* until iteration 30 expected"),
    "metrics cut": (write_metrics(lambda b: b[:-9]), "metrics.jsonl is damaged"),
    "metrics of zeros": (write_metrics(lambda b: b[:200] + bytes(len(b) - 200)), "metrics.jsonl is damaged"),
    "another digit": (write_metrics(lambda b: b.replace(b": 12,", b": 13,", 1)), "metrics.jsonl is damaged"),
    "metrics of a longer run": (write_metrics(lambda b: b.replace(b"0.", b"1.") * 2), "jsonl is damaged"),
}


@pytest.mark.filterwarnings("ignore:checkpoint skipped")
@pytest.mark.parametrize("damage, message", UNUSABLE.values(), ids=UNUSABLE)
def test_a_run_that_cannot_be_resumed_is_left_as_it_is(tmp_path, damage, message):
    run(tmp_path)
    damage(tmp_path)
    before = contents(tmp_path)
    for options in ({"resume": True}, {}):
        with pytest.raises(training.RunError, match=message if options else "holds a run already: resume="):
            run(tmp_path, **options)
        assert contents(tmp_path) == before
    model, result = run(tmp_path, overwrite=True)
    assert newest(tmp_path) == 30 and result.curve("brightness")[0] == [1, 7, 18, 30]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage, line, found", [
    (lambda b: b"5\n" + b, 1, "'5'"), (lambda b: b.replace(b"}", b"}\n{}", 1), 2, "'{}'"),
    (lambda b: "{}\n".encode("utf-16") + b, 1, ""), (lambda b: b.replace(b'"g_', b'"g\xff', 1), 1, ""),
    (lambda b: b[:9] + bytes(len(b) - 9) + b"\n", 1, ""), (lambda b: b"[" * 5000 + b"\n" + b, 1, "")])
def test_a_damaged_line_of_the_metrics_is_named(tmp_path, damage, line, found):
    _, result = run(tmp_path, iterations=7)
    write_metrics(damage)(tmp_path)
    with pytest.raises(training.RunError, match=f"metrics.jsonl is damaged: line {line}: a JSON object with "
                                                f"its iteration expected, {found}"):
        result.metrics()


@pytest.mark.parametrize("error", [MemoryError("short"), PermissionError(13, "Permission denied", "x")])
def test_what_could_not_be_read_is_not_damaged(tmp_path, monkeypatch, error):
    run(tmp_path)
    before, read = contents(tmp_path), storage.Path.read_bytes

    def fail(path):
        if path.suffix == ".npz":
            raise error
        return read(path)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", fail)
        with pytest.raises(type(error)):
            run(tmp_path, resume=True)
    assert contents(tmp_path) == before


def train_on_points(out, iterations, **options):
    model = models.VAE(architecture="points", sizes=(2, 8), latent=2)
    points = 5 * numpy.random.default_rng(0).standard_normal((50, 2), dtype="float32")
    return model, training.train(model, points, iterations=iterations, out=out, batch_size=8, samples=7,
                                 checkpoint_every=2, sample_at=range(1, iterations + 1), **options)


def test_points_are_kept_as_they_are(tmp_path):
    """Neither are they cut to [0, 1], nor drawn; a resumed run has those of an uninterrupted one."""
    model, result = train_on_points(tmp_path / "straight", 4)
    found = dict(result.points())
    assert list(found) == [1, 2, 3, 4] and result.samples() == []
    assert found[4].shape == (7, 2) and found[4].dtype == "float32" and found[4].min() < 0
    assert not (found[3] == found[4]).all()
    train_on_points(tmp_path / "resumed", 3)
    (tmp_path / "resumed" / "checkpoints" / "00000003.npz").unlink()
    (tmp_path / "resumed" / "samples" / "00000003.npz").write_text("half")
    _, result = train_on_points(tmp_path / "resumed", 4, resume=True)
    for (i, points), (j, straight) in zip(result.points(), found.items(), strict=True):
        assert i == j and points.tobytes() == straight.tobytes()
    _, result = train_on_points(tmp_path / "resumed", 1, overwrite=True)
    assert [i for i, _ in result.points()] == [1]
    (result.samples_folder / "00000001.npz").write_text("half")
    with pytest.warns(UserWarning, match="points left out: .*00000001.npz is damaged"):
        assert result.points() == []


def test_samples_that_are_cut_are_left_out_with_a_warning(tmp_path):
    _, result = run(tmp_path)
    path = tmp_path / "samples" / "00000012.png"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="samples left out: .*00000012.png is damaged"):
        assert [i for i, _ in result.samples()] == [1, 30]


def test_overwrite_replaces_a_run_and_other_files_stay(straight, tmp_path):
    run(tmp_path, models.GAN, seed=5, iterations=60)
    (tmp_path / "checkpoints" / "00000007.npz.4321-1.part").write_text("what a killed run was just writing")
    mine = [tmp_path / "notes.txt", tmp_path / "film.mp4.part", tmp_path / "samples" / "photo.png",
            tmp_path / "checkpoints" / "best.npz", tmp_path / ".writable"]
    for path in mine:
        path.write_text("mine")
    with pytest.raises(training.RunError, match=r"holds a run already: resume=True \(--resume\) goes on with "
                                                r"it, overwrite=True \(--overwrite\) replaces it"):
        run(tmp_path, straight[0])
    model, result = run(tmp_path, straight[0], overwrite=True)
    run(tmp_path, straight[0], resume=True)
    for path in mine:
        assert path.read_text() == "mine"
        path.unlink()
    assert_same(straight, model, result)


def test_a_kill_while_a_run_is_replaced_leaves_nothing_to_resume(tmp_path, monkeypatch):
    """Else the new run would go on from what is left of the old one."""
    run(tmp_path)
    unlink = os.unlink

    def killed(path, **options):
        if path.suffix == ".npz":
            raise Stop
        unlink(path, **options)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", killed)
        with pytest.raises(Stop):
            run(tmp_path, overwrite=True)
    with pytest.raises(training.RunError, match="it holds what is left of a run, but no config.json"):
        run(tmp_path, resume=True)


def test_samples_of_a_deleted_run_do_not_bring_its_folder_back(tmp_path):
    _, result = run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="config.json"):
        result.save_samples(31, IMAGES[:4].reshape(4, 4, 4, 1))
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_is_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "metrics.jsonl").write_text("")         # what a full disk left of a beginning
    run(tmp_path)
    assert newest(tmp_path) == 30 and (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_in_use_is_refused(tmp_path):
    """By the lock of another thread here; that of another process is the same."""
    def inner(model):
        if (tmp_path / ".lock").exists():       # not in the rehearsal
            with pytest.raises(training.RunError, match="is in use: another process or thread trains into"):
                run(tmp_path, overwrite=True, evaluate=None)
            refused.append(True)
        return {}
    refused = []
    run(tmp_path, evaluate=inner)
    assert len(refused) == 4 and newest(tmp_path) == 30 and not (tmp_path / ".lock").exists()


def test_a_deleted_run_does_not_write_into_the_next_one_in_its_place(tmp_path):
    """Its lock went with the folder, so that nothing stops the next one from beginning."""
    folder = tmp_path / "run"
    config = run(folder)[1].config()
    one, other = training.Run(folder), training.Run(folder)
    with other.lock():
        shutil.rmtree(folder)
        with one.lock():
            one.begin(config)
            one.log({"iteration": 1})
            for write in (lambda: other.log({"iteration": 9}), lambda: other.save_checkpoint(9, {}),
                          lambda: other.save_samples(9, numpy.zeros((1, 4, 4, 1), "float32"))):
                with pytest.raises(training.RunError, match="run was deleted, and another run has begun"):
                    write()
    assert one.metrics() == [{"iteration": 1}] and one.checkpoints() == one.samples() == []


def test_the_end_of_a_deleted_run_leaves_the_lock_of_the_next(tmp_path):
    folder = tmp_path / "run"
    one, other = training.Run(folder), training.Run(folder)
    with one.lock():
        shutil.rmtree(folder)
        held = other.lock()
        held.__enter__()
    with pytest.raises(training.RunError, match="is in use"), one.lock():
        pass
    held.__exit__(None, None, None)
    assert not (folder / ".lock").exists()


def test_a_run_that_begins_during_the_rehearsal_is_not_lost(tmp_path, monkeypatch):
    rehearse = loop._Training.rehearse

    def slow(self):
        rehearse(self)
        monkeypatch.setattr(loop._Training, "rehearse", rehearse)
        before.append(record(run(tmp_path, seed=5)[1]))
    before = []
    monkeypatch.setattr(loop._Training, "rehearse", slow)
    with pytest.raises(training.RunError, match="holds a run already"):
        run(tmp_path)
    assert record(training.Run(tmp_path)) == before[0]


def test_metrics_are_on_the_disk_before_the_checkpoint_that_vouches_for_them(tmp_path, monkeypatch):
    fsync, replace, synced, checked = os.fsync, os.replace, {}, []

    def note_sync(number):
        status = os.fstat(number)
        synced[status.st_ino] = status.st_size
        fsync(number)

    def check(part, path):
        if path.suffix == ".npz":
            status = (tmp_path / "metrics.jsonl").stat()
            assert synced[status.st_ino] == status.st_size
            checked.append(path.name)
        replace(part, path)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", check)
    run(tmp_path)
    assert len(checked) == 6


def test_a_lock_that_a_killed_process_left_is_no_obstacle(tmp_path):
    (tmp_path / ".lock").write_text("")
    run(tmp_path)
    assert newest(tmp_path) == 30 and not (tmp_path / ".lock").exists()


def test_a_run_shows_itself(tmp_path):
    assert repr(training.Run(tmp_path)) == f"Run('{tmp_path}'): no run yet"
    _, result = run(tmp_path, iterations=7)
    assert repr(result) == f"Run('{tmp_path}'): GAN, checkpoint of iteration 7 of 7"


def test_the_folder_may_be_in_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _, result = run("~/runs/x")
    assert result.folder == tmp_path / "runs" / "x" and newest("~/runs/x") == 30


def same(images, rng):
    return images


@pytest.mark.parametrize("changes, message", [
    ({"seed": 1}, "its seed is 0, but 1 is asked for"), ({"batch_size": 9}, "its batch_size is 8, but 9"),
    ({"kind": models.WGAN}, "its model is GAN, but WGAN"),
    ({"model": models.GAN(**{**SETTINGS, "lr": 1.0})}, "its settings.lr is 0.001, but 1.0 is"),
    ({"images": IMAGES[:199]}, "its data is"), ({"images": 1 - IMAGES}, "its data is"),
    ({"prepare": same}, "its prepare is None, but same .first batch crc32 .* is asked"),
    ({"iterations": 29}, "already at iteration 30, beyond the 29 asked for")])
def test_a_run_with_other_settings_is_not_resumed(tmp_path, changes, message):
    _, result = run(tmp_path)
    before = record(result)
    with pytest.raises(training.RunError, match=message):
        run(tmp_path, resume=True, **changes)
    assert record(result) == before


def test_a_file_is_no_run_directory(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(training.RunError, match="x is no run directory: it has no config.json"):
        training.load(tmp_path / "x")


def test_a_run_stays_where_it_is_when_the_working_directory_changes(straight, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def move(model):
        monkeypatch.chdir(tmp_path.parent)
        return measure(model)
    result = run("run", straight[0], evaluate=move)
    assert result[1].folder == tmp_path / "run"
    assert_same(straight, *result)


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(FileNotFoundError, match="'run'"):
        training.Run("run")


def test_load_rebuilds_the_trained_model(straight, tmp_path):
    model, _ = run(tmp_path, straight[0])
    loaded = training.load(str(tmp_path))
    assert type(loaded) is straight[0] and loaded.settings() == model.settings()
    assert (loaded.sample(5, rng=1) == model.sample(5, rng=1)).all()


def test_load_takes_the_checkpoint_of_an_iteration(straight, tmp_path):
    earlier, _ = run(tmp_path / "earlier", straight[0], iterations=25)
    run(tmp_path / "run", straight[0])
    loaded = training.load(tmp_path / "run", iteration=25)
    assert all((loaded.state()[key] == value).all() for key, value in earlier.state().items())
    assert not all((loaded.state()[key] == value).all() for key, value in straight[1].items())
    with pytest.raises(training.RunError, match="no checkpoint of iteration 7, only of 20, 25, 30$"):
        training.load(tmp_path / "run", iteration=7)
    path = tmp_path / "run" / "checkpoints" / "00000025.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with (pytest.warns(UserWarning, match="checkpoint skipped: .*00000025.npz is damaged"),
          pytest.raises(training.RunError, match="iteration 25 is damaged .*; there are others, of 20, 30$")):
        training.load(tmp_path / "run", iteration=25)
    remove_checkpoints(tmp_path / "run")
    with pytest.raises(training.RunError, match="has no checkpoint yet"):
        training.load(tmp_path / "run", iteration=25)


@pytest.mark.parametrize("damage, message", [
    (lose_config, "it holds what is left of a run, but no config.json; overwrite=True .--overwrite"),
    (write_config("{"), "config.json is damaged"),
    (write_config("[]"), "config.json is damaged"),
    (change_config('"latent"', '"lament"'), "not the settings of a GAN"),
    (change_config('"latent": 3', '"latent": 4'),
     "no checkpoint that can be used: 00000030.npz, 00000025.npz, 00000020.npz are damaged or of another"),
    (change_config('"latent": 3', '"latent": 0'), "GAN|no checkpoint"),
    (change_config('"lr": 0.001', f'"lr": 1{"0" * 400}'), "not the settings of a GAN"),
    (change_config('"GAN"', '"Model"'), "unknown model 'Model'"),
    (change_config('"GAN"', '"os"'), "unknown model 'os'"),
    (remove_checkpoints, "has no checkpoint yet"),
])
@pytest.mark.filterwarnings("ignore:checkpoint skipped")
def test_load_names_the_fault_of_a_run_directory(tmp_path, damage, message):
    run(tmp_path)
    damage(tmp_path)
    with pytest.raises(training.RunError, match=message):
        training.load(tmp_path)


def test_a_curve_has_the_iterations_at_which_a_metric_was_logged(straight, tmp_path):
    _, result = run(tmp_path, straight[0])
    iterations, brightness = result.curve("brightness")
    assert iterations == [1, 7, 18, 30]
    assert brightness == [
        record["brightness"] for record in result.metrics() if record["iteration"] in iterations]
    assert result.curve("nonsense") == ([], [])
