"""What ``scaling.py`` times in processes of its own; each prints its figure as JSON.

    minigen NAME SECONDS            the steps per second of the ranks that MPI started
    torch NAME SECONDS              those of DistributedDataParallel, started by torch.distributed.run
    threads NAME NUMBER SECONDS     those of one process with this number of threads
    share NAME BATCH SECONDS        the milliseconds per step with this many images
    sums NAME SECONDS               latency and seconds per byte of a sum over two ranks, and a step's sums
"""

import json
import sys
import time

import numpy
from benchmark import BATCH, MODELS

from minigen import models, ranks, threads
from minigen.backend import to_device, to_host
from minigen.datasets import mnist

WARM_UP = 3         # steps
WIDTH, LATENT = 0.25, 128       # of Larsen's networks


def build(name):
    """The model, and a batch for a step of BATCH images."""
    rng = numpy.random.default_rng(0)
    if name == "Larsen":
        model = models.VAEGAN(architecture="larsen", width=WIDTH, latent=LATENT, outputs=1)
        return model, rng.random((BATCH, 64, 64, 3), dtype="float32")
    model = MODELS[name]()
    images = mnist().train_images
    return model, images[rng.permutation(len(images))[:BATCH * model.batches_per_step]]


def step(name, batch=BATCH):
    """A function that trains for one step on this rank's share of the images."""
    model, images = build(name)
    images, rng = images[:len(images) * batch // BATCH], numpy.random.default_rng(0)

    def work():
        with ranks.shared_step():
            return model.step(to_device(ranks.share(images)), rng)
    return work


def steps_per_second(work, seconds, agree):
    """The steps per second of ranks that wait for each other. The number of steps must be the same on all:
    ``agree`` returns the first rank's."""
    for _ in range(WARM_UP):
        wait(work())
    start = time.perf_counter()
    wait(work())
    count = agree(max(3, int(seconds / (time.perf_counter() - start))))
    start = time.perf_counter()
    for _ in range(count):
        last = work()
    wait(last)
    return count / (time.perf_counter() - start)


def wait(result):
    """Wait for a GPU that has not computed the metrics of a step of minigen yet."""
    for value in result.values() if isinstance(result, dict) else ():
        to_host(value)


def of_torch(name, seconds):
    """DistributedDataParallel's steps per second."""
    import torch
    from pytorch import distributed
    from torch import distributed as group
    torch.set_num_threads(1)
    group.init_process_group("gloo")

    def agree(count):
        found = torch.tensor(count)
        group.broadcast(found, 0)
        return int(found)
    rank, size = group.get_rank(), group.get_world_size()
    found = steps_per_second(distributed(name, BATCH // size, build(name)[1][rank::size]), seconds, agree)
    group.barrier()
    group.destroy_process_group()
    return found, rank == 0


def sums(name, seconds):
    """The latency, the seconds per byte, and the bytes of the gradients that a step sums."""
    model, _ = build(name)
    times = {}
    for size in (1, 1 << 20):
        array = numpy.zeros(size, "float32")
        times[size] = 1 / steps_per_second(lambda: ranks.total(array), seconds, ranks.broadcast)
    sizes = [4 * sum(p.size for p in optimizer.parameters) for optimizer in model.optimizers.values()]
    critic_steps = getattr(model, "critic_steps", 1)
    return times[1], (times[1 << 20] - times[1]) / (4 << 20), sizes[:1] * (critic_steps - 1) + sizes


def main():
    what, name, *numbers = sys.argv[1:]
    numbers = [float(number) for number in numbers]
    if what == "torch":
        found, first = of_torch(name, *numbers)
    else:
        first = ranks.rank() == 0
        if what == "minigen":
            found = steps_per_second(step(name), *numbers, ranks.broadcast)
        elif what == "threads":
            threads.use(int(numbers[0]))
            found = steps_per_second(step(name), numbers[1], ranks.broadcast)
        elif what == "share":
            found = 1e3 / steps_per_second(step(name, max(1, int(numbers[0]))), numbers[1], ranks.broadcast)
        else:
            found = sums(name, *numbers)
    if first:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
