"""The shared flags: their values, and one clear line with exit status 2 for each mistake."""

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minigen import backend, cli, datasets, threads, training, workers


@pytest.fixture
def flags(tmp_path):
    return cli.parser("Test.", iterations=50, out=str(tmp_path / "runs" / "x"))


def test_defaults(flags, tmp_path, mnist):
    values, data = cli.parse(flags, [])
    assert vars(values) == {"iterations": 50, "batch_size": 64, "seed": 0, "out": tmp_path / "runs" / "x",
                            "resume": False, "overwrite": False, "checkpoint_every": None, "data": None,
                            "gpu": False, "set": {}, "jobs": None, "threads": None, "figures": "png"}
    assert values.out.is_dir() and not list(values.out.iterdir()) and len(data.train_images) == 60000


def test_the_help_says_the_defaults_that_there_are(flags):
    flags.add_argument("--width", type=cli.positive_float, default=0.0, help="no width (default: all)")
    flags.set_defaults(out=Path("x"))
    said = re.findall(r"\((default: .*?)\)", " ".join(flags.format_help().split()))
    assert said == ["default: 50", "default: 64", "default: one per processor core",
                    "default: one; convolutions share the cores that runs side by side leave",
                    "default: 0", "default: x", "default: png",
                    "default: a twentieth of them all, at most 1000", "default: all"]


def test_values(flags, tmp_path, small_mnist):
    arguments = ["--iterations", "1_000", "--batch-size", "7", "--seed", "3", "--resume",
                 "--out", str(tmp_path / "o"), "--data", str(small_mnist), "--checkpoint-every", "9"]
    values, data = cli.parse(flags, arguments)
    assert (values.iterations, values.batch_size, values.seed, values.resume) == (1000, 7, 3, True)
    assert values.checkpoint_every == 9
    assert len(data.train_images) == 640
    assert cli.parse(flags, ["--full", "--data", str(small_mnist)])[0].iterations == 1_000_000


def test_settings(flags, small_mnist):
    data = ["--data", str(small_mnist)]
    arguments = ["--set", "d=2,4.5,1e-3", "--set", "init=he_normal", "--set=x=True,None"]
    assert cli.parse(flags, [*data, *arguments])[0].set == {
        "d": [2, 4.5, 0.001], "init": ["he_normal"], "x": [True, None]}
    assert cli.parse(flags, data)[0].set == {}


@pytest.mark.parametrize("wrong, message", [
    (["d"], "NAME=VALUE expected, 'd' found"), (["=3"], "NAME=VALUE expected, '=3' found"),
    (["2d=3"], "NAME=VALUE expected, '2d=3' found"),
    (["d=1,1.0"], "different values expected, 'd=1,1.0' found"),
    (["d=1", "--set", "d=2"], "d once expected, with all its values: d=VALUE,VALUE")])
def test_wrong_settings(flags, wrong, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.parse(flags, ["--set", *wrong])
    assert stop.value.code == 2 and capsys.readouterr().err == f"{flags.prog}: argument --set: {message}\n"


def test_threads(flags, small_mnist):
    cli.parse(flags, ["--threads", "3", "--data", str(small_mnist)])
    assert threads.per_product() == 3
    cli.parse(flags, ["--data", str(small_mnist)])
    assert threads.per_product() == 1


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
    (cli.positive_float, "0", "a number above 0 expected, 0.0 found"),
    (cli.positive_float, "1e308", r"at most 1,000,000,000 expected, 1e\+308 found"),
    (cli.finite_float, "-1e39", r"at least -1,000,000,000 expected, -1e\+39 found"),
    (cli.positive_int, str(10 ** 30), "at most 1,000,000,000,000 expected, 1000000000"),
    (cli.non_negative_int, "9" * 200, r"at most 1,000,000,000,000 expected, 9{37}\.\.\. found"),
    (cli.positive_int, "9" * 5000, r"a whole number expected, '9{36}\.\.\. found"),
    (cli.finite_float, "x" * 5000, r"a finite number expected, 'x{36}\.\.\. found")])
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
    (["--resume", "--overwrite"], "argument --overwrite: not allowed with argument --resume"),
    (["--iterations=--"], "argument --iterations: a value expected, '--' found"),
    (["--out=--"], "argument --out: a value expected, '--' found"),
    (["--checkpoint-every", "0"], "--checkpoint-every: at least 1 expected, 0 found"),
    (["x" * 5000], "unrecognized arguments: " + "x" * 37 + "..."),
    (["a\nb"], "unrecognized arguments: a b"),
    (["--nonsense"] * 1000, "unrecognized arguments: --nonsense --nonsense"),
    (["--nonsense"], "unrecognized arguments: --nonsense")])
def test_one_line_and_status_2(flags, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        cli.parse(flags, arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1 and len(error) < 1100


def test_paths_in_the_users_home(flags, tmp_path, monkeypatch, mnist, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.parse(flags, ["--out", "~/o"])[0].out == tmp_path / "o"
    assert cli.path("~/data") == tmp_path / "data" and cli.path("x/~") == Path("x/~")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with pytest.raises(SystemExit) as stop:
        cli.parse(flags, ["--out", "~/o"])
    assert stop.value.code == 2
    assert "--out: [Errno 2] path: no home folder is known: '~/o'" in capsys.readouterr().err


def test_a_users_own_file_in_the_folder_stays(flags, tmp_path, mnist):
    (tmp_path / ".writable").write_text("mine")
    cli.parse(flags, ["--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == [".writable"]


def test_an_environment_that_names_no_backend():
    code = ("from minigen import Tensor, cli, models\n"
            "cli.run(lambda: cli.parse(cli.parser('Test.', iterations=5, out='x'), []))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "MINIGEN_BACKEND": "nonsense"})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "-c: MINIGEN_BACKEND: unknown backend 'nonsense': expected 'numpy' or 'cupy'\n"


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
    (training.Interrupted("stopped at iteration 5", signal.SIGINT), 130, "iteration 5: --resume goes on"),
    (training.Interrupted("stopped at iteration 5", signal.SIGTERM), 143, "iteration 5: --resume goes on"),
    (training.Interrupted("stopped at iteration 5", signal.SIGHUP), 129, "iteration 5: --resume goes on"),
    (training.ArgumentError("train: seed"), 2, "train: seed"),
    (MemoryError(), 2, "not enough memory\n"), (MemoryError("1.5 TiB"), 2, "not enough memory: 1.5 TiB"),
    (backend.BackendError("unknown backend"), 2, "unknown backend"),
    (training.Diverged("d_loss is nan at iteration 3"), 1, "d_loss is nan at iteration 3"),
    (workers.Failed("1 of 2 runs failed\nx: y"), 1, "1 of 2 runs failed\nx: y\n"),
    (training.LoadError("the images of iteration 3"), 2, "the images of iteration 3"),
    (training.RunError("cannot be resumed"), 2, "cannot be resumed"),
    (UserWarning("checkpoint skipped"), 2, "checkpoint skipped\n"),
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


def program(code, **options):
    """A process that ends as cli.run ends it; ``code`` is its main function."""
    whole = f"import sys; from minigen import cli\ndef main():\n    {code}\ncli.run(main)"
    return subprocess.Popen([sys.executable, "-c", whole], stderr=subprocess.PIPE, text=True, **options)


def test_a_console_that_cannot_print_everything_prints_the_rest():
    process = program(r"print('Fr\xe9chet', 0.5)", stdout=subprocess.PIPE,
                      env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert process.communicate() == ("Fr\\xe9chet 0.5\n", "") and process.returncode == 0


@pytest.mark.parametrize("code", ["print('x')", "print('x', flush=True)", "print('x' * 100_000)"])
def test_a_reader_that_ends_early_is_no_error(code):
    read, write = os.pipe()
    os.close(read)
    process = program(code, stdout=write, env={**os.environ, "PYTHONUNBUFFERED": ""})
    os.close(write)
    assert process.communicate()[1] == "" and process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
@pytest.mark.parametrize("code", ["print('x')", "print('x' * 100_000)"])
def test_a_full_standard_output_is_named(code):
    with open("/dev/full", "w") as full:
        process = program(code, stdout=full)
    assert process.communicate()[1] == "standard output: [Errno 28] No space left on device\n"
    assert process.returncode == 2


def test_ctrl_c_is_an_exception_in_the_program_unless_it_is_ignored():
    code = "import signal; signal.signal(signal.SIGINT, signal.{}); " \
           "from minigen import cli; cli.run(lambda: signal.raise_signal(signal.SIGINT))"
    for handler, expected in (("SIG_DFL", (130, "\ninterrupted\n")), ("SIG_IGN", (0, ""))):
        done = subprocess.run([sys.executable, "-c", code.format(handler)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == expected


@pytest.mark.parametrize("streams", [
    "sys.stderr = None", "sys.stderr.close()", "sys.stdout = sys.stderr = None"])
def test_a_program_without_streams_ends_with_its_status(streams):
    process = program(f"{streams}; raise OSError(28, 'No space left')")
    assert process.communicate()[1] == "" and process.returncode == 2
