"""What ``benchmark.py`` measures, in PyTorch, written the usual way.

A generator's gradient also goes into the discriminator's parameters, and is cleared before their turn, as in PyTorch's tutorials;
with Larsen's networks, where that costs much more, it does not.
"""

import torch
import torch.nn as T
from torch.nn.functional import mse_loss, relu, softplus

from minigen import models, networks

BCE = T.BCEWithLogitsLoss()


def fully_connected(sizes, *last):
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [T.Linear(n_in, n_out), T.ReLU()]
    return T.Sequential(*layers[:-1], *last)


def discriminator(outputs):
    return fully_connected((*networks.SIZES, outputs))


def generator(latent):
    return fully_connected((latent, *reversed(networks.SIZES)), T.Sigmoid())


def gan(batch, **implementation):
    model = models.GAN
    D, G = discriminator(model.outputs), generator(model.latent)
    d_optimizer, g_optimizer = (torch.optim.Adam(net.parameters(), model.lr, (model.beta1, 0.999), **implementation)
                                for net in (D, G))
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
    critic_optimizer, g_optimizer = (torch.optim.RMSprop(net.parameters(), model.lr, **implementation) for net in (critic, G))

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
    encoder, decoder = discriminator(2 * model.latent), generator(model.latent)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], model.lr, **implementation)

    def l_vae(images):
        mu, logvar = encoder(images).chunk(2, dim=1)
        return mse_loss(decoder(posterior_sample(mu, logvar)), images, reduction="sum") / len(images) + kl(mu, logvar)
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
    """What makes a training step of a model's name; ``implementation`` says which of each optimiser, by the optimiser's name.

    With ``flush`` the processor takes subnormal numbers for 0.
    """
    torch.set_flush_denormal(flush)

    def make(name):
        step = MNIST[name](batch, **implementation["RMSprop" if name == "WGAN" else "Adam"])
        images = map(torch.from_numpy, batches(name))
        return lambda: step(next(images))
    return make


def larsen_networks(width, latent):
    larsen = networks.Larsen(width)

    def down(n_in, n_out):
        return [T.Conv2d(n_in, n_out, 5, 2, 2, bias=False), T.BatchNorm2d(n_out), T.ReLU()]

    def dense(n_in, n_out):
        return [T.Linear(n_in, n_out, bias=False), T.BatchNorm1d(n_out), T.ReLU()]
    a, b, c, units = map(larsen.scaled, (64, 128, 256, 1024))
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


def larsen_step(images, width, latent, memory_format):
    """A training step of Larsen's VAE-GAN with the learned similarity on ``images``."""
    model, batch = models.VAEGAN, len(images)
    encoder, decoder, features, head = (net.to(memory_format=memory_format) for net in larsen_networks(width, latent))
    ours, D = ([p for network in pair for p in network.parameters()] for pair in ((encoder, decoder), (features, head)))
    optimizer, d_optimizer = torch.optim.Adam(ours, model.lr, fused=True), torch.optim.Adam(D, model.d_lr, fused=True)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)

    def step():
        mu, logvar = encoder(images).chunk(2, dim=1)
        reconstruction = decoder(posterior_sample(mu, logvar))
        fake = decoder(torch.randn(batch, latent))
        d_optimizer.zero_grad()
        (BCE(head(features(images)), ones) + BCE(head(features(fake.detach())), zeros)).backward()
        d_optimizer.step()
        for p in D:         # their gradients are not wanted
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
    """A layer forward and backward."""
    sizes, (n_in, n_out) = shape[:-2], shape[-2:]
    x = torch.randn(batch, n_in, *sizes)
    if sizes:
        x = x.contiguous(memory_format=memory_format)
    x.requires_grad_(True)
    one = {"conv": lambda stride: T.Conv2d(n_in, n_out, 5, stride, 2, bias=False),
           "transposed": lambda: T.ConvTranspose2d(n_in, n_out, 5, 2, 2, 1, bias=False),
           "linear": lambda: T.Linear(n_in, n_out, bias=False), "norm": lambda: T.BatchNorm2d(n_out)}
    one = (one["conv"](int(kind[-1])) if kind.startswith("conv") else one[kind]()).to(memory_format=memory_format)
    g = torch.randn_like(one(x).detach())
    return lambda: torch.autograd.grad(one(x), [x, *one.parameters()], g)
