"""What the examples share on the command line: flags, one-line errors, how a program ends."""

from __future__ import annotations

import argparse
import ast
import io
import math
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from minigen import backend, datasets, ranks, storage, threads, training, workers

FULL = 1_000_000        # the paper's iterations

_MOST = 10 ** 12        # of anything that is counted
_LARGEST = 10 ** 9      # of other numbers: float32 ends at 3e38, and squares of them are taken
_SHOWN = 40             # characters of a value in an error


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says the default of a flag that has one and does not say it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        help = action.help or ""
        none = action.nargs == 0 or action.default in (None, {}) or "(default" in help
        return help if none else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        words = [word if len(word) <= 200 else _short(word) for word in message.split()]
        _say(f"{self.prog}: {' '.join(words)[:1000]}")
        sys.exit(2)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for text in sys.argv[1:] if args is None else args:
            if text.endswith("=--"):        # argparse takes the value for the end of the flags, and fails
                self.error(f"argument {text.removesuffix('=--')}: a value expected, '--' found")
        return super().parse_known_args(args, namespace)


def parser(description: str, iterations: int | None, out: str, batch_size: int = 64,
           seeds: int | None = None, full: int | None = FULL,
           data: str = "four IDX files, as of Fashion-MNIST, instead of MNIST") -> Parser:
    """A parser with the flags that all examples share; the arguments are their defaults. ``parse`` reads
    them.

    The parser has ``--seeds`` if that has a default, and ``--full`` if the paper's number of iterations is
    given. ``data`` says what ``--data`` takes.
    """
    flags = Parser(description=description, formatter_class=_Help)
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
    flags.add_argument("--set", type=setting, action=_Settings, default={}, metavar="NAME=VALUE",
                       help="change a setting of the models; with several values, NAME=VALUE,VALUE, each is "
                       "trained, and with several settings each combination of their values")
    flags.add_argument("--jobs", type=positive_int, metavar="N",
                       help="runs that train side by side (default: one per processor core)")
    flags.add_argument("--threads", type=positive_int, metavar="N",
                       help="threads of a run (default: one; convolutions share the cores that runs "
                       "side by side leave)")
    add_output(flags, out)
    earlier = flags.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    earlier.add_argument("--overwrite", action="store_true", help="replace the runs that are in --out")
    flags.add_argument("--checkpoint-every", type=positive_int, metavar="N",
                       help="iterations from checkpoint to checkpoint (default: a twentieth of them all, at "
                       "most 1000)")
    flags.add_argument("--data", type=path, metavar="PATH", help=data)
    flags.add_argument("--gpu", action="store_true", help="compute with CuPy on a CUDA device")
    return flags


def add_output(flags: Parser, out: str) -> None:
    """Add ``--seed``, ``--figures`` and ``--out``, whose default is ``out``."""
    flags.add_argument("--seed", type=non_negative_int, default=0, metavar="N",
                       help="seed of all random numbers")
    flags.add_argument("--out", type=path, default=Path(out), metavar="FOLDER",
                       help="folder that everything is written to")
    flags.add_argument("--figures", choices=("png", "svg", "pdf"), default="png", metavar="FORMAT",
                       help="format of the figures: png, svg or pdf")


def parse(flags: Parser, arguments: Sequence[str] | None = None, batches_per_step: int = 1,
          load: Callable[[Path | None], Any] = datasets.mnist,
          outside: bool = False) -> tuple[argparse.Namespace, Any]:
    """The flags' values and the data that they name, ``load(--data)``.

    Sets the backend and makes the folder ``--out``. ``batches_per_step`` is the largest number of batches
    that one step of a model takes, all of different images. With ``outside``, all pictures below ``--data``
    are data, so that ``--out`` has to be elsewhere. A value that cannot be used ends the program: one line,
    status 2.
    """
    values = flags.parse_args(arguments)
    if outside and values.data:
        refuse_inside(flags, values.out, values.data)
    try:
        backend.use("cupy" if values.gpu else backend.name())      # the environment may name one that fails
        backend.choose_device(ranks.on_machine())
        threads.use(values.threads)
        data = load(values.data)
    except (backend.BackendError, MemoryError, OSError, ValueError) as error:
        flags.error(_words(error))
    most = len(data.train_images) // batches_per_step
    if values.batch_size > most:
        flags.error(f"argument --batch-size: at most {most} expected with these {len(data.train_images)} "
                    f"images, {values.batch_size} found")
    make_output(flags, values.out)
    return values, data


def refuse_inside(flags: Parser, out: Path, data: Path) -> None:
    """End the program if ``out`` is in ``data``, a folder all of whose pictures are data: one line, status
    2."""
    if out.resolve().is_relative_to(data.resolve()):
        flags.error(f"argument --out: a folder outside of {data} expected, where its figures would count as "
                    f"data, {out} found")


def make_output(flags: Parser, out: Path) -> None:
    """Make the folder ``out``; if it cannot be written to, the program ends: one line, status 2."""
    try:
        storage.make_folder(out)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        flags.error(f"argument --out: cannot write to {out}: {error.strerror}")


def run(main: Callable[[], Any], again: str = "--resume") -> NoReturn:
    """Call ``main`` and exit. From now on, Ctrl-C raises KeyboardInterrupt, unless it is ignored.

    After an interruption, the message says that ``again`` resumes the training.

    The status is 0 at the end, 1 if training diverged or one of several runs failed, 128 + the signal's
    number if one ended the program (130 for Ctrl-C, 143 for SIGTERM), 2 for other failures. Those are
    arguments and runs that cannot be used, batches that cannot be loaded, files that cannot be read or
    written, and too little memory. Each is reported in one line, as are warnings.
    """
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.formatwarning = _one_line
    if ranks.rank():
        sys.stdout = open(os.devnull, "w")      # the first rank prints
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")       # a console without \xe9 still gets the table
    try:
        main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:         # nobody reads on, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())     # for what Python flushes at exit
        sys.exit(141)               # as of a program that SIGPIPE ended
    except KeyboardInterrupt as interrupt:
        _say(f"\n{interrupt}: {again} goes on" if str(interrupt) else "\ninterrupted")
        sys.exit(128 + getattr(interrupt, "signal", signal.SIGINT))
    except (training.Diverged, workers.Failed) as error:
        _say(f"training stopped: {error}")
        sys.exit(1)
    except (training.ArgumentError, training.RunError, training.LoadError, backend.BackendError, MemoryError,
            OSError, Warning) as error:         # ``python -W error`` raises warnings
        # A file is named where it is used; Python names no stream.
        nameless = isinstance(error, OSError) and error.errno is not None and error.filename is None
        _say("standard output: " * nameless + _words(error))
        sys.exit(2)
    sys.exit(0)


def _one_line(message: Warning | str, *where: Any) -> str:
    return f"warning: {message}\n"


def _say(message: str) -> None:
    """Print the message on stderr, if there is one; all ranks but the first say who they are."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"rank {ranks.rank()}: {message}" if ranks.rank() else message, file=sys.stderr)


def _words(error: BaseException) -> str:
    return f"not enough memory: {error}".rstrip(": ") if isinstance(error, MemoryError) else str(error)


def path(text: str) -> Path:
    """The type of a flag: a path, in which ``~`` is the user's folder."""
    try:
        return storage.expand("path", text)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def setting(text: str) -> tuple[str, list[Any]]:
    """The type of a flag: NAME=VALUE,... with numbers, True, False, None, or text as values."""
    name, equals, values = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"NAME=VALUE expected, {_short(repr(text))} found")
    found = [_value(value) for value in values.split(",")]
    if len({*found}) < len(found):
        raise argparse.ArgumentTypeError(f"different values expected, {_short(repr(text))} found")
    return name, found


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, (int, float, str, type(None))) else text


class _Settings(argparse.Action):
    """Collects the settings in a dict."""

    def __call__(self, flags: argparse.ArgumentParser, values: argparse.Namespace, new: Any,
                 name: str | None = None) -> None:
        key, found = new
        if key in values.set:
            flags.error(f"argument --set: {key} once expected, with all its values: {key}=VALUE,VALUE")
        values.set = {**values.set, key: found}


def positive_int(text: str) -> int:
    """The type of a flag: a whole number, at least 1."""
    return _between(1, _whole(text), _MOST)


def non_negative_int(text: str) -> int:
    """The type of a flag: a whole number, at least 0."""
    return _between(0, _whole(text), _MOST)


def finite_float(text: str) -> float:
    """The type of a flag: a number whose size float32 can work with."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"a finite number expected, {_short(repr(text))} found")
    return _between(-_LARGEST, value, _LARGEST)


def non_negative_float(text: str) -> float:
    """The type of a flag: a number of at least 0."""
    return _between(0, finite_float(text), _LARGEST)


def positive_float(text: str) -> float:
    """The type of a flag: a number above 0."""
    value = finite_float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"a number above 0 expected, {value} found")
    return value


def _whole(text: str) -> int:
    try:
        return int(text.replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number expected, {_short(repr(text))} found") from None


def _between(least: float, value: Any, most: float) -> Any:
    if value < least:
        raise argparse.ArgumentTypeError(f"at least {least:,} expected, {_short(str(value))} found")
    if value > most:
        raise argparse.ArgumentTypeError(f"at most {most:,} expected, {_short(str(value))} found")
    return value


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN - 3] + "..."
