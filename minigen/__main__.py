"""``python -m minigen``: tables of runs, what a run is, and images of a trained model."""

from __future__ import annotations

import argparse
import re
import signal
from collections.abc import Sequence
from typing import Any

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)    # during the imports, Ctrl-C is no traceback

from minigen import checks, cli, figures, storage, tables, training
from minigen.core import to_host
from minigen.training.loading import build
from minigen.version import __version__

_NEXT = """
`python -m minigen ACTION -h` says more about each. Runs are trained by the examples, such as `python
examples/mnist_gan_vs_wgan.py`, or by training.train; in Python, training.load(RUN) returns the trained model.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the arguments say, by default those of the command line."""
    args = _flags().parse_args(arguments)
    args.action(args)


def _flags() -> cli.Parser:
    flags = cli.Parser(prog="python -m minigen", epilog=_NEXT,
                       description="Tables of runs, what a run is, and images of a trained model.")
    flags.add_argument("--version", action="version", version=f"minigen {__version__}")
    flags.set_defaults(action=lambda args: flags.print_help())
    actions = flags.add_subparsers(metavar="ACTION")

    table = actions.add_parser("table", help="mean, deviation and 95 %% interval of metrics", description=(
        "Metrics of runs: mean, standard deviation and 95 % interval of each group of runs that differ only "
        "in their seeds."))
    table.set_defaults(action=_table)
    table.add_argument("runs", nargs="+", type=cli.path, metavar="RUN",
                       help="a run directory, or a folder with run directories below it, such as an "
                       "example's --out")
    table.add_argument("--format", choices=list(tables.FORMATS), default="text", help="text is the default")
    table.add_argument("--metrics", type=_names, default=[], metavar="NAME,NAME",
                       help="these metrics, in this order (default: all)")
    table.add_argument("--iteration", type=cli.positive_int, metavar="N",
                       help="metrics that were logged at this iteration (default: the last of each run)")

    info = actions.add_parser("info", help="what a run is, and how far it has come",
                              description="What a run is, and how far it has come.")
    info.set_defaults(action=_info)
    info.add_argument("run", type=cli.path, metavar="RUN", help="a run directory")

    sample = actions.add_parser("sample", help="images of a trained model", description=(
        "Generate images with the model of a run, as a grid in a PNG file; or points, in an .npz file."))
    sample.set_defaults(action=_sample)
    sample.add_argument("run", type=cli.path, metavar="RUN", help="a run directory")
    sample.add_argument("--out", type=cli.path, required=True, metavar="FILE",
                        help="the file to write, .png for images, .npz for points")
    sample.add_argument("--n", type=cli.positive_int, default=64, metavar="N", help="images (default: 64)")
    sample.add_argument("--seed", type=cli.non_negative_int, default=0, metavar="N",
                        help="seed of the latents (default: 0)")
    sample.add_argument("--iteration", type=cli.positive_int, metavar="N",
                        help="the checkpoint of this iteration (default: the newest)")
    sample.add_argument("--shape", type=_shape, metavar="HxW[xC]",
                        help="height, width and channels of images that are rows of pixels (default: square "
                        "and grey)")
    return flags


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}(x[13])?", text):
        raise argparse.ArgumentTypeError("HEIGHTxWIDTH, such as 32x16, or HEIGHTxWIDTHx3 expected, "
                                         f"{checks.shown(text)} found")
    return tuple(map(int, text.split("x")))


def _table(args: argparse.Namespace) -> None:
    groups = tables.group(tables.find(args.runs), args.iteration)
    print(tables.make(groups, args.metrics, args.format), end="")


def _info(args: argparse.Namespace) -> None:
    run = training.Run(args.run)
    config = run.config()
    saved = [iteration for iteration, _ in reversed(run.checkpoints())]
    metrics = (run.metrics() or [{"iteration": "none yet"}])[-1]
    try:
        networks = {name: f"{sum(parameter.size for parameter in network.parameters()):,}"
                    for name, network in build(run).networks.items()}
    except training.RunError as error:      # a class of the user's own
        networks = {"unknown": str(error)}
    print(_aligned({
        "run": {
            "folder": run.folder, "model": config["model"],
            "iteration": f"{saved[-1] if saved else 0} of {config['iterations']}",
            "checkpoints": ", ".join(map(str, saved)) or "none yet", "seed": config["seed"],
            "batch size": config["batch_size"], "data": config["data"], "prepare": config["prepare"]},
        "settings": config["settings"],
        "parameters": networks,
        "last metrics": {name: f"{value:.6g}" if isinstance(value, float) else value
                         for name, value in metrics.items()},
        "environment": config["environment"]}), end="")


def _aligned(blocks: dict[str, dict[str, Any]]) -> str:
    """Each block's title, and its names and values in two columns, the same ones in all."""
    width = max(len(name) for block in blocks.values() for name in block)
    texts = ["".join(f"  {name.ljust(width)}  {value}\n" for name, value in block.items())
             for block in blocks.values()]
    return "\n".join(f"{title}\n{text}" for title, text in zip(blocks, texts))


def _sample(args: argparse.Namespace) -> None:
    model = training.load(args.run, iteration=args.iteration)
    architecture = model.build()
    points = architecture is not None and not architecture.pictures
    kind, suffix = ("points", ".npz") if points else ("images", ".png")
    if args.out.suffix != suffix:
        raise training.ArgumentError(f"argument --out: a name in {suffix} expected, for the model's {kind}, "
                                     f"{args.out} found")
    if points and args.shape:
        raise training.ArgumentError("argument --shape: points have none")
    generated = to_host(model.sample(args.n, args.seed))
    if points:
        storage.save(args.out, {"points": generated})
    else:
        try:
            with storage.replacing(args.out) as file:
                figures.save_grid(file, generated, shape=args.shape)
        except ValueError as error:
            raise training.ArgumentError(f"argument --shape: {error}") from error
    print(f"{args.out}: {args.n} {kind}")


if __name__ == "__main__":
    cli.run(main)
