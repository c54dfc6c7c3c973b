"""The PyTorch side of ``benchmark.py``, written in the usual way.

The gradient of a generator's loss also goes into the discriminator's parameters. It is cleared before the
discriminator's turn, as in PyTorch's tutorials. With Larsen's networks, where that costs much more, the
gradient does not go there.
"""

import torch
from torch import nn
from torch.nn.functional import mse_loss, relu, softplus

from minigen import models, networks

BCE = nn.BCEWithLogitsLoss()


def tensor(array):
    """The array on the device that new tensors are on."""
    return torch.from_numpy(array).to(torch.get_default_device())


def wrap(network):
    """The network as the models use it; ``distributed`` wraps it."""
    return network


# The models on MNIST: each function makes a training step

def fully_connected(sizes, *last):
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *last)


def discriminator(outputs):
    return wrap(fully_connected((*networks.SIZES, outputs)))


def generator(latent):
    return wrap(fully_connected((latent, *reversed(networks.SIZES)), nn.Sigmoid()))


def gan(batch, **implementation):
    model = models.GAN
    D, G = discriminator(model.outputs), generator(model.latent)
    d_optimizer, g_optimizer = (
        torch.optim.Adam(network.parameters(), model.lr, (model.beta1, 0.999), **implementation)
        for network in (D, G))
    ones, zeros = torch.ones(batch, model.outputs), torch.zeros(batch, model.outputs)

    def step(images):
        fake = G(torch.randn(batch, model.latent))
        d_optimizer.zero_grad()
        (BCE(D(images), ones) + BCE(D(fake.detach()), zeros)).backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        BCE(D(fake), ones).backward()
        g_optimizer.step()
    return step


def wgan(batch, **implementation):
    model = models.WGAN
    critic, G = discriminator(model.outputs), generator(model.latent)
    critic_optimizer, g_optimizer = (torch.optim.RMSprop(network.parameters(), model.lr, **implementation)
                                     for network in (critic, G))

    def step(images):
        for real in images.split(batch):
            with torch.no_grad():
                fake = G(torch.randn(batch, model.latent))
            critic_optimizer.zero_grad()
            (critic(fake).mean() - critic(real).mean()).backward()
            critic_optimizer.step()
            with torch.no_grad():
                for p in critic.parameters():
                    p.clamp_(-model.clip, model.clip)
        g_optimizer.zero_grad()
        (-critic(G(torch.randn(batch, model.latent))).mean()).backward()
        g_optimizer.step()
    return step


def posterior_sample(mu, logvar):
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)


def kl(mu, logvar):
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum() / len(mu)


def autoencoder(model, **implementation):
    """The function L_vae of images, the decoder, and the optimiser of encoder and decoder."""
    encoder, decoder = discriminator(2 * model.latent), generator(model.latent)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, model.lr, **implementation)

    def l_vae(images):
        mu, logvar = encoder(images).chunk(2, dim=1)
        reconstruction = decoder(posterior_sample(mu, logvar))
        return mse_loss(reconstruction, images, reduction="sum") / len(images) + kl(mu, logvar)
    return l_vae, decoder, optimizer


def vae(batch, **implementation):
    l_vae, _, optimizer = autoencoder(models.VAE, **implementation)

    def step(images):
        optimizer.zero_grad()
        l_vae(images).backward()
        optimizer.step()
    return step


def vaegan(batch, model=models.VAEGAN, gan_term=torch.mean, **implementation):
    l_vae, decoder, optimizer = autoencoder(model, **implementation)
    D = discriminator(model.outputs)
    d_optimizer = torch.optim.Adam(D.parameters(), model.d_lr, **implementation)
    ones, zeros = torch.ones(batch, model.outputs), torch.zeros(batch, model.outputs)

    def step(images):
        fake = decoder(torch.randn(batch, model.latent))
        d_optimizer.zero_grad()
        (BCE(D(images), ones) + BCE(D(fake.detach()), zeros)).backward()
        d_optimizer.step()
        optimizer.zero_grad()
        l_gan = softplus(-D(fake)).mean(dim=1)
        (l_vae(images) + model.gan_weight * gan_term(l_gan)).backward()
        optimizer.step()
    return step


def constrained(batch, **implementation):
    model = models.ConstrainedVAEGAN
    return vaegan(batch, model, lambda l_gan: relu(l_gan - model.d).mean(), **implementation)


MNIST = {"GAN": gan, "WGAN": wgan, "VAE": vae, "VAE-GAN": vaegan, "constrained": constrained}


def mnist(batches, batch, implementation, flush):
    """A function from a model's name to its training step.

    ``batches(name)`` are the images of the steps, ``batch`` is the batch size. ``implementation`` holds the
    options of each optimiser, by the optimiser's name. With ``flush`` the processor treats subnormal numbers
    as 0.
    """
    torch.set_flush_denormal(flush)

    def make(name):
        step = MNIST[name](batch, **implementation["RMSprop" if name == "WGAN" else "Adam"])
        images = map(tensor, batches(name))
        return lambda: step(next(images))
    return make


def distributed(name, batch, images):
    """A training step on this rank's ``images``, with each network in DistributedDataParallel."""
    global wrap
    wrap = nn.parallel.DistributedDataParallel
    step, share = MNIST[name](batch), torch.from_numpy(images)
    return lambda: step(share)


# Larsen's VAE-GAN

def down(n_in, n_out):
    return [nn.Conv2d(n_in, n_out, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]


def up(n_in, n_out):
    layer = nn.ConvTranspose2d(n_in, n_out, 5, stride=2, padding=2, output_padding=1, bias=False)
    return [layer, nn.BatchNorm2d(n_out), nn.ReLU()]


def dense(n_in, n_out):
    return [nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out), nn.ReLU()]


def larsen_networks(width, latent):
    """The encoder, the decoder, and the discriminator's features and head, as in ``networks.Larsen``."""
    scaled = networks.Larsen(width).scaled
    a, b, c, units = map(scaled, (64, 128, 256, 1024))
    encoder = nn.Sequential(*down(3, a), *down(a, b), *down(b, c), nn.Flatten(), *dense(64 * c, units),
                            nn.Linear(units, 2 * latent))
    a, b, c = map(scaled, (256, 128, 32))
    decoder = nn.Sequential(*dense(latent, 64 * a), nn.Unflatten(1, (a, 8, 8)), *up(a, a), *up(a, b),
                            *up(b, c), nn.Conv2d(c, 3, 5, padding=2), nn.Tanh())
    a, b, c, units = map(scaled, (32, 128, 256, 512))
    features = nn.Sequential(nn.Conv2d(3, a, 5, padding=2), nn.ReLU(), *down(a, b), *down(b, c),
                             nn.Conv2d(c, c, 5, stride=2, padding=2, bias=False))
    head = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Flatten(), *dense(64 * c, units),
                         nn.Linear(units, 1))
    return encoder, decoder, features, head


def fused_adam(parameters, lr):
    return torch.optim.Adam(parameters, lr, fused=True)


def larsen_step(images, width, latent, memory_format):
    """A training step of Larsen's VAE-GAN with the learned similarity on ``images`` (N, 64, 64, 3)."""
    model, batch = models.VAEGAN, len(images)
    encoder, decoder, features, head = (network.to(memory_format=memory_format)
                                        for network in larsen_networks(width, latent))
    D = [*features.parameters(), *head.parameters()]
    d_optimizer = fused_adam(D, model.d_lr)
    optimizer = fused_adam([*encoder.parameters(), *decoder.parameters()], model.lr)
    images = tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)

    def step():
        mu, logvar = encoder(images).chunk(2, dim=1)
        reconstruction = decoder(posterior_sample(mu, logvar))
        fake = decoder(torch.randn(batch, latent))
        d_optimizer.zero_grad()
        (BCE(head(features(images)), ones) + BCE(head(features(fake.detach())), zeros)).backward()
        d_optimizer.step()
        for p in D:         # the gradients with respect to them are not wanted
            p.requires_grad_(False)
        with torch.no_grad():
            wanted = features(images)
        error = 0.5 * (features(reconstruction) - wanted).square().sum() / batch
        optimizer.zero_grad()
        (error + kl(mu, logvar) + model.gan_weight * BCE(head(features(fake)), ones)).backward()
        optimizer.step()
        for p in D:
            p.requires_grad_(True)
    return step


def layer(batch, memory_format, kind, *shape):
    """A layer forward and backward; ``convolution.layers`` has its ``kind`` and ``shape``."""
    *sizes, n_in, n_out = shape
    x = torch.randn(batch, n_in, *sizes)
    if sizes:
        x = x.contiguous(memory_format=memory_format)
    x.requires_grad_(True)
    chosen = build_layer(kind, n_in, n_out).to(memory_format=memory_format)
    g = torch.randn_like(chosen(x).detach())
    return lambda: torch.autograd.grad(chosen(x), [x, *chosen.parameters()], g)


def build_layer(kind, n_in, n_out):
    """A layer of PyTorch of this kind; the digit in a convolution's kind is the stride."""
    if kind == "linear":
        return nn.Linear(n_in, n_out, bias=False)
    if kind == "norm":
        return nn.BatchNorm2d(n_out)
    if kind == "transposed":
        return nn.ConvTranspose2d(n_in, n_out, 5, stride=2, padding=2, output_padding=1, bias=False)
    return nn.Conv2d(n_in, n_out, 5, stride=int(kind[-1]), padding=2, bias=False)
