"""Training steps of all models against PyTorch's, the cost of one small op, and the share of the machine's sgemm peak.

Both libraries train the same networks with the same batch size on the same processor cores, in turns; times are medians.
PyTorch is written the usual way, each model with the faster of its optimiser's implementations.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import benchmark_convolution
import numpy

from minigen import Tensor, grad, models, networks, ops

try:
    import torch
except ImportError:
    torch = None

BATCH = 64
GAN, WGAN, VAE, VAEGAN, CONSTRAINED = models.GAN(), models.WGAN(), models.VAE(), models.VAEGAN(), models.ConstrainedVAEGAN()


def torch_network(sizes, *last):
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1], *last)


def torch_players(outputs, latent):
    discriminator = torch_network((*networks.SIZES, outputs))
    return discriminator, torch_network((latent, *reversed(networks.SIZES)), torch.nn.Sigmoid())


def torch_gan(images, **implementation):
    D, G = torch_players(GAN.outputs, GAN.latent)
    d_optimizer, g_optimizer = (
        torch.optim.Adam(net.parameters(), GAN.lr, (GAN.beta1, 0.999), **implementation) for net in (D, G))
    loss = torch.nn.BCEWithLogitsLoss()
    images = torch.from_numpy(images)
    ones, zeros = torch.ones(BATCH, GAN.outputs), torch.zeros(BATCH, GAN.outputs)

    def step():
        fake = G(torch.randn(BATCH, GAN.latent))
        d_optimizer.zero_grad()
        d_loss = loss(D(images), ones) + loss(D(fake.detach()), zeros)
        d_loss.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        g_loss = loss(D(fake), ones)
        g_loss.backward()
        g_optimizer.step()
    return step


def torch_wgan(images, **implementation):
    critic, G = torch_players(WGAN.outputs, WGAN.latent)
    critic_optimizer, g_optimizer = (
        torch.optim.RMSprop(net.parameters(), WGAN.lr, **implementation) for net in (critic, G))
    batches = torch.from_numpy(images).split(BATCH)

    def step():
        for batch in batches:
            with torch.no_grad():
                fake = G(torch.randn(BATCH, WGAN.latent))
            critic_optimizer.zero_grad()
            critic_loss = critic(fake).mean() - critic(batch).mean()
            critic_loss.backward()
            critic_optimizer.step()
            with torch.no_grad():
                for p in critic.parameters():
                    p.clamp_(-WGAN.clip, WGAN.clip)
        g_optimizer.zero_grad()
        g_loss = -critic(G(torch.randn(BATCH, WGAN.latent))).mean()
        g_loss.backward()
        g_optimizer.step()
    return step


def torch_autoencoder(model, **implementation):
    encoder = torch_network((*networks.SIZES, 2 * model.latent))
    _, decoder = torch_players(1, model.latent)
    return encoder, decoder, torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], model.lr, **implementation)


def torch_l_vae(images, encoder, decoder):
    mu, logvar = encoder(images).chunk(2, dim=1)
    reconstruction = decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum()
    return (torch.nn.functional.mse_loss(reconstruction, images, reduction="sum") + kl) / BATCH


def torch_vae(images, **implementation):
    encoder, decoder, optimizer = torch_autoencoder(VAE, **implementation)
    images = torch.from_numpy(images)

    def step():
        optimizer.zero_grad()
        torch_l_vae(images, encoder, decoder).backward()
        optimizer.step()
    return step


def torch_vaegan(images, gan_term=lambda l_gan: VAEGAN.gan_weight * l_gan.mean(), **implementation):
    encoder, decoder, optimizer = torch_autoencoder(VAEGAN, **implementation)
    D, _ = torch_players(VAEGAN.outputs, VAEGAN.latent)
    d_optimizer = torch.optim.Adam(D.parameters(), VAEGAN.d_lr, **implementation)
    loss = torch.nn.BCEWithLogitsLoss()
    images = torch.from_numpy(images)
    ones, zeros = torch.ones(BATCH, VAEGAN.outputs), torch.zeros(BATCH, VAEGAN.outputs)

    def step():
        fake = decoder(torch.randn(BATCH, VAEGAN.latent))
        d_optimizer.zero_grad()
        (loss(D(images), ones) + loss(D(fake.detach()), zeros)).backward()
        d_optimizer.step()
        optimizer.zero_grad()
        l_gan = torch.nn.functional.softplus(-D(fake)).mean(dim=1)
        (torch_l_vae(images, encoder, decoder) + gan_term(l_gan)).backward()
        optimizer.step()
    return step


def torch_constrained(images, **implementation):
    return torch_vaegan(
        images, lambda l_gan: CONSTRAINED.gan_weight * torch.relu(l_gan - CONSTRAINED.d).mean(), **implementation)


def in_turns(contenders, seconds):
    """Median milliseconds per call of each contender.

    They take turns of half a second. The first fifth of a turn is not counted: the threads of the library that was at
    work before still spin for a while, waiting for more.
    """
    times = {name: [] for name in contenders}
    turn = min(0.5, seconds / 2)
    end = time.perf_counter() + seconds * len(contenders)
    while time.perf_counter() < end:
        for name, step in contenders.items():
            begin = start = time.perf_counter()
            while start < begin + turn:
                step()
                stop = time.perf_counter()
                if start > begin + turn / 5 or not times[name]:
                    times[name].append(1e3 * (stop - start))
                start = stop
    return {name: statistics.median(samples) for name, samples in times.items()}


def compare(model, images, torch_step, implementations, seconds):
    """minigen's and PyTorch's milliseconds per training step, PyTorch's with its default optimiser, and PyTorch's by minigen's."""
    rng = numpy.random.default_rng(0)
    contenders = {"minigen": lambda: model.step(images, rng)}
    if torch:
        contenders.update({f"torch {options}": torch_step(images, **options) for options in implementations})
    times = in_turns(contenders, seconds)
    minigen_ms = times.pop("minigen")
    torch_ms = min(times.values(), default=None)
    return {"minigen_ms": minigen_ms, "torch_ms": torch_ms, "torch_default_ms": times.get("torch {}"),
            "ratio": torch_ms and torch_ms / minigen_ms}


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
    times = in_turns({"forward": forward, "forward_backward": forward_backward}, seconds)
    return {name: 1e3 * ms / (60 if name == "forward" else 61) for name, ms in times.items()}


def sgemm_gflops(seconds, n=2048):
    a = numpy.ones((n, n), "float32")
    return 2e-6 * n ** 3 / in_turns({"sgemm": lambda: a @ a}, seconds)["sgemm"]


def step_gflop(model):
    """The multiplications and additions in the matrix products of one training step, in units of 10^9."""
    def products(network):
        shapes = [p.shape for p in network.parameters() if len(p.shape) == 2]
        return [2e-9 * n_in * n_out for n_in, n_out in shapes]
    first, *rest = (products(network) for network in model.networks.values())
    learn = 3 * sum(first) - first[0]                       # no gradient in the images
    if isinstance(model, models.VAE):
        decoder = 3 * sum(rest[0])
        if model is VAE:
            return BATCH * (learn + decoder)
        D = rest[1]
        return BATCH * (learn + 2 * decoder + 2 * (3 * sum(D) - D[0]) + 2 * sum(D))
    generator = rest[0]
    through = 2 * sum(first) + 2 * sum(generator) - generator[0]
    return BATCH * (model.batches_per_step * (sum(generator) + 2 * learn) + (sum(generator) if model is WGAN else 0) + through)


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
    flags.add_argument("--seconds", type=float, default=8, metavar="S", help="time for each measurement (default: 8)")
    args = flags.parse_args()
    without_limits()

    images = numpy.random.default_rng(0).random((WGAN.critic_steps * BATCH, networks.SIZES[0]), dtype="float32")
    peak = sgemm_gflops(args.seconds / 4)
    adam, rmsprop = ({}, {"fused": True}), ({}, {"foreach": True})
    rows = {"GAN": (GAN, torch_gan, adam), "WGAN": (WGAN, torch_wgan, rmsprop), "VAE": (VAE, torch_vae, adam),
            "VAE-GAN": (VAEGAN, torch_vaegan, adam), "constrained": (CONSTRAINED, torch_constrained, adam)}
    result = {name.lower().replace("-", ""): compare(model, images[:BATCH * model.batches_per_step], step, options, args.seconds)
              for name, (model, step, options) in rows.items()}
    result |= {"op_us": op_us(args.seconds / 4), "sgemm_gflops": peak}
    print(f"milliseconds per training step, batch {BATCH}; sgemm peak {peak:.0f} GFLOP/s")
    print(f"{'':12}{'minigen':>9}{'PyTorch':>9}{'ratio':>7}{'of the peak':>13}{'PyTorch, default optimiser':>28}")
    for name, (model, *_) in rows.items():
        row = result[name.lower().replace("-", "")]
        other = f"{row['torch_ms']:9.2f}{row['ratio']:7.2f}" if torch else f"{'-':>9}{'-':>7}"
        row["peak_share"] = step_gflop(model) / row["minigen_ms"] * 1e3 / peak
        default = f"{row['torch_default_ms']:28.2f}" if torch else f"{'-':>28}"
        print(f"{name:12}{row['minigen_ms']:9.2f}{other}{row['peak_share']:13.0%}{default}")
    costs = result["op_us"]
    print(f"microseconds per op at 4 x 4: {costs['forward']:.2f} forward, {costs['forward_backward']:.2f} forward and backward")
    convolution = benchmark_convolution.measure(args.seconds, with_torch=bool(torch))
    benchmark_convolution.report(convolution)
    result |= convolution
    if not torch:
        print("PyTorch is not installed (pip install torch): minigen's own figures only")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
