"""Switching the array backend, and what is said when it cannot be."""

import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigen import backend, ops
from minigen.core import Tensor, grad


@pytest.fixture
def restored():
    yield
    backend.use("numpy")


class NoDriver(RuntimeError):
    """Stands for CuPy's CUDARuntimeError."""


def fake_cupy(devices):
    """A module that says it is CuPy: NumPy's functions, and a runtime that answers ``devices`` or raises it."""
    def count():
        if isinstance(devices, Exception):
            raise devices
        return devices
    module = types.ModuleType("cupy")
    module.__getattr__ = lambda name: getattr(numpy, name)
    runtime = types.SimpleNamespace(CUDARuntimeError=NoDriver, getDeviceCount=count)
    module.cuda = types.SimpleNamespace(runtime=runtime)
    return module


def test_numpy_is_the_default():
    assert backend.name() == "numpy" and backend.xp.exp is numpy.exp


def test_an_unknown_backend():
    with pytest.raises(backend.BackendError, match="unknown backend 'torch': expected 'numpy' or 'cupy'"):
        backend.use("torch")


def test_cupy_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(backend.BackendError, match="needs CuPy.*pip install") as error:
        backend.use("cupy")
    assert "\n" not in str(error.value) and backend.name() == "numpy"


def test_no_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(NoDriver("cudaErrorNoDevice: no CUDA-capable device\nmore")))
    with pytest.raises(backend.BackendError, match="finds no CUDA device") as error:
        backend.use("cupy")
    assert "\n" not in str(error.value) and backend.name() == "numpy"


def test_switching_reaches_code_that_is_already_imported(monkeypatch, restored):
    module = fake_cupy(1)
    module.exp = lambda a: numpy.full_like(a, 42)
    monkeypatch.setitem(sys.modules, "cupy", module)
    x = Tensor([0.0])
    assert ops.exp(x).item() == 1
    backend.use("cupy")
    assert backend.name() == "cupy" and ops.exp(x).item() == 42
    backend.use("numpy")
    assert ops.exp(x).item() == 1


def test_the_environment_chooses_the_backend():
    code = "import minigen.backend as b; print(b.name())"
    for value, expected in [("numpy", "numpy"), ("", "numpy"), ("nonsense", "unknown backend 'nonsense'")]:
        done = subprocess.run([sys.executable, "-c", code], env={"MINIGEN_BACKEND": value, "PYTHONPATH": ":".join(sys.path)},
                              capture_output=True, text=True)
        assert expected in done.stdout + done.stderr


def test_host_and_device():
    class OnDevice:
        def get(self):
            return numpy.ones(2)
    assert backend.to_host(OnDevice()).tolist() == [1, 1]
    a = numpy.ones(2)
    assert backend.to_device(a) is a and backend.to_host(a) is a


@pytest.fixture
def three_threads(monkeypatch):
    """Work is shared among three threads, and arrays of a few numbers are large, however many processors there are."""
    pool = ThreadPoolExecutor(2)
    monkeypatch.setattr(backend, "threads", lambda: 3)
    monkeypatch.setattr(backend, "_pool", lambda: pool)
    monkeypatch.setattr(backend, "_WORTH", 4)
    monkeypatch.setattr(backend, "block_numbers", lambda: 16)
    monkeypatch.setattr(backend, "row_blocks", lambda shape: [slice(i, i + 2) for i in range(0, shape[0], 2)])
    with pool:
        yield


@pytest.mark.parametrize("jobs", [0, 1, 2, 3, 7, 100])
def test_every_job_is_done_once(jobs, three_threads):
    done = []
    backend.parallel(done.append, range(jobs))
    assert sorted(done) == list(range(jobs))


def test_threads_that_have_not_begun_are_not_waited_for(three_threads):
    busy, done = threading.Event(), []
    others = [backend._pool().submit(busy.wait, 5) for _ in range(2)]
    backend.parallel(done.append, range(9))
    assert sorted(done) == list(range(9)) and not any(other.done() for other in others)
    busy.set()


def test_work_is_shared(three_threads):
    meeting = threading.Barrier(3, timeout=30)          # passed only if three threads come
    backend.parallel(lambda job: meeting.wait(), range(3))


def test_a_thread_that_is_done_helps_the_others(three_threads):
    rest, done = threading.Event(), []

    def work(job):
        if job == 0:
            assert rest.wait(30)            # the rest of the first thread's part is done by the others meanwhile
        done.append(job)
        if len(done) == 8:
            rest.set()
    backend.parallel(work, range(9))
    assert sorted(done) == list(range(9)) and done[-1] == 0


@pytest.mark.parametrize("wrong", [0, 5, 8])
def test_a_failure_in_any_thread_is_raised(wrong, three_threads):
    def work(job):
        if job == wrong:
            raise ArithmeticError(f"job {job}")
    with pytest.raises(ArithmeticError, match=f"job {wrong}"):
        backend.parallel(work, range(9))


def blas_threads():
    return {library["num_threads"] for library in backend._blas().info()}


def test_products_run_on_one_thread_where_the_others_are_used(three_threads):
    before, found = blas_threads(), []
    backend.parallel(lambda job: found.append(blas_threads()), range(6))
    with backend.large_arrays():
        found.append(blas_threads())
    assert found == [{1}] * 7 and blas_threads() == before


@given(rows=st.integers(1, 5000), columns=st.integers(1, 5000), numbers=st.integers(1, 10000))
def test_blocks_are_all_rows_once(rows, columns, numbers):
    times = backend.wide(columns, rows, numbers)
    assert rows % times == 0 and (times == 1 or times * columns < 2 * numbers)
    assert backend.wide(columns, 1 << 14, numbers) * columns >= numbers
    blocks = backend.row_blocks((rows, columns))
    assert [i for block in blocks for i in range(rows)[block]] == list(range(rows))
    assert max(len(range(rows)[block]) for block in blocks) * columns <= max(columns, backend.block_numbers())


@pytest.mark.parametrize("function, arguments", [
    (ops.relu, "x"), (ops.sigmoid, "x"), (ops.tanh, "x"), (lambda *args: ops.batch_norm(*args, 0.1)[0], "xcc")])
@pytest.mark.parametrize("shape", [(9, 5), (2, 3, 4, 3), (66, 2)])
def test_large_arrays_are_what_small_ones_are(function, arguments, shape, rng, three_threads, monkeypatch):
    arrays = [rng.normal(size={"x": shape, "c": shape[-1:]}[kind]) for kind in arguments]

    def everything():
        calls.clear()
        leaves = [Tensor(numpy.asfortranarray(a)) for a in arrays]
        y = function(*leaves)
        return [y.data, *grad(ops.sum(y * y), leaves)]
    calls = []
    shared = backend.parallel
    monkeypatch.setattr(backend, "parallel", lambda work, jobs: (calls.append(len(list(jobs))), shared(work, jobs)))
    large = everything()
    assert max(calls) > 1
    monkeypatch.setattr(backend, "_WORTH", 10 ** 9)
    monkeypatch.setattr(backend, "row_blocks", lambda shape: [slice(0, shape[0])])
    for one, other in zip(large, everything()):
        assert one.shape == other.shape
        numpy.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows, inner, columns", [(5, 7, 9), (3, 4, 2), (1, 1, 1)])
def test_products_of_large_arrays_are_shared_out(rows, inner, columns, rng, three_threads, monkeypatch):
    monkeypatch.setattr(ops, "_MUCH", 1)
    a, b = rng.normal(size=(inner, rows)).T, rng.normal(size=(inner, columns))
    calls, shared = [], backend.parallel
    monkeypatch.setattr(backend, "parallel", lambda work, jobs: (calls.append(len(list(jobs))), shared(work, jobs)))
    alone = ops.matmul(a, b)
    assert calls == []
    with backend.large_arrays():
        together = ops.matmul(a, b)
        assert calls == [min(3, columns)] and ops.matmul(a[None], b).shape == (1, rows, columns) and len(calls) == 1
    numpy.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-12)
    ops.matmul(a, b)
    assert len(calls) == 1
