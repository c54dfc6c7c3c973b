"""The shared flags: their values, and one clear line with exit status 2 for each mistake."""

import argparse
import sys

import pytest

from minigen import backend, cli, datasets, training


@pytest.fixture
def flags(tmp_path):
    return cli.parser("Test.", iterations=50, out=str(tmp_path / "runs" / "x"))


def test_defaults(flags, tmp_path, mnist):
    values, data = cli.parse(flags, [])
    assert vars(values) == {"iterations": 50, "batch_size": 64, "seed": 0, "out": tmp_path / "runs" / "x",
                            "resume": False, "data": None, "gpu": False}
    assert values.out.is_dir() and not list(values.out.iterdir()) and len(data.train_images) == 60000


def test_values(flags, tmp_path, small_mnist):
    arguments = ["--iterations", "1_000", "--batch-size", "7", "--seed", "3", "--resume",
                 "--out", str(tmp_path / "o"), "--data", str(small_mnist)]
    values, data = cli.parse(flags, arguments)
    assert (values.iterations, values.batch_size, values.seed, values.resume) == (1000, 7, 3, True)
    assert len(data.train_images) == 640
    assert cli.parse(flags, ["--full", "--data", str(small_mnist)])[0].iterations == 1_000_000


def test_seeds(tmp_path):
    flags = cli.parser("Test.", iterations=50, out=str(tmp_path), seeds=5)
    assert cli.parse(flags, [])[0].seeds == 5 and cli.parse(flags, ["--seeds", "2"])[0].seeds == 2


def test_an_example_with_other_data_and_its_own_full(tmp_path, small_mnist):
    flags = cli.parser("Test.", iterations=None, full=None, out=str(tmp_path), data="what it takes")
    flags.add_argument("--full", action="store_true", help="as it says")
    seen = []

    def load(path):
        seen.append(str(path))
        return datasets.mnist(small_mnist)
    values, data = cli.parse(flags, ["--full", "--data", "x"], load=load)
    assert seen == ["x"]
    assert values.full and values.iterations is None and len(data.train_images) == 640
    assert "what it takes" in flags.format_help()


@pytest.mark.parametrize("kind, text, value", [
    (cli.finite_float, "-1.5", -1.5), (cli.positive_float, "0.1", 0.1),
    (cli.non_negative_float, "0", 0.0), (cli.non_negative_float, "1e-3", 1e-3),
    (cli.positive_int, "1_000", 1000), (cli.non_negative_int, "0", 0)])
def test_types_of_flags(kind, text, value):
    assert kind(text) == value and type(kind(text)) is type(value)


@pytest.mark.parametrize("kind, text, message", [
    (cli.finite_float, "nan", "a finite number expected, 'nan' found"),
    (cli.finite_float, "many", "a finite number expected, 'many' found"),
    (cli.finite_float, "-inf", "a finite number expected"),
    (cli.non_negative_float, "-0.1", "at least 0 expected, -0.1 found"),
    (cli.non_negative_float, "inf", "a finite number expected"),
    (cli.positive_int, "0", "at least 1 expected, 0 found"),
    (cli.positive_float, "0", "a number above 0 expected, 0.0 found")])
def test_what_is_not_of_a_flags_type(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        kind(text)


@pytest.mark.parametrize("arguments, message", [
    (["--iterations", "-5"], "--iterations: at least 1 expected, -5 found"),
    (["--iterations", "0"], "--iterations: at least 1 expected, 0 found"),
    (["--iterations", "1.5"], "--iterations: a whole number expected, '1.5' found"),
    (["--batch-size", "many"], "--batch-size: a whole number expected, 'many' found"),
    (["--seed", "-1"], "--seed: at least 0 expected, -1 found"),
    (["--data", "/no/such"], "/no/such: no such folder"),
    (["--out", __file__], f"--out: cannot write to {__file__}"),
    (["--out", "/proc/x"], "--out: cannot write to /proc/x"),
    (["--full", "--iterations", "3"], "not allowed with argument"),
    (["--nonsense"], "unrecognized arguments: --nonsense")])
def test_one_line_and_status_2(flags, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        cli.parse(flags, arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1


def test_a_batch_larger_than_the_data(flags, capsys, small_mnist):
    arguments = ["--data", str(small_mnist), "--batch-size", "128"]
    cli.parse(flags, arguments, batches_per_step=5)
    with pytest.raises(SystemExit) as stop:
        cli.parse(flags, arguments, batches_per_step=6)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "--batch-size: at most 106 expected with these 640 images, 128 found" in error


def test_gpu_without_cupy(flags, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(SystemExit) as stop:
        cli.parse(flags, ["--gpu"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "needs CuPy" in error and error.count("\n") == 1
    assert backend.name() == "numpy"


@pytest.mark.parametrize("error, status, message", [
    (None, 0, ""),
    (KeyboardInterrupt(), 130, "interrupted"),
    (KeyboardInterrupt("stopped at iteration 5"), 130, "stopped at iteration 5: --resume goes on"),
    (training.Diverged("d_loss is nan at iteration 3"), 1, "d_loss is nan at iteration 3"),
    (training.LoadError("the images of iteration 3"), 2, "the images of iteration 3"),
    (training.RunError("cannot be resumed"), 2, "cannot be resumed"),
    (OSError(28, "No space left"), 2, "No space left")])
def test_how_a_program_ends(capsys, error, status, message):
    def main():
        if error:
            raise error
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert stop.value.code == status and message in capsys.readouterr().err


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 / 0)
