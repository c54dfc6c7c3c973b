"""Switching the array backend, and what is said when it cannot be."""

import subprocess
import sys
import types

import numpy
import pytest

from minigen import backend, ops
from minigen.core import Tensor


@pytest.fixture
def restored():
    yield
    backend.use("numpy")


class NoDriver(RuntimeError):
    """Stands for CuPy's CUDARuntimeError."""


def fake_cupy(devices, version="14.2.0"):
    """A module that says it is CuPy: NumPy's functions, and a runtime that answers ``devices`` or raises
    it."""
    def count():
        if isinstance(devices, Exception):
            raise devices
        return devices
    module = types.ModuleType("cupy")
    module.__version__ = version
    module.__getattr__ = lambda name: getattr(numpy, name)
    runtime = types.SimpleNamespace(CUDARuntimeError=NoDriver, getDeviceCount=count)
    module.cuda = types.SimpleNamespace(runtime=runtime)
    return module


def test_ranks_and_workers_take_the_gpus_in_turn(monkeypatch):
    chosen, module = [], fake_cupy(3)
    module.cuda.runtime.setDevice = chosen.append
    monkeypatch.setitem(sys.modules, "cupy", module)
    backend.choose_device(1)        # with NumPy there is nothing to choose
    backend.use("cupy")
    try:
        for number in range(5):
            backend.choose_device(number)
    finally:
        backend.use("numpy")
    assert chosen == [0, 1, 2, 0, 1]


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
    monkeypatch.setitem(sys.modules, "cupy",
                        fake_cupy(NoDriver("cudaErrorNoDevice: no CUDA-capable device\nmore")))
    with pytest.raises(backend.BackendError, match="finds no CUDA device") as error:
        backend.use("cupy")
    assert "\n" not in str(error.value) and backend.name() == "numpy"


@pytest.mark.parametrize("version", ["13.6.0", "9.0.0b1"])
def test_an_old_cupy(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(1, version))
    with pytest.raises(backend.BackendError, match=f"^CuPy 14 or later expected, {version} found: pip"):
        backend.use("cupy")
    assert backend.name() == "numpy"


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError])
def test_missing_libraries_show_at_once(monkeypatch, error):
    class Unmultiplied:
        def __matmul__(self, other):
            raise error("libcublas.so.12: cannot open shared object file\n\nmore")
    module = fake_cupy(1)
    module.ones = lambda *_: Unmultiplied()
    monkeypatch.setitem(sys.modules, "cupy", module)
    with pytest.raises(backend.BackendError, match=r"cannot multiply \(libcublas.so.12: cannot open") as seen:
        backend.use("cupy")
    assert "\n" not in str(seen.value) and "[ctk]" in str(seen.value) and backend.name() == "numpy"


def test_what_computes(monkeypatch, restored):
    assert backend.about() == {"backend": "numpy"}
    module = fake_cupy(1)
    module.cuda.runtime.getDevice = lambda: 1
    module.cuda.runtime.getDeviceProperties = lambda number: {"name": f"GPU {number}".encode()}
    monkeypatch.setitem(sys.modules, "cupy", module)
    backend.use("cupy")
    for value, allowed in (("1", True), ("0", False), ("", False), (None, False)):
        if value is None:
            monkeypatch.delenv("CUPY_TF32", raising=False)
        else:
            monkeypatch.setenv("CUPY_TF32", value)
        assert backend.about() == {"backend": "cupy", "cupy": "14.2.0", "gpu": "GPU 1", "tf32": allowed}


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
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={"MINIGEN_BACKEND": value, "PYTHONPATH": ":".join(sys.path)})
        assert expected in done.stdout + done.stderr


def test_host_and_device():
    class OnDevice:
        def get(self):
            return numpy.ones(2)
    assert backend.to_host(OnDevice()).tolist() == [1, 1]
    a = numpy.ones(2)
    assert backend.to_device(a) is a and backend.to_host(a) is a
