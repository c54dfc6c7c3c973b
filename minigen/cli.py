"""What the examples share on the command line: flags, one-line errors, Ctrl-C."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from minigen import backend, datasets, training

FULL = 1_000_000        # the paper's iterations


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(2)


def parser(description: str, iterations: int | None, out: str, batch_size: int = 64,
           seeds: int | None = None, full: int | None = FULL,
           data: str = "four IDX files, as of Fashion-MNIST, instead of MNIST") -> Parser:
    """A parser with the flags that all examples share; the arguments are their defaults. ``parse`` reads
    them.

    The parser has ``--seeds`` if that has a default, and ``--full`` if the paper's number of iterations is
    given. ``data`` says what ``--data`` takes.
    """
    flags = Parser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--iterations", type=positive_int, default=iterations, metavar="N",
                        help="training iterations per model")
    if full:
        length.add_argument("--full", dest="iterations", action="store_const", const=full,
                            default=argparse.SUPPRESS, help=f"the paper's {full:,} iterations")
    flags.add_argument("--batch-size", type=positive_int, default=batch_size, metavar="N",
                       help="images per batch")
    if seeds:
        flags.add_argument("--seeds", type=positive_int, default=seeds, metavar="N",
                           help="runs per model, with seeds from --seed upwards")
    add_output(flags, out)
    flags.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    flags.add_argument("--data", type=Path, metavar="PATH", help=data)
    flags.add_argument("--gpu", action="store_true", help="compute with CuPy on a CUDA device")
    return flags


def add_output(flags: Parser, out: str) -> None:
    """Add ``--seed`` and ``--out``, whose default is ``out``."""
    flags.add_argument("--seed", type=non_negative_int, default=0, metavar="N",
                       help="seed of all random numbers")
    flags.add_argument("--out", type=Path, default=Path(out), metavar="FOLDER",
                       help="folder that everything is written to")


def parse(flags: Parser, arguments: Sequence[str] | None = None, batches_per_step: int = 1,
          load: Callable[[Path | None], Any] = datasets.mnist) -> tuple[argparse.Namespace, Any]:
    """The flags' values and the data that they name, ``load(--data)``.

    Sets the backend and makes the folder ``--out``. ``batches_per_step`` is the largest number of batches
    that one step of a model takes, all of different images. A value that cannot be used ends the program: one
    line, status 2.
    """
    values = flags.parse_args(arguments)
    try:
        if values.gpu:
            backend.use("cupy")
        data = load(values.data)
    except (backend.BackendError, OSError, ValueError) as error:
        flags.error(str(error))
    most = len(data.train_images) // batches_per_step
    if values.batch_size > most:
        flags.error(f"argument --batch-size: at most {most} expected with these {len(data.train_images)} "
                    f"images, {values.batch_size} found")
    make_output(flags, values.out)
    return values, data


def make_output(flags: Parser, out: Path) -> None:
    """Make the folder ``out``; if it cannot be written to, the program ends: one line, status 2."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        flags.error(f"argument --out: cannot write to {out}: {error.strerror}")


def run(main: Callable[[], Any]) -> NoReturn:
    """Call ``main`` and exit: status 0 at the end, 130 on Ctrl-C, 1 if training diverged, 2 for other
    failures.

    Those are runs that cannot be resumed, batches that cannot be loaded and files that cannot be read or
    written. Each is reported in one line, as are warnings.
    """
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        main()
    except KeyboardInterrupt as interrupt:
        message = str(interrupt)
        print(f"\n{message}: --resume goes on" if message else "\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except training.Diverged as error:
        print(f"training stopped: {error}", file=sys.stderr)
        sys.exit(1)
    except (training.RunError, training.LoadError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def positive_int(text: str) -> int:
    """The type of a flag: a whole number, at least 1."""
    return _at_least(1, _whole(text))


def non_negative_int(text: str) -> int:
    """The type of a flag: a whole number, at least 0."""
    return _at_least(0, _whole(text))


def finite_float(text: str) -> float:
    """The type of a flag: a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"a finite number expected, {text!r} found")
    return value


def non_negative_float(text: str) -> float:
    """The type of a flag: a finite number, at least 0."""
    return _at_least(0, finite_float(text))


def positive_float(text: str) -> float:
    """The type of a flag: a finite number above 0."""
    value = finite_float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"a number above 0 expected, {value} found")
    return value


def _whole(text: str) -> int:
    try:
        return int(text.replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number expected, {text!r} found") from None


def _at_least(least: int, value: Any) -> Any:
    if value < least:
        raise argparse.ArgumentTypeError(f"at least {least} expected, {value} found")
    return value
