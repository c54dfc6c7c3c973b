"""``python -m minigen``: what each action prints and writes, and its errors, one line each."""

import re
import signal
import subprocess
import sys

import numpy
import pytest
from matplotlib.image import imread
from short_runs import run

import minigen
from minigen import __main__, cli, figures, models, storage, training


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    """The run directory of a trained GAN, and its model."""
    folder = tmp_path_factory.mktemp("runs") / "gan"
    model, _ = run(folder, models.GAN)
    return folder, model


def fails(capsys, *arguments):
    """The one line of the error with which the program ends, with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: __main__.main(list(map(str, arguments))))
    out, error = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and error.count("\n") == 1
    return error


def test_the_program_alone_prints_its_help():
    done = subprocess.run([sys.executable, "-m", "minigen"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m minigen")
    assert all(f"    {action} " in done.stdout for action in ("table", "info", "sample"))
    assert "`python -m minigen ACTION -h` says more" in done.stdout


def test_ctrl_c_during_the_imports_is_no_traceback(tmp_path):
    (tmp_path / "matplotlib.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    code = ("import runpy, signal, sys; sys.path.insert(0, sys.argv[1]);"
            "signal.signal(signal.SIGINT, signal.default_int_handler);"
            "runpy.run_module('minigen', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"minigen {minigen.__version__}\n"


def test_table(gan, tmp_path, capsys):
    folder, _ = gan
    run(tmp_path / "other", models.GAN, seed=1)
    __main__.main(["table", str(folder), str(tmp_path), "--metrics", "brightness, d_loss"])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"metric +model +runs +mean +s\.d\. +95 % interval", lines[0])
    assert [line.split()[:3] for line in lines[1:]] == [["brightness", "GAN", "2"], ["d_loss", "GAN", "2"]]
    __main__.main(["table", str(folder), "--iteration", "18", "--metrics", "brightness", "--format", "csv"])
    logged = dict(zip(*training.Run(folder).curve("brightness")))
    assert capsys.readouterr().out.splitlines()[1:] == [f"brightness,GAN,1,{logged[18]!r},,,"]


def test_info(gan, capsys):
    folder, model = gan
    __main__.main(["info", str(folder)])
    blocks = {}
    for block in capsys.readouterr().out.split("\n\n"):
        title, *lines = block.splitlines()
        assert len({re.match(r"  .*?  +(?=\S)", line).end() for line in lines}) == 1        # aligned
        blocks[title] = dict(re.split("  +", line.strip(), maxsplit=1) for line in lines)
    assert blocks["run"] == {
        "folder": str(folder), "model": "GAN", "iteration": "30 of 30", "checkpoints": "20, 25, 30",
        "seed": "0", "batch size": "8", "data": blocks["run"]["data"], "prepare": "None"}
    assert "float32 (200, 16)" in blocks["run"]["data"]
    assert blocks["settings"]["sizes"] == "[16, 8]" and blocks["settings"]["lr"] == "0.001"
    assert blocks["parameters"] == {"discriminator": str(16 * 8 + 8 + 8 * 2 + 2),
                                    "generator": str(3 * 8 + 8 + 8 * 16 + 16)}
    assert blocks["last metrics"]["iteration"] == "30"
    assert float(blocks["last metrics"]["brightness"]) == pytest.approx(
        training.Run(folder).metrics()[-1]["brightness"], rel=1e-5)
    assert blocks["environment"]["minigen"] == minigen.__version__


def test_info_of_a_run_that_has_only_begun_and_of_a_class_of_ones_own(gan, tmp_path, capsys):
    config = (gan[0] / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"GAN"', '"Own"'))
    __main__.main(["info", str(tmp_path)])
    out = capsys.readouterr().out
    assert re.search("iteration +0 of 30\n +checkpoints +none yet\n", out)
    assert re.search("last metrics\n +iteration +none yet\n", out)
    assert re.search("unknown +.*config.json: unknown model 'Own': if it is a class of your own", out)


def test_sample(gan, tmp_path, capsys):
    folder, model = gan
    out = tmp_path / "new" / "digits.png"
    __main__.main(["sample", str(folder), "--out", str(out), "--n", "9", "--seed", "5"])
    assert capsys.readouterr().out == f"{out}: 9 images\n"
    figures.save_grid(tmp_path / "expected.png", model.sample(9, 5))
    assert (imread(out) == imread(tmp_path / "expected.png")).all() and imread(out).shape[:2] == (16, 16)
    __main__.main(["sample", str(folder), "--out", str(out), "--iteration", "25", "--shape", "2x8"])
    expected = tmp_path / "expected.png"
    figures.save_grid(expected, training.load(folder, iteration=25).sample(64, 0), shape=(2, 8))
    assert (imread(out) == imread(expected)).all() and imread(out).shape[:2] == (25, 73)


def test_sample_of_points(tmp_path, capsys):
    model = models.VAE(architecture="points", sizes=(2, 8), latent=2)
    points = numpy.random.default_rng(0).random((50, 2), dtype="float32")
    training.train(model, points, iterations=2, batch_size=8, out=tmp_path / "run")
    out = tmp_path / "points.npz"
    __main__.main(["sample", str(tmp_path / "run"), "--out", str(out), "--n", "7"])
    assert capsys.readouterr().out == f"{out}: 7 points\n"
    assert (storage.load(out)["points"] == model.sample(7, 0)).all()
    assert "a name in .npz expected, for the model's points" in fails(
        capsys, "sample", tmp_path / "run", "--out", tmp_path / "x.png")


def test_images_that_are_not_square(tmp_path, capsys):
    images = numpy.random.default_rng(0).random((50, 24), dtype="float32")
    model = models.VAE(sizes=(24, 8), latent=2)
    training.train(model, images, iterations=2, batch_size=8, out=tmp_path / "run")
    arguments = ["sample", str(tmp_path / "run"), "--out", str(tmp_path / "x.png")]
    assert fails(capsys, *arguments) == ("argument --shape: tile: rows of 24 pixels are no square images: "
                                         "give their shape (height, width, channels)\n")
    assert "images of shape (5, 5) expected, (24,) found" in fails(capsys, *arguments, "--shape", "5x5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    for shape, size in (("4x6", (41, 57)), ("2x4x3", (25, 41))):
        __main__.main([*arguments, "--shape", shape])
        assert imread(tmp_path / "x.png").shape[:2] == size


@pytest.mark.parametrize("arguments, message", [
    (["tables"], "python -m minigen: argument ACTION: invalid choice: 'tables'"),
    (["table"], "python -m minigen table: the following arguments are required: RUN"),
    (["info"], "python -m minigen info: the following arguments are required: RUN"),
    (["info", "nothing"], "nothing is no run directory: it has no config.json"),
    (["table", "nothing"], "nothing is no run directory, and there is none below it"),
    (["sample", "nothing"], "sample: the following arguments are required: --out"),
    (["sample", "nothing", "--out", "x.png"], "nothing is no run directory"),
    (["sample", "RUN", "--out", "x.jpg"], "--out: a name in .png expected, for the model's images, x.jpg"),
    (["sample", "RUN", "--out", "x.png", "--iteration", "7"], "no checkpoint of iteration 7, only of 20"),
    (["sample", "RUN", "--out", "x.png", "--n", "0"], "argument --n: at least 1 expected, 0 found"),
    (["sample", "RUN", "--out", "x.png", "--seed", "-1"], "--seed: at least 0 expected, -1 found"),
    (["sample", "RUN", "--out", "x.png", "--shape", "28"], "--shape: HEIGHTxWIDTH, such as 32x16, or"),
    (["table", "RUN", "--format", "html"], "argument --format: invalid choice: 'html'"),
    (["table", "RUN", "--metrics", "x"], "--metrics: d_loss, g_loss, brightness expected, 'x'")])
def test_one_line_and_status_2(gan, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    found = [gan[0] if argument == "RUN" else argument for argument in arguments]
    assert message in fails(capsys, *found)
    assert not list(tmp_path.iterdir())
