"""Settings and data that the tests share."""

import gzip
import os
import shutil
import signal
import struct
import subprocess
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
import short_runs
import threadpoolctl
from hypothesis import settings
from matplotlib.figure import Figure

from minigen import datasets, figures, models, threads

# Tests send SIGINT, which a shell lets the programs that it starts in the background ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)

# One BLAS thread, also in the processes that tests start: several wait for each other so busily that
# everything takes ten times as long where another program keeps the processors busy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
threadpoolctl.threadpool_limits(1)

# The same examples on every run, and no limit on the time of one: shared machines stall now and then.
settings.register_profile("minigen", max_examples=15, deadline=None, derandomize=True, database=None)
settings.load_profile("minigen")


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


@pytest.fixture
def three_threads(monkeypatch):
    """Work is shared among three threads, however many processors there are."""
    pool = ThreadPoolExecutor(2)
    monkeypatch.setattr(threads, "count", lambda: 3)
    monkeypatch.setattr(threads, "_pool", lambda: pool)
    with pool:
        yield


class AtOnce(Executor):
    """Does each piece of work as soon as it is submitted: a thread that is always faster than its user."""

    def __init__(self, *args, **options):
        super().__init__()

    def submit(self, work, *args):
        future = Future()
        future.set_result(work(*args))
        return future


@pytest.fixture
def at_once():
    """A class to put in the place of ThreadPoolExecutor."""
    return AtOnce


@pytest.fixture(scope="session", ids=lambda kind: kind.__name__, params=[
    models.GAN, models.WGAN, models.VAE, models.VAEGAN, models.ConstrainedVAEGAN])
def straight(request, tmp_path_factory):
    """An uninterrupted run: kind of model, final state, record."""
    model, result = short_runs.run(tmp_path_factory.mktemp("straight") / "run", request.param)
    return request.param, model.state(), short_runs.record(result)


@pytest.fixture
def data():
    """A data set of noise around ten images."""
    rng = numpy.random.default_rng(0)
    labels = rng.integers(0, 10, 200)
    images = (rng.random((10, 784))[labels] + 0.1 * rng.random((200, 784))).astype("float32").clip(0, 1)
    return datasets.Dataset(images, labels, images[:50], labels[:50], image_shape=(28, 28, 1))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that a test draws, collected instead of saved."""
    figures_drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: figures_drawn.append(self))
    return figures_drawn


@pytest.fixture
def coarse(monkeypatch):
    """Figures have a quarter of the pixels, for tests of an example that do not look at them."""
    for room in (figures.style, figures.film):
        monkeypatch.setattr(room, "DPI", 110)


@pytest.fixture(scope="session")
def mpiexec():
    """Run Python on several ranks, for at most two minutes."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install '.[mpi]'")
    beside = Path(sys.executable).with_name("mpiexec")
    command = str(beside) if beside.exists() else shutil.which("mpiexec")
    if command is None:
        pytest.skip("there is no mpiexec")

    def run(ranks, *arguments, **options):
        whole = [command, "-n", str(ranks), sys.executable, *map(str, arguments)]
        return subprocess.run(whole, capture_output=True, text=True, timeout=120, **options)
    return run


@pytest.fixture(scope="session")
def mnist():
    return datasets.mnist()


def idx_bytes(array):
    """An array of uint8 in the IDX format, written independently of the reader."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype("uint8").tobytes()


def write_idx_folder(folder, images, labels, test=50):
    """The four files in ``folder``: raw for training, gzip for the test set, which is the first ``test``
    images."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images[:test])))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels[:test])))
    return folder


@pytest.fixture(scope="session")
def small_mnist(mnist, tmp_path_factory):
    """A folder with the first 640 images of MNIST, as another data set would be laid out."""
    images = numpy.round(mnist.train_images[:640].reshape(-1, 28, 28) * 255)
    return write_idx_folder(tmp_path_factory.mktemp("data") / "small", images, mnist.train_labels[:640])
