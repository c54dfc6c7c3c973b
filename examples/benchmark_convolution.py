"""Larsen's VAE-GAN against PyTorch: a training step, each layer forward and backward, and the peak memory.

Each library works in a process of its own, as when it is used, PyTorch once per memory format; they take turns, and of PyTorch the
better format counts. The convolutions are also compared with a plain one, which copies the patches of the whole batch.
Part of ``benchmark.py``.
"""

import multiprocessing
import resource
import statistics
import sys
import time

import numpy

from minigen import Tensor, grad, models, networks, nn, ops

BATCH = 64
WIDTHS = (0.25, 1.0)
SETTINGS = {"latent": 128, "outputs": 1, "learned_similarity": True}


# Each contender is the step (width -> function without arguments), and a layer forward and backward (layer -> the same).

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
    return lambda: grad(ops.sum(layer(x) * g), [x, *layer.parameters()])


def torch_networks(width):
    import torch.nn as T
    larsen = networks.Larsen(width)

    def down(n_in, n_out):
        return [T.Conv2d(n_in, n_out, 5, 2, 2, bias=False), T.BatchNorm2d(n_out), T.ReLU()]

    def dense(n_in, n_out):
        return [T.Linear(n_in, n_out, bias=False), T.BatchNorm1d(n_out), T.ReLU()]
    a, b, c, units = map(larsen.scaled, (64, 128, 256, 1024))
    latent = SETTINGS["latent"]
    encoder = T.Sequential(*down(3, a), *down(a, b), *down(b, c), T.Flatten(), *dense(64 * c, units), T.Linear(units, 2 * latent))
    a, b, c = map(larsen.scaled, (256, 128, 32))
    layers = [*dense(latent, 64 * a), T.Unflatten(1, (a, 8, 8))]
    for n_in, n_out in ((a, a), (a, b), (b, c)):
        layers += [T.ConvTranspose2d(n_in, n_out, 5, 2, 2, 1, bias=False), T.BatchNorm2d(n_out), T.ReLU()]
    decoder = T.Sequential(*layers, T.Conv2d(c, 3, 5, 1, 2), T.Tanh())
    a, b, c, units = map(larsen.scaled, (32, 128, 256, 512))
    features = T.Sequential(T.Conv2d(3, a, 5, 1, 2), T.ReLU(), *down(a, b), *down(b, c), T.Conv2d(c, c, 5, 2, 2, bias=False))
    head = T.Sequential(T.BatchNorm2d(c), T.ReLU(), T.Flatten(), *dense(64 * c, units), T.Linear(units, 1))
    return encoder, decoder, features, head


def torch_step(width, memory_format):
    import torch
    model = models.VAEGAN(width=0.01, **SETTINGS)           # for its settings
    encoder, decoder, features, head = (network.to(memory_format=memory_format) for network in torch_networks(width))
    autoencoder, D = ([p for network in pair for p in network.parameters()] for pair in ((encoder, decoder), (features, head)))
    optimizer = torch.optim.Adam(autoencoder, model.lr, fused=True)
    d_optimizer = torch.optim.Adam(D, model.d_lr, fused=True)
    images = torch.from_numpy(images_of(numpy.random.default_rng(1))).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    loss = torch.nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)

    def step():
        mu, logvar = encoder(images).chunk(2, dim=1)
        reconstruction = decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
        fake = decoder(torch.randn(BATCH, model.latent))
        d_optimizer.zero_grad()
        (loss(head(features(images)), ones) + loss(head(features(fake.detach())), zeros)).backward()
        d_optimizer.step()
        for p in D:         # their gradients are not wanted
            p.requires_grad_(False)
        with torch.no_grad():
            wanted = features(images)
        error = 0.5 * (features(reconstruction) - wanted).square().sum() / BATCH
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum() / BATCH
        optimizer.zero_grad()
        (error + kl + model.gan_weight * loss(head(features(fake)), ones)).backward()
        optimizer.step()
        for p in D:
            p.requires_grad_(True)
    return step


def torch_layer(memory_format, kind, *shape):
    import torch
    sizes, (n_in, n_out) = shape[:-2], shape[-2:]
    x = torch.randn(BATCH, n_in, *sizes)
    if sizes:
        x = x.contiguous(memory_format=memory_format)
    x.requires_grad_(True)
    layer = {"conv": lambda stride: torch.nn.Conv2d(n_in, n_out, 5, stride, 2, bias=False),
             "transposed": lambda: torch.nn.ConvTranspose2d(n_in, n_out, 5, 2, 2, 1, bias=False),
             "linear": lambda: torch.nn.Linear(n_in, n_out, bias=False), "norm": lambda: torch.nn.BatchNorm2d(n_out)}
    layer = (layer["conv"](int(kind[-1])) if kind.startswith("conv") else layer[kind]()).to(memory_format=memory_format)
    g = torch.randn_like(layer(x).detach())
    return lambda: torch.autograd.grad((layer(x) * g).sum(), [x, *layer.parameters()])


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


def contender(connection, library, width):
    """Answer each request, a name, with milliseconds: of one step, or of one call of a layer; ``None`` where there is none.

    ``"peak"`` is answered with the most memory that the process has had so far, in MB.
    """
    work, layer = {}, None
    if library == "minigen":
        layer = minigen_layer
        work["step"] = minigen_step(width)
    elif library == "plain":
        layer = plain_layer
    else:
        import torch
        memory_format = getattr(torch, library)

        def layer(*shape):
            return torch_layer(memory_format, *shape)
        work["step"] = torch_step(width, memory_format)
    while (name := connection.recv()) is not None:
        if name == "peak":
            unit = 1e6 if sys.platform == "darwin" else 1e3         # bytes there, kilobytes elsewhere
            connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
            continue
        if name not in work:
            work = {name: layer(*layers(width)[name])}
        start = time.perf_counter()
        if work[name]:
            work[name]()
        connection.send(1e3 * (time.perf_counter() - start))


class Contender:
    """A process in which a library does what it is asked for."""

    def __init__(self, library, width):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=contender, args=(other, library, width), daemon=True)
        self.process.start()
        other.close()

    def ask(self, request):
        self.connection.send(request)
        return self.connection.recv()

    def close(self):
        self.connection.send(None)
        self.process.join()


def in_turns(contenders, name, seconds):
    """Median milliseconds of each contender's ``name``, after two calls that are not counted."""
    times = {library: [] for library in contenders}
    for _ in range(2):
        for one in contenders.values():
            one.ask(name)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["minigen"]) < 3:
        for library, one in contenders.items():
            times[library].append(one.ask(name))
    return {library: statistics.median(values) for library, values in times.items()}


def row(times):
    best = min((ms for library, ms in times.items() if library not in ("minigen", "plain")), default=None)
    return {"minigen_ms": times["minigen"], "torch_ms": best, "ratio": best and best / times["minigen"]}


def measure(seconds, with_torch):
    """The figures of every width: ``celeba``, the step, and ``layers``, each layer, by the width's name."""
    result = {"celeba": {}, "layers": {}}
    libraries = ["minigen", *(["channels_last", "contiguous_format"] if with_torch else [])]
    for width in WIDTHS:
        key = f"width_{width:g}"
        contenders = {library: Contender(library, width) for library in libraries}
        step = row(in_turns(contenders, "step", 3 * seconds))
        peaks = {library: one.ask("peak") for library, one in contenders.items()}
        step["minigen_mb"] = peaks.pop("minigen")
        step["torch_mb"] = min(peaks.values(), default=None)
        contenders["plain"] = Contender("plain", width)
        table = {}
        for name, (kind, *_) in layers(width).items():
            times = in_turns(contenders, name, seconds / 5)
            table[name] = row(times)
            if kind not in ("linear", "norm"):
                table[name]["plain_ms"] = times["plain"]
        for one in contenders.values():
            one.close()
        convolutions = [entry for entry in table.values() if "plain_ms" in entry]
        step["plain_ratio"] = sum(entry["plain_ms"] for entry in convolutions) / sum(entry["minigen_ms"] for entry in convolutions)
        result["celeba"][key], result["layers"][key] = step, table
    return result


def cell(value, form):
    """A number in its column, or a dash where there is none."""
    return f"{value:{form}}" if value else f"{'-':>{form.split('.')[0].lstrip(',')}}"


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
