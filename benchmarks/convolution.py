"""Larsen's VAE-GAN against PyTorch: a training step, each layer forward and backward, and the peak memory.

PyTorch runs once in each memory format, and the better run counts. The convolutions are also compared with
plain ones, which copy the patches of the whole batch. Part of ``benchmark.py``.
"""

import numpy
from processes import Contender, in_turns

from minigen import Op, Tensor, grad, models, networks, nn

BATCH = 64
LATENT = 128

# A scalar whose value does not matter and whose gradient with respect to y is g. It makes the layer the only
# thing that is timed: PyTorch, too, is given g.
from_gradient = Op("from_gradient(y, g)", lambda y, g: numpy.zeros((), y.dtype), lambda one, scalar, y, g: g)


def layers(width):
    """The kind and the shape of each distinct layer in the networks of this width, by name.

    The shape is the height and the width of the images that go in, if any, and the numbers of channels or
    units that go in and out.
    """
    a, b, c, d, units, d_units = map(networks.Larsen(width).scaled, (32, 64, 128, 256, 1024, 512))
    return {"encoder conv 1": ("conv2", 64, 64, 3, b),
            "encoder conv 2": ("conv2", 32, 32, b, c),
            "encoder conv 3": ("conv2", 16, 16, c, d),
            "encoder linear": ("linear", 64 * d, units),
            "decoder linear": ("linear", LATENT, 64 * d),
            "decoder transposed 1": ("transposed", 8, 8, d, d),
            "decoder transposed 2": ("transposed", 16, 16, d, c),
            "decoder transposed 3": ("transposed", 32, 32, c, a),
            "decoder conv": ("conv1", 64, 64, a, 3),
            "discriminator conv 1": ("conv1", 64, 64, 3, a),
            "discriminator conv 2": ("conv2", 64, 64, a, c),
            "discriminator conv 3": ("conv2", 32, 32, c, d),
            "discriminator conv 4": ("conv2", 16, 16, d, d),
            "discriminator linear": ("linear", 64 * d, d_units),
            "BatchNorm": ("norm", 32, 32, c, c)}


def images():
    """A batch of noise (BATCH, 64, 64, 3) in [0, 1]."""
    return numpy.random.default_rng(1).random((BATCH, 64, 64, 3), dtype="float32")


# minigen

def minigen_larsen(width):
    """A function from a name to work in minigen.

    ``"step"`` is the training step, a layer's name its passes forward and backward.
    """
    def make(name):
        return minigen_step(width) if name == "step" else minigen_layer(*layers(width)[name])
    return make


def larsen(width):
    return models.VAEGAN(architecture="larsen", width=width, latent=LATENT, outputs=1,
                         learned_similarity=True)


def minigen_step(width):
    model, rng, batch = larsen(width), numpy.random.default_rng(0), images()
    return lambda: model.step(batch, rng)


def minigen_layer(kind, *shape):
    *sizes, n_in, n_out = shape
    rng = numpy.random.default_rng(0)
    x = Tensor(rng.standard_normal((BATCH, *sizes, n_in), dtype="float32"))
    layer = build_layer(kind, n_in, n_out, rng)
    g = rng.standard_normal(layer(x).shape, dtype="float32")
    return lambda: grad(from_gradient(layer(x), g), [x, *layer.parameters()])


def build_layer(kind, n_in, n_out, rng):
    """A layer of minigen of this kind; the digit in a convolution's kind is the stride."""
    if kind == "linear":
        return nn.Linear(n_in, n_out, rng=rng, bias=False)
    if kind == "norm":
        return nn.BatchNorm(n_out)
    if kind == "transposed":
        return nn.ConvTranspose2d(n_in, n_out, 5, stride=2, padding=2, output_padding=1, bias=False, rng=rng)
    return nn.Conv2d(n_in, n_out, 5, stride=int(kind[-1]), padding=2, bias=False, rng=rng)


# The plain convolutions

def plain_larsen(width):
    """A function from a layer's name to its passes in plain NumPy."""
    def make(name):
        return plain_layer(*layers(width)[name])
    return make


def plain_layer(kind, *shape):
    """A convolution, forward and backward, by the patches of the whole batch; None for other layers.

    A transposed one consists of the same three products, with the roles of image and output exchanged.
    """
    if kind in ("linear", "norm"):
        return None
    *sizes, n_in, n_out = shape
    if kind == "transposed":
        return plain_convolution([2 * size for size in sizes], n_out, n_in, stride=2)
    return plain_convolution(sizes, n_in, n_out, stride=int(kind[-1]))


def plain_convolution(sizes, n_in, n_out, stride):
    rng = numpy.random.default_rng(0)
    x = rng.standard_normal((BATCH, *sizes, n_in), dtype="float32")
    w = rng.standard_normal((25 * n_in, n_out), dtype="float32")
    rows, columns = (-(-size // stride) for size in sizes)
    g = rng.standard_normal((BATCH * rows * columns, n_out), dtype="float32")

    def forward_backward():
        padded = numpy.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        windows = numpy.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
        windows = windows[:, ::stride, ::stride]
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


# PyTorch

def pytorch_larsen(width, memory_format):
    """A function from a name to work in PyTorch, as in ``minigen_larsen``."""
    import pytorch
    import torch
    chosen = getattr(torch, memory_format)

    def make(name):
        if name == "step":
            return pytorch.larsen_step(2 * images() - 1, width, LATENT, chosen)
        return pytorch.layer(BATCH, chosen, *layers(width)[name])
    return make


# The figures

def measure(widths, seconds, with_torch):
    """The figures of each width: the step in ``celeba``, each layer in ``layers``, by the width's name."""
    result = {"celeba": {}, "layers": {}}
    for width in widths:
        key = f"width_{width:g}"
        result["celeba"][key], result["layers"][key] = measure_width(width, seconds, with_torch)
    return result


def measure_width(width, seconds, with_torch):
    """The figures of the step and those of each layer, by name."""
    contenders = {"minigen": Contender(minigen_larsen, width)}
    if with_torch:
        contenders |= {memory_format: Contender(pytorch_larsen, width, memory_format)
                       for memory_format in ("channels_last", "contiguous_format")}
    step = row(in_turns(contenders, "step", 2 * seconds, warm_up=1))
    peaks = {library: contender.ask("peak") for library, contender in contenders.items()}
    step["minigen_mb"] = peaks.pop("minigen")
    step["torch_mb"] = min(peaks.values(), default=None)
    contenders["plain"] = Contender(plain_larsen, width)
    table = {name: row(in_turns(contenders, name, seconds / 5, warm_up=2)) for name in layers(width)}
    for contender in contenders.values():
        contender.close()
    convolutions = [entry for entry in table.values() if "plain_ms" in entry]
    step["plain_ratio"] = (sum(entry["plain_ms"] for entry in convolutions)
                           / sum(entry["minigen_ms"] for entry in convolutions))
    return step, table


def row(times):
    """The figures of a step or of a layer from the times of its contenders."""
    minigen_ms, plain_ms = times.pop("minigen"), times.pop("plain", None)
    torch_ms = min(times.values(), default=None)
    found = {"minigen_ms": minigen_ms, "torch_ms": torch_ms, "ratio": torch_ms and torch_ms / minigen_ms}
    return found | ({"plain_ms": plain_ms} if plain_ms else {})


def cell(value, form):
    """A number in its column, or a dash if there is none."""
    return f"{value:{form}}" if value else f"{'-':>{form.split('.')[0]}}"


def report(result):
    """Print what ``measure`` returned."""
    for key, step in result["celeba"].items():
        print(f"\nLarsen's VAE-GAN, {key.replace('_', ' ')}, batch {BATCH}: milliseconds")
        print(f"{'':24}{'minigen':>9}{'PyTorch':>9}{'ratio':>7}{'plain':>9}")
        for name, entry in {"training step": step, **result["layers"][key]}.items():
            print(f"{name:24}{entry['minigen_ms']:9.1f}{cell(entry['torch_ms'], '9.1f')}"
                  f"{cell(entry['ratio'], '7.2f')}{cell(entry.get('plain_ms'), '9.1f')}")
        print(f"peak memory in MB: {step['minigen_mb']:.0f}, PyTorch {cell(step['torch_mb'], '.0f')}; "
              f"the convolutions are {step['plain_ratio']:.1f} times as fast as the plain ones")
