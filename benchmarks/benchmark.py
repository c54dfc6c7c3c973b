"""Benchmark the models against PyTorch: training steps, one small op, and the share of the sgemm peak.

Both libraries train the same networks on MNIST with the same batch size on the same processor cores, each in
processes of its own, in turns. Times are medians, taken after --warm-up steps. By default that is long enough
for Adam's first moments of weights that have lost their gradient to decay into subnormal numbers, unless the
library prevents it. The PyTorch code is written in the usual way (``pytorch.py``).
"""

import json
import os
import statistics
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import convolution
import gpu
import numpy
from processes import Contender, in_turns, neighbour

from minigen import Tensor, backend, cli, datasets, grad, models, ops

BATCH = 64
SHUFFLED = 50       # batches that are put together at once
MODELS = {"GAN": models.GAN, "WGAN": models.WGAN, "VAE": models.VAE, "VAE-GAN": models.VAEGAN,
          "constrained": models.ConstrainedVAEGAN}


def key(name):
    """The JSON key of a model's name."""
    return name.lower().replace("-", "")


# The training steps on MNIST

def batches(name):
    """MNIST without end, in arrays that each hold the images of one step of the model."""
    images, size = datasets.mnist().train_images, BATCH * MODELS[name]().batches_per_step
    rng = numpy.random.default_rng(0)
    while True:
        order = rng.permutation(len(images))[:SHUFFLED * size]
        yield from images[order].reshape(-1, size, images.shape[1])


def minigen_mnist():
    """A function from a model's name to its training step in minigen."""
    def make(name):
        model, rng, images = MODELS[name](), numpy.random.default_rng(0), batches(name)
        return lambda: model.step(backend.to_device(next(images)), rng)
    return make


def pytorch_mnist(implementation, flush):
    """A function from a model's name to its training step in PyTorch; ``pytorch.mnist`` has the arguments."""
    import pytorch
    return pytorch.mnist(batches, BATCH, implementation, flush)


def jax_mnist():
    """A function from a model's name to its training step in JAX."""
    import jax_side
    return jax_side.mnist(batches, BATCH)


def mnist_contenders(with_torch):
    """minigen, PyTorch with three choices of its optimisers, and JAX if it is installed.

    "default" takes the optimisers as they come, "faster" their other implementations, and "flushed" these and
    subnormal numbers treated as 0, which PyTorch does if asked to.
    """
    contenders = {"minigen": Contender(minigen_mnist)}
    if with_torch:
        default = {"Adam": {}, "RMSprop": {}}
        other = {"Adam": {"fused": True}, "RMSprop": {"foreach": True}}
        contenders |= {"default": Contender(pytorch_mnist, default, False),
                       "faster": Contender(pytorch_mnist, other, False),
                       "flushed": Contender(pytorch_mnist, other, True)}
    if find_spec("jax"):
        contenders["jax"] = Contender(jax_mnist)
    return contenders


def compare(seconds, warm_up, with_torch):
    """For each model, the milliseconds per training step of minigen and of PyTorch, and PyTorch's divided by
    minigen's.

    ``torch_ms`` is with the faster implementation of each optimiser. The ``busy`` times are those beside a
    program that keeps a core busy.
    """
    contenders = mnist_contenders(with_torch)
    result = {}
    for name in MODELS:
        times = in_turns(contenders, name, seconds, warm_up)
        with neighbour():
            busy = in_turns(contenders, name, seconds, warm_up=0)
        minigen_ms, default, flushed = times["minigen"], times.get("default"), times.get("flushed")
        torch_ms = default and min(default, times["faster"])
        result[key(name)] = {
            "minigen_ms": minigen_ms, "torch_ms": torch_ms, "ratio": torch_ms and torch_ms / minigen_ms,
            "torch_default_ms": default, "torch_flushed_ms": flushed,
            "flushed_ratio": flushed and flushed / minigen_ms,
            "jax_ms": times.get("jax"), "minigen_busy_ms": busy["minigen"],
            "torch_busy_ms": busy.get("flushed")}
    for contender in contenders.values():
        contender.close()
    return result


# Small ops and large products

def median_ms(work, seconds):
    """The median milliseconds per call of ``work`` within ``seconds``, after one call."""
    times, end = [], time.perf_counter() + seconds
    work()
    while (start := time.perf_counter()) < end or not times:
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def op_us(seconds):
    """The microseconds per op at 4 x 4 in a chain of 60.

    ``forward``, and ``forward_backward`` with the gradients with respect to all three inputs.
    """
    a, b, c = (Tensor(numpy.full((4, 4), value, "float32")) for value in (0.5, 0.9, 0.1))

    def forward():
        y = a
        for _ in range(20):
            y = ops.tanh(y * b + c)
        return y

    def forward_backward():
        return grad(ops.sum(forward()), [a, b, c])
    return {"forward": 1e3 / 60 * median_ms(forward, seconds),
            "forward_backward": 1e3 / 61 * median_ms(forward_backward, seconds)}


def sgemm_gflops(seconds, n=2048):
    """The 10^9 operations per second of a float32 product of two (n, n) matrices."""
    a = numpy.ones((n, n), "float32")
    return 2e-6 * n ** 3 / median_ms(lambda: a @ a, seconds)


def step_gflop(model):
    """The multiplications and additions in the matrix products of one training step, in units of 10^9."""
    def products(network):
        shapes = [p.shape for p in network.parameters() if len(p.shape) == 2]
        return [2e-9 * n_in * n_out for n_in, n_out in shapes]
    first, *rest = (products(network) for network in model.networks.values())
    learn = 3 * sum(first) - first[0]                       # no gradient with respect to the images
    if isinstance(model, models.VAE):
        decoder = 3 * sum(rest[0])
        if len(rest) == 1:
            return BATCH * (learn + decoder)
        D = rest[1]
        return BATCH * (learn + 2 * decoder + 2 * (3 * sum(D) - D[0]) + 2 * sum(D))
    generator = rest[0]
    through = 2 * sum(first) + 2 * sum(generator) - generator[0]
    # Passes of G: WGAN makes the images for the critic in a pass of their own.
    passes = model.batches_per_step + (model.batches_per_step > 1)
    return BATCH * (passes * sum(generator) + 2 * model.batches_per_step * learn + through)


# The program

def measure(seconds, warm_up, with_torch):
    """All figures but those of ``convolution``."""
    peak = sgemm_gflops(seconds / 4)
    result = {"sgemm_gflops": peak, "op_us": op_us(seconds / 4), **compare(seconds, warm_up, with_torch)}
    for name, model in MODELS.items():
        row = result[key(name)]
        row["peak_share"] = step_gflop(model()) / row["minigen_ms"] * 1e3 / peak
    return result


def report(result):
    """Print what ``measure`` returned."""
    print(f"milliseconds per training step, batch {BATCH}; sgemm peak {result['sgemm_gflops']:.0f} GFLOP/s")
    print(f"{'':12}{'minigen':>9}{'of the peak':>13}{'PyTorch':>9}{'ratio':>7}"
          f"{'default optimiser':>19}{'flushing':>10}{'ratio':>7}{'JAX':>9}"
          f"{'beside another program':>24}{'PyTorch':>9}")
    columns = {"torch_ms": "9.2f", "ratio": "7.2f", "torch_default_ms": "19.2f", "torch_flushed_ms": "10.2f",
               "flushed_ratio": "7.2f", "jax_ms": "9.2f", "minigen_busy_ms": "24.2f", "torch_busy_ms": "9.2f"}
    for name in MODELS:
        row = result[key(name)]
        print(f"{name:12}{row['minigen_ms']:9.2f}{row['peak_share']:13.0%}",
              *(convolution.cell(row[column], form) for column, form in columns.items()), sep="")
    costs = result["op_us"]
    print(f"microseconds per op at 4 x 4: {costs['forward']:.2f} forward, "
          f"{costs['forward_backward']:.2f} forward and backward")


def parse(arguments=None):
    """The values of the flags; a wrong one, or a file that cannot be written to, ends the program."""
    flags = cli.Parser(description="The training steps of minigen and of PyTorch.")
    flags.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    flags.add_argument("--warm-up", type=cli.non_negative_int, default=1000, metavar="N",
                       help="steps of each model before the measurement (default: 1000)")
    flags.add_argument("--seconds", type=cli.positive_float, default=8, metavar="S",
                       help="time for each measurement (default: 8)")
    flags.add_argument("--widths", type=cli.positive_float, nargs="+", default=(0.25, 1.0), metavar="X",
                       help="widths of Larsen's networks (default: 0.25 1)")
    flags.add_argument("--gpu", action="store_true",
                       help="the training steps on a GPU instead, also with TF32 allowed")
    args = flags.parse_args(arguments)
    if args.gpu:
        try:
            backend.use("cupy")
        except backend.BackendError as error:
            flags.error(f"argument --gpu: {error}")
    if args.json:
        check_writable(flags, "--json", args.json)
    return args


def check_writable(flags, name, path):
    """Leave the file as it is; if it cannot be written to, the program ends: one line, status 2."""
    new = not path.exists()
    try:
        path.open("a").close()
    except OSError as error:
        flags.error(f"argument {name}: cannot write to {path}: {error.strerror}")
    if new:
        path.unlink()


def without_limits():
    """Start again without the variables that limit NumPy's products, but not PyTorch's, to the instructions
    of an older processor."""
    limits = {name: os.environ[name] for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
              if name in os.environ}
    if limits:
        words = ", ".join(f"{name}={value}" for name, value in limits.items())
        print(f"{words}: set for NumPy's matrix products, not for PyTorch's; measured without", flush=True)
        rest = {name: value for name, value in os.environ.items() if name not in limits}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], rest)


def main():
    args = parse()
    without_limits()
    if args.gpu:
        result = gpu.measure(args.widths, args.seconds, args.warm_up, batches, BATCH, MODELS)
        gpu.report(result)
        with_torch = gpu.with_cuda()
    else:
        with_torch = find_spec("torch") is not None
        result = measure(args.seconds, args.warm_up, with_torch)
        report(result)
        larsen = convolution.measure(args.widths, args.seconds, with_torch)
        convolution.report(larsen)
        result |= larsen
    if not with_torch:
        print("PyTorch is not installed (pip install torch), or finds no GPU: minigen's own figures only"
              if args.gpu else "PyTorch is not installed (pip install torch): minigen's own figures only")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
