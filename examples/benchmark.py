"""Training steps of all models against PyTorch's, the cost of one small op, and the share of the machine's sgemm peak.

Both libraries train the same networks on MNIST with the same batch size on the same processor cores, each in processes of its own
and in turns; times are medians, after so many steps (--warm-up) that Adam's first moments of weights that have lost their gradient
have decayed: into subnormal numbers, where nobody prevents it. PyTorch is written the usual way (``benchmark_torch.py``).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import benchmark_convolution
import numpy

from benchmark_processes import Contender, in_turns

from minigen import Tensor, datasets, grad, models, ops

BATCH = 64
SHUFFLED = 50       # batches that are put together at once
MODELS = {"GAN": models.GAN, "WGAN": models.WGAN, "VAE": models.VAE, "VAE-GAN": models.VAEGAN,
          "constrained": models.ConstrainedVAEGAN}


def batches(name):
    """MNIST without end, in the batches of one step of the model."""
    images, size = datasets.mnist().train_images, BATCH * MODELS[name]().batches_per_step
    rng = numpy.random.default_rng(0)
    while True:
        order = rng.permutation(len(images))[:SHUFFLED * size]
        yield from images[order].reshape(-1, size, images.shape[1])


def minigen():
    def make(name):
        model, rng, images = MODELS[name](), numpy.random.default_rng(0), batches(name)
        return lambda: model.step(next(images), rng)
    return make


def pytorch(implementation, flush):
    import benchmark_torch
    return benchmark_torch.mnist(batches, BATCH, implementation, flush)


def compare(seconds, warm_up, with_torch):
    """For each model, milliseconds per training step of minigen and of PyTorch, and the latter by the former.

    Of PyTorch: with the optimisers as they come, with the faster of these and their other implementations, and with these and
    subnormal numbers taken for 0, which PyTorch does if asked to.
    """
    contenders = {"minigen": Contender(minigen)}
    if with_torch:
        as_they_come, faster = {"Adam": {}, "RMSprop": {}}, {"Adam": {"fused": True}, "RMSprop": {"foreach": True}}
        contenders |= {"default": Contender(pytorch, as_they_come, False), "faster": Contender(pytorch, faster, False),
                       "flushed": Contender(pytorch, faster, True)}
    result = {}
    for name in MODELS:
        times = in_turns(contenders, name, seconds, warm_up)
        minigen_ms, default, flushed = times["minigen"], times.get("default"), times.get("flushed")
        torch_ms = default and min(default, times["faster"])
        result[name.lower().replace("-", "")] = {
            "minigen_ms": minigen_ms, "torch_ms": torch_ms, "ratio": torch_ms and torch_ms / minigen_ms,
            "torch_default_ms": default, "torch_flushed_ms": flushed, "flushed_ratio": flushed and flushed / minigen_ms}
    for one in contenders.values():
        one.close()
    return result


def median_ms(work, seconds):
    times, end = [], time.perf_counter() + seconds
    work()
    while (start := time.perf_counter()) < end or not times:
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def op_us(seconds):
    """Microseconds per op at 4 x 4, in a chain of 60: forward, and forward with the gradient in all three inputs."""
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
    a = numpy.ones((n, n), "float32")
    return 2e-6 * n ** 3 / median_ms(lambda: a @ a, seconds)


def step_gflop(model):
    """The multiplications and additions in the matrix products of one training step, in units of 10^9."""
    def products(network):
        shapes = [p.shape for p in network.parameters() if len(p.shape) == 2]
        return [2e-9 * n_in * n_out for n_in, n_out in shapes]
    first, *rest = (products(network) for network in model.networks.values())
    learn = 3 * sum(first) - first[0]                       # no gradient in the images
    if isinstance(model, models.VAE):
        decoder = 3 * sum(rest[0])
        if len(rest) == 1:
            return BATCH * (learn + decoder)
        D = rest[1]
        return BATCH * (learn + 2 * decoder + 2 * (3 * sum(D) - D[0]) + 2 * sum(D))
    generator = rest[0]
    through = 2 * sum(first) + 2 * sum(generator) - generator[0]
    passes = model.batches_per_step + (model.batches_per_step > 1)         # of G; WGAN makes its images for the critic apart
    return BATCH * (passes * sum(generator) + 2 * model.batches_per_step * learn + through)


def without_limits():
    """Start again without the variables that keep NumPy's products, but not PyTorch's, to an older processor's instructions."""
    limits = {name: os.environ[name] for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ}
    if limits:
        words = ", ".join(f"{name}={value}" for name, value in limits.items())
        print(f"{words}: set for NumPy's matrix products, not for PyTorch's; measured without", flush=True)
        rest = {name: value for name, value in os.environ.items() if name not in limits}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=rest).returncode)


def main():
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    flags.add_argument("--warm-up", type=int, default=1000, metavar="N", help="steps of each model before (default: 1000)")
    flags.add_argument("--seconds", type=float, default=8, metavar="S", help="time for each measurement (default: 8)")
    flags.add_argument("--widths", type=float, nargs="+", default=(0.25, 1.0), metavar="X",
                       help="widths of Larsen's networks (default: 0.25 1)")
    args = flags.parse_args()
    without_limits()

    with_torch = find_spec("torch") is not None
    peak = sgemm_gflops(args.seconds / 4)
    result = {"sgemm_gflops": peak, "op_us": op_us(args.seconds / 4), **compare(args.seconds, args.warm_up, with_torch)}
    print(f"milliseconds per training step, batch {BATCH}; sgemm peak {peak:.0f} GFLOP/s")
    print(f"{'':12}{'minigen':>9}{'of the peak':>13}{'PyTorch':>9}{'ratio':>7}"
          f"{'default optimiser':>19}{'flushing':>10}{'ratio':>7}")
    for name, model in MODELS.items():
        row = result[name.lower().replace("-", "")]
        row["peak_share"] = step_gflop(model()) / row["minigen_ms"] * 1e3 / peak
        columns = (("torch_ms", "9.2f"), ("ratio", "7.2f"), ("torch_default_ms", "19.2f"), ("torch_flushed_ms", "10.2f"),
                   ("flushed_ratio", "7.2f"))
        print(f"{name:12}{row['minigen_ms']:9.2f}{row['peak_share']:13.0%}"
              + "".join(benchmark_convolution.cell(row[key], form) for key, form in columns))
    costs = result["op_us"]
    print(f"microseconds per op at 4 x 4: {costs['forward']:.2f} forward, {costs['forward_backward']:.2f} forward and backward")
    convolution = benchmark_convolution.measure(args.widths, args.seconds, with_torch=with_torch)
    benchmark_convolution.report(convolution)
    result |= convolution
    if not with_torch:
        print("PyTorch is not installed (pip install torch): minigen's own figures only")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
