"""The type hints, as ``mypy --strict`` sees them: in a user's script, and in the engine and the layers."""

import subprocess
import sys
from pathlib import Path

import pytest

import minigen
from test_house import FLOORS

pytest.importorskip("mypy")

PROJECT = Path(minigen.__file__).parent.parent
SCRIPT = '''
from dataclasses import dataclass

import numpy

from minigen import Op, Tensor, grad, losses, models, nn, no_grad, ops, optim, training

softsign = Op("softsign(a) = a / (1 + |a|)",
              lambda a: a / (1 + abs(a)),
              lambda g, y, a: g / (1 + abs(a)) ** 2)


class Net(nn.Module):
    def __init__(self, rng: numpy.random.Generator) -> None:
        self.first = nn.Linear(2, 16, rng=rng)
        self.others = [nn.Linear(16, 16, rng=rng), nn.Linear(16, 2, rng=rng)]

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for layer in self.others:
            h = layer(softsign(h))
        return h


@dataclass
class Own(models.Model):
    latent: int = 2
    lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        net = Net(numpy.random.default_rng(0))
        self.networks = {"generator": net}
        self.optimizers = {"all": optim.Adam(net.parameters(), self.lr)}

    def update(self, images: numpy.ndarray, rng: numpy.random.Generator) -> dict[str, numpy.ndarray]:
        loss = losses.squared_error(images, self.networks["generator"](Tensor(images)))
        self.optimizers["all"].minimize(loss)
        return {"loss": loss.data}


def own(folder: str) -> Own:
    return training.load(folder, Own, iteration=30)


@no_grad()
def outputs(net: Net, x: numpy.ndarray) -> list[Tensor]:
    return [net(Tensor(x))]


def output(net: Net, x: numpy.ndarray) -> Tensor:
    return outputs(net, x)[0]


def penalty(net: Net, x: Tensor) -> Tensor:
    return (grad(net(x).sum(), x, create_graph=True) ** 2).sum(axis=1).mean()


def gradients(net: Net, x: Tensor) -> list[Tensor]:
    return grad(net(x).sum(), net.parameters(), create_graph=True)


def joined(x: Tensor, w: Tensor) -> Tensor:
    return ops.concatenate([ops.conv2d(x, w), ops.conv_transpose2d(x, w, stride=2)])


def product(array: numpy.ndarray, w: Tensor) -> Tensor:
    return ops.linear(array, ops.matmul(array, w), ops.mul(2.0, w[0]))


def sums(array: numpy.ndarray, w: Tensor) -> list[Tensor]:
    return [array + w, array @ w, 2 * w, w ** 2, -w, ops.getitem(w, 0), ops.where(w > 0, w, 0.0)]


def loss(real: Tensor, fake: Tensor) -> Tensor:
    return losses.gan_discriminator(real, fake) + losses.wgan_generator(fake) + losses.gaussian_kl(real, fake)


def state(net: Net) -> dict[str, numpy.ndarray]:
    return net.eval().state()
'''


def test_a_typed_script_the_engine_and_the_layers_have_no_faults(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    rooms = [PROJECT / "minigen" / f"{name}.py" for name, floor in FLOORS.items() if floor <= FLOORS["nn"]]
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", script,
               PROJECT / "minigen" / "__init__.py", *rooms]
    found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert found.stdout.startswith("Success"), found.stdout + found.stderr
