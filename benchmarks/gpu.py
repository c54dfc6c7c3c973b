"""Training steps on a GPU, of minigen and of PyTorch, in float32 and with TF32 allowed.

Nothing waits for the device between the steps of a turn, as in training. Part of ``benchmark.py``.
"""

import os

import convolution
import numpy
from processes import Contender, in_turns

from minigen import backend


def wait_for_cupy():
    import cupy
    cupy.cuda.Device().synchronize()


def wait_for_torch():
    import torch
    torch.cuda.synchronize()


def minigen_steps(tf32, batches, models):
    """A function from a name, of ``models`` or a width of Larsen's networks, to its training step."""
    os.environ["CUPY_TF32"] = str(int(tf32))        # CuPy reads it when it is imported
    backend.use("cupy")

    def make(name):
        rng = numpy.random.default_rng(0)
        if name in models:
            model, images = models[name](), batches(name)
            return lambda: model.step(backend.to_device(next(images)), rng)
        model, batch = convolution.larsen(name), backend.to_device(convolution.images())
        return lambda: model.step(batch, rng)
    return make


def torch_steps(tf32, batches, batch, models):
    """The same in PyTorch."""
    import pytorch
    import torch
    torch.set_default_device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    make_mnist = pytorch.mnist(batches, batch, {"Adam": {"fused": True}, "RMSprop": {"foreach": True}}, False)

    def make(name):
        if name in models:
            return make_mnist(name)
        images = 2 * convolution.images() - 1
        return pytorch.larsen_step(images, name, convolution.LATENT, torch.channels_last)
    return make


def with_cuda():
    """Whether PyTorch is installed and finds a GPU."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def measure(widths, seconds, warm_up, batches, batch, models):
    """The milliseconds per training step of each model and width, by contender."""
    contenders = {}
    for tf32, name in ((False, "ms"), (True, "tf32_ms")):
        contenders[f"minigen_{name}"] = Contender(minigen_steps, tf32, batches, models, wait=wait_for_cupy)
        if with_cuda():
            contenders[f"torch_{name}"] = Contender(torch_steps, tf32, batches, batch, models,
                                                    wait=wait_for_torch)
    result = {name: in_turns(contenders, name, seconds, warm_up) for name in (*models, *widths)}
    for contender in contenders.values():
        contender.close()
    return {f"width_{name:g}" if name in widths else name: times for name, times in result.items()}


def report(result):
    """Print what ``measure`` returned."""
    titles = {"minigen_ms": "minigen", "torch_ms": "PyTorch", "minigen_tf32_ms": "minigen, TF32",
              "torch_tf32_ms": "PyTorch, TF32"}
    about = backend.about()
    print(f"milliseconds per training step on one {about['gpu']}, CuPy {about['cupy']}, batch "
          f"{convolution.BATCH}")
    print(f"{'':14}" + "".join(f"{title:>15}" for title in titles.values()))
    for name, times in result.items():
        print(f"{name:14}" + "".join(convolution.cell(times.get(key), "15.3f") for key in titles))
