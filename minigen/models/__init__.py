"""The paper's generative models; each ``update`` is one training iteration, written as its equations."""

from minigen.models.gan import GAN
from minigen.models.model import Model
from minigen.models.vae import VAE
from minigen.models.vaegan import VAEGAN, ConstrainedVAEGAN
from minigen.models.wgan import WGAN

__all__ = ["ConstrainedVAEGAN", "GAN", "Model", "VAE", "VAEGAN", "WGAN"]
