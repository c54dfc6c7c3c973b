"""The kernels that CuPy makes of fused functions compile, and keep the dtype. No device is needed, but CuPy
and NVRTC are."""

import inspect
import sys
from pathlib import Path

import numpy
import pytest

from minigen import backend, batch_norm, dense, ops, optim

try:
    import cupy
    from cupy._core import _fusion_thread_local, fusion
    from cupy.cuda import nvrtc
    nvrtc.getVersion()
except (ImportError, RuntimeError) as error:
    pytest.skip(f"CuPy or NVRTC is missing: {str(error).strip().splitlines()[0]}", allow_module_level=True)

# CuPy's own headers, and CUDA's, from NVIDIA's packages or the toolkit.
HEADERS = [
    Path(cupy.__file__).with_name("_core") / "include",
    Path(cupy.cuda.get_cuda_path() or "/usr/local/cuda") / "include",
    *(folder for place in sys.path for folder in Path(place).glob("nvidia/*/include"))]
IMAGES, CHANNELS, NUMBER = (2, 3, 4, 5), (5,), ()
FUSED = {
    "sigmoid": (ops.sigmoid.forward, IMAGES),
    "tanh": (ops.tanh.forward, IMAGES),
    "relu": (ops.relu.forward, IMAGES),
    "gate": (dense._gate.forward, IMAGES, IMAGES),
    "bias": (dense._FINISH[None], IMAGES, CHANNELS),
    "bias and sigmoid": (dense._FINISH[ops.sigmoid], IMAGES, CHANNELS),
    "bias and tanh": (dense._FINISH[ops.tanh], IMAGES, CHANNELS),
    "bias and relu": (dense._FINISH[ops.relu], IMAGES, CHANNELS),
    "affine": (batch_norm._affine, IMAGES, CHANNELS, CHANNELS),
    "centred": (batch_norm._centred, IMAGES, CHANNELS),
    "corrected": (batch_norm._corrected, IMAGES, IMAGES, CHANNELS, CHANNELS, CHANNELS),
    "SGD": (optim._sgd, *[IMAGES] * 4, NUMBER, NUMBER),
    "Adam": (optim._adaptive, *[IMAGES] * 5, *[NUMBER] * 4),
    "RMSProp": (optim._adaptive, *[IMAGES] * 4, None, *[NUMBER] * 4),
}


def pretended(shape, dtype):
    """An array whose memory is never looked at; a number for the shape (), None for None."""
    if not shape:
        return 0.5 if shape == NUMBER else None
    size = int(numpy.prod(shape)) * numpy.dtype(dtype).itemsize
    return cupy.ndarray(shape, dtype,
                        cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(1 << 20, size, None, 0), 0))


@pytest.fixture
def without_device(monkeypatch):
    """``xp`` is CuPy, which ``use`` would refuse without a device."""
    monkeypatch.setattr(backend, "_module", cupy)
    backend.xp.__dict__.clear()
    yield
    backend.xp.__dict__.clear()


def kernel(function, args):
    """The kernel that ``cupy.fuse`` makes of the function when it is called so for the first time."""
    here = _fusion_thread_local.thread_local
    here.history, here.is_old_fusing = fusion._FusionHistory(), True
    try:
        made, _ = here.history.get_fusion(inspect.unwrap(function), args, "fused")
    finally:
        here.history, here.is_old_fusing = None, False
    return made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUSED)
def test_fused_functions_compile(name, dtype, without_device):
    function, *shapes = FUSED[name]
    made = kernel(function, [pretended(shape, dtype) for shape in shapes])
    assert all(numpy.dtype(parameter.dtype) == dtype for parameter in made.out_params)
    parameters = [*made.in_params, *made.out_params]
    written = sum(not parameter.is_const for parameter in parameters)
    assert written == {"SGD": 2, "Adam": 3, "RMSProp": 2}.get(name, 1)
    # CuPy puts a loop around the operation whose details depend on the arrays' memory layouts: here each has
    # one element.
    pointers = ", ".join(f"{p.ctype} *p_{p.name}" for p in parameters)
    values = "".join(f"{p.ctype} &{p.name} = *p_{p.name};\n" for p in parameters)
    body = f"{values}{made.operation};\n"
    source = f'{made.preamble}\nextern "C" __global__ void fused({pointers}) {{\n{body}}}'
    program = nvrtc.createProgram(source, "fused.cu", (), ())
    try:
        includes = [f"-I{folder}" for folder in HEADERS]
        nvrtc.compileProgram(program, ("--gpu-architecture=compute_80", *includes))
        assert b"fused" in bytes(nvrtc.getPTX(program))
    except nvrtc.NVRTCError:
        raise AssertionError(f"{nvrtc.getProgramLog(program)}\n{source}") from None
    finally:
        nvrtc.destroyProgram(program)
