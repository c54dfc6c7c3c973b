"""A model of your own on one page: a GAN that makes the digit it is asked for (Mirza and Osindero, 2014)."""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

from dataclasses import dataclass

import numpy

from minigen import cli, datasets, figures, losses, models, networks, nn, ops, optim, to_device, training

ONE_HOT = numpy.eye(10, dtype="float32")        # a row per label


@dataclass(eq=False)
class ConditionalGAN(models.Model):     # its fields are its settings, which a run records
    latent: int = 100
    lr: float = 5e-4
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        rng, init = numpy.random.default_rng(self.seed), nn.he_normal
        D = networks.fully_connected((784 + 10, 392, 196, 1), rng, init)
        G = networks.fully_connected((self.latent + 10, 196, 392, 784), rng, init)
        self.networks = {"discriminator": D, "generator": nn.Sequential(*G.layers, nn.Sigmoid())}
        self.optimizers = {role: optim.Adam(network.parameters(), self.lr, beta1=0.5)
                           for role, network in self.networks.items()}

    def update(self, batch, rng):
        images, labels = batch
        D = lambda x: self.networks["discriminator"](ops.concatenate([x, labels], axis=1))
        fake = self.networks["generator"](ops.concatenate([self.noise(len(images), rng), labels], axis=1))
        d_loss = losses.gan_discriminator(D(images), D(fake.data)) + losses.r1_penalty(D, images)
        self.optimizers["discriminator"].minimize(d_loss)
        g_loss = losses.gan_generator(D(fake))
        self.optimizers["generator"].minimize(g_loss)
        return {"d_loss": d_loss.data, "g_loss": g_loss.data}

    def sample(self, n, rng=None):      # of 0 to 9, and again
        latents, labels = self.noise(n, numpy.random.default_rng(rng)), ONE_HOT[numpy.arange(n) % 10]
        return self.networks["generator"](ops.concatenate([latents, to_device(labels)], axis=1)).data


def main():
    flags = cli.Parser(description="A GAN that makes the digit it is asked for.")
    flags.add_argument("--iterations", type=cli.positive_int, default=4000, metavar="N", help="default: 4000")
    args, data, model = flags.parse_args(), datasets.mnist(), ConditionalGAN()
    run = training.train(model, (data.train_images, ONE_HOT[data.train_labels]), resume=True,
                         iterations=args.iterations, out="runs/conditional_gan")
    figures.save_grid(run.folder / "digits.png", model.sample(100, rng=0), columns=10)
    print(run.folder / "digits.png")


if __name__ == "__main__":
    cli.run(main, again="the same command")
