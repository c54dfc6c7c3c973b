"""The JAX side of ``benchmark.py``: the same training steps, each compiled as one function.

Subnormal numbers are treated as 0, as JAX's compiler does on processors.
"""

import jax
import jax.numpy as jnp
from jax.nn import relu, sigmoid, softplus

from minigen import models, networks


# Networks and optimisers

def init(key, sizes):
    """Weights and biases of layers of these sizes, drawn as PyTorch draws them."""
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        key, for_weight, for_bias = jax.random.split(key, 3)
        bound = n_in ** -0.5
        layers.append((jax.random.uniform(for_weight, (n_in, n_out), minval=-bound, maxval=bound),
                       jax.random.uniform(for_bias, (n_out,), minval=-bound, maxval=bound)))
    return layers


def forward(layers, x):
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        x = relu(x @ w + b)
    return x @ weight + bias


def discriminator(key, outputs):
    return init(key, (*networks.SIZES, outputs))


def generator(key, latent):
    return init(key, (latent, *reversed(networks.SIZES)))


def generate(layers, z):
    return sigmoid(forward(layers, z))


def adam(lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """The functions that make Adam's state and take a step."""
    def start(parameters):
        return *(jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)), 0

    def step(parameters, state, gradients):
        m, v, t = state
        t += 1
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, gradients)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, gradients)
        rate = lr * jnp.sqrt(1 - beta2 ** t) / (1 - beta1 ** t)
        return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + eps), parameters, m, v), (m, v, t)
    return start, step


def rmsprop(lr, alpha=0.99, eps=1e-8):
    """The functions that make RMSProp's state and take a step."""
    def start(parameters):
        return jax.tree.map(jnp.zeros_like, parameters)

    def step(parameters, v, gradients):
        v = jax.tree.map(lambda v, g: alpha * v + (1 - alpha) * g * g, v, gradients)
        return jax.tree.map(lambda p, v, g: p - lr * g / (jnp.sqrt(v) + eps), parameters, v, gradients), v
    return start, step


# The models: each returns its first state and a function of state, images and key that returns the next

def d_loss(D, real, fake):
    return softplus(-forward(D, real)).mean() + softplus(forward(D, fake)).mean()


def gan(batch, key):
    model = models.GAN
    (start, update), (key_d, key_g) = adam(model.lr, model.beta1), jax.random.split(key)
    D, G = discriminator(key_d, model.outputs), generator(key_g, model.latent)

    def step(state, images, key):
        D, G, d_state, g_state = state
        z = jax.random.normal(key, (batch, model.latent))
        D, d_state = update(D, d_state, jax.grad(d_loss)(D, images, generate(G, z)))
        gradients = jax.grad(lambda G: softplus(-forward(D, generate(G, z))).mean())(G)
        G, g_state = update(G, g_state, gradients)
        return D, G, d_state, g_state
    return (D, G, start(D), start(G)), step


def wgan(batch, key):
    model = models.WGAN
    (start, update), (key_d, key_g) = rmsprop(model.lr), jax.random.split(key)
    critic, G = discriminator(key_d, model.outputs), generator(key_g, model.latent)

    def step(state, images, key):
        critic, G, c_state, g_state = state
        *keys, last = jax.random.split(key, model.critic_steps + 1)
        for i, one in enumerate(keys):
            real, fake = images[i * batch:(i + 1) * batch], generate(G, jax.random.normal(one, (
                batch, model.latent)))
            gradients = jax.grad(lambda c: forward(c, fake).mean() - forward(c, real).mean())(critic)
            critic, c_state = update(critic, c_state, gradients)
            critic = jax.tree.map(lambda p: jnp.clip(p, -model.clip, model.clip), critic)
        z = jax.random.normal(last, (batch, model.latent))
        gradients = jax.grad(lambda G: -forward(critic, generate(G, z)).mean())(G)
        G, g_state = update(G, g_state, gradients)
        return critic, G, c_state, g_state
    return (critic, G, start(critic), start(G)), step


def autoencoder_loss(both, images, key, latent):
    encoder, decoder = both
    mu, logvar = jnp.split(forward(encoder, images), 2, axis=1)
    z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
    error = jnp.sum((generate(decoder, z) - images) ** 2)
    return (error + 0.5 * jnp.sum(mu ** 2 + jnp.exp(logvar) - 1 - logvar)) / len(images)


def vae(batch, key):
    model = models.VAE
    (start, update), (key_e, key_d) = adam(model.lr), jax.random.split(key)
    both = discriminator(key_e, 2 * model.latent), generator(key_d, model.latent)

    def step(state, images, key):
        both, moments = state
        return update(both, moments, jax.grad(autoencoder_loss)(both, images, key, model.latent))
    return (both, start(both)), step


def vaegan(batch, key, model=models.VAEGAN, gan_term=jnp.mean):
    (start, update), (d_start, d_update) = adam(model.lr), adam(model.d_lr)
    key_e, key_g, key_d = jax.random.split(key, 3)
    both = discriminator(key_e, 2 * model.latent), generator(key_g, model.latent)
    D = discriminator(key_d, model.outputs)

    def loss(both, D, images, z, key):
        l_gan = softplus(-forward(D, generate(both[1], z))).mean(axis=1)
        return autoencoder_loss(both, images, key, model.latent) + model.gan_weight * gan_term(l_gan)

    def step(state, images, key):
        both, D, moments, d_moments = state
        key, for_z = jax.random.split(key)
        z = jax.random.normal(for_z, (batch, model.latent))
        D, d_moments = d_update(D, d_moments, jax.grad(d_loss)(D, images, generate(both[1], z)))
        both, moments = update(both, moments, jax.grad(loss)(both, D, images, z, key))
        return both, D, moments, d_moments
    return (both, D, start(both), d_start(D)), step


def constrained(batch, key):
    model = models.ConstrainedVAEGAN
    return vaegan(batch, key, model, lambda l_gan: relu(l_gan - model.d).mean())


MNIST = {"GAN": gan, "WGAN": wgan, "VAE": vae, "VAE-GAN": vaegan, "constrained": constrained}


def mnist(batches, batch):
    """A function from a model's name to its training step; ``batches(name)`` are the images of the steps."""
    def make(name):
        first, step = MNIST[name](batch, jax.random.key(0))
        compiled, images, state = jax.jit(step, donate_argnums=0), batches(name), [first, jax.random.key(1)]

        def work():
            state[1], key = jax.random.split(state[1])
            state[0] = jax.block_until_ready(compiled(state[0], next(images), key))
        return work
    return make
