"""Larsen's VAE-GAN against PyTorch: a training step, each layer forward and backward, and the peak memory.

PyTorch works once per memory format, and the better one counts. The convolutions are also compared with a plain one, which copies
the patches of the whole batch. Part of ``benchmark.py``.
"""

import numpy
from benchmark_processes import Contender, in_turns

from minigen import Op, Tensor, grad, models, networks, nn

BATCH = 64
SETTINGS = {"latent": 128, "outputs": 1, "learned_similarity": True}


# A scalar whose gradient in y is g, of whatever value: what is measured is the layer, to which PyTorch is given g as well.
from_gradient = Op("from_gradient(y, g)", lambda y, g: numpy.zeros((), y.dtype), lambda one, scalar, y, g: g)


# What each library makes: a training step, and a layer forward and backward.

def minigen_step(width):
    model, rng = models.VAEGAN(width=width, **SETTINGS), numpy.random.default_rng(0)
    images = images_of(numpy.random.default_rng(1))
    return lambda: model.step(images, rng)


def minigen_layer(kind, *shape):
    rng = numpy.random.default_rng(0)
    sizes, (n_in, n_out) = shape[:-2], shape[-2:]
    x = Tensor(rng.standard_normal((BATCH, *sizes, n_in), dtype="float32"))
    layer = {"conv": lambda stride: nn.Conv2d(n_in, n_out, 5, rng, stride, 2, bias=False),
             "transposed": lambda: nn.ConvTranspose2d(n_in, n_out, 5, rng, 2, 2, 1, bias=False),
             "linear": lambda: nn.Linear(n_in, n_out, rng, bias=False), "norm": lambda: nn.BatchNorm(n_out)}
    layer = layer["conv"](int(kind[-1])) if kind.startswith("conv") else layer[kind]()
    g = rng.standard_normal(layer(x).shape, dtype="float32")
    return lambda: grad(from_gradient(layer(x), g), [x, *layer.parameters()])


def plain_layer(kind, *shape):
    """A convolution, forward and backward, by the patches of the whole batch; None for other layers.

    A transposed one is the same three products with the roles of image and output exchanged.
    """
    if kind in ("linear", "norm"):
        return None
    *sizes, n_in, n_out = shape
    stride = 2 if kind == "transposed" else int(kind[-1])
    if kind == "transposed":
        sizes, n_in, n_out = [2 * size for size in sizes], n_out, n_in
    rng = numpy.random.default_rng(0)
    x, w = (rng.standard_normal(s, dtype="float32") for s in ((BATCH, *sizes, n_in), (25 * n_in, n_out)))
    rows, columns = (-(-size // stride) for size in sizes)
    g = rng.standard_normal((BATCH * rows * columns, n_out), dtype="float32")

    def forward_backward():
        padded = numpy.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        windows = numpy.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))[:, ::stride, ::stride]
        patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 25 * n_in)
        y = patches @ w
        dw = patches.T @ g
        back = (g @ w.T).reshape(BATCH, rows, columns, 5, 5, n_in)
        dx = numpy.zeros_like(padded)
        for i in range(5):
            for j in range(5):
                dx[:, i:i + stride * rows:stride, j:j + stride * columns:stride] += back[:, :, :, i, j]
        return y, dw, dx[:, 2:-2, 2:-2]
    return forward_backward


def images_of(rng):
    return rng.uniform(-1, 1, (BATCH, 64, 64, 3)).astype("float32")


def layers(width):
    """What each distinct layer of the networks of this width is called, and what it does."""
    a, b, c, d, units, d_units = map(networks.Larsen(width).scaled, (32, 64, 128, 256, 1024, 512))
    latent = SETTINGS["latent"]
    return {"encoder conv 1": ("conv2", 64, 64, 3, b), "encoder conv 2": ("conv2", 32, 32, b, c),
            "encoder conv 3": ("conv2", 16, 16, c, d), "encoder linear": ("linear", 64 * d, units),
            "decoder linear": ("linear", latent, 64 * d), "decoder transposed 1": ("transposed", 8, 8, d, d),
            "decoder transposed 2": ("transposed", 16, 16, d, c), "decoder transposed 3": ("transposed", 32, 32, c, a),
            "decoder conv": ("conv1", 64, 64, a, 3), "discriminator conv 1": ("conv1", 64, 64, 3, a),
            "discriminator conv 2": ("conv2", 64, 64, a, c), "discriminator conv 3": ("conv2", 32, 32, c, d),
            "discriminator conv 4": ("conv2", 16, 16, d, d), "discriminator linear": ("linear", 64 * d, d_units),
            "BatchNorm": ("norm", 32, 32, c, c)}


def minigen(width):
    def make(name):
        return minigen_step(width) if name == "step" else minigen_layer(*layers(width)[name])
    return make


def plain(width):
    def make(name):
        return plain_layer(*layers(width)[name])
    return make


def pytorch(width, memory_format):
    import benchmark_torch
    import torch
    chosen = getattr(torch, memory_format)

    def make(name):
        if name == "step":
            return benchmark_torch.larsen_step(images_of(numpy.random.default_rng(1)), width, SETTINGS["latent"], chosen)
        return benchmark_torch.layer(BATCH, chosen, *layers(width)[name])
    return make


def row(times):
    minigen_ms, plain_ms = times.pop("minigen"), times.pop("plain", None)
    torch_ms = min(times.values(), default=None)
    found = {"minigen_ms": minigen_ms, "torch_ms": torch_ms, "ratio": torch_ms and torch_ms / minigen_ms}
    return found | ({"plain_ms": plain_ms} if plain_ms else {})


def measure(widths, seconds, with_torch):
    """The figures of each of the ``widths``: ``celeba``, the step, and ``layers``, each layer, by the width's name."""
    result = {"celeba": {}, "layers": {}}
    for width in widths:
        key = f"width_{width:g}"
        contenders = {"minigen": Contender(minigen, width)}
        if with_torch:
            contenders |= {layout: Contender(pytorch, width, layout) for layout in ("channels_last", "contiguous_format")}
        step = row(in_turns(contenders, "step", 2 * seconds, warm_up=1))
        peaks = {library: one.ask("peak") for library, one in contenders.items()}
        step["minigen_mb"] = peaks.pop("minigen")
        step["torch_mb"] = min(peaks.values(), default=None)
        contenders["plain"] = Contender(plain, width)
        table = {name: row(in_turns(contenders, name, seconds / 5, warm_up=2)) for name in layers(width)}
        for one in contenders.values():
            one.close()
        convolutions = [entry for entry in table.values() if "plain_ms" in entry]
        step["plain_ratio"] = sum(entry["plain_ms"] for entry in convolutions) / sum(entry["minigen_ms"] for entry in convolutions)
        result["celeba"][key], result["layers"][key] = step, table
    return result


def cell(value, form):
    """A number in its column, or a dash where there is none."""
    return f"{value:{form}}" if value else f"{'-':>{form.split('.')[0]}}"


def report(result):
    """Print what ``measure`` returned."""
    for key, step in result["celeba"].items():
        print(f"\nLarsen's VAE-GAN, {key.replace('_', ' ')}, batch {BATCH}: milliseconds")
        print(f"{'':24}{'minigen':>9}{'PyTorch':>9}{'ratio':>7}{'plain':>9}")
        for name, entry in {"training step": step, **result["layers"][key]}.items():
            print(f"{name:24}{entry['minigen_ms']:9.1f}{cell(entry['torch_ms'], '9.1f')}{cell(entry['ratio'], '7.2f')}"
                  f"{cell(entry.get('plain_ms'), '9.1f')}")
        print(f"peak memory in MB: {step['minigen_mb']:.0f}, PyTorch {cell(step['torch_mb'], '.0f')}; "
              f"the convolutions are {step['plain_ratio']:.1f} times as fast as the plain ones")
