"""The kernels that CuPy makes of fused functions compile, and keep the dtype. No device is needed, but CuPy
and NVRTC are."""

import inspect
import re
import sys
from pathlib import Path

import numpy
import pytest

from minigen import backend, batch_norm, dense, kernels, losses, nn, ops, optim
from minigen.models import vae

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
IMAGES, ROWS, CHANNELS, SCALAR, NUMBER = (2, 3, 4, 5), (24, 5), (5,), [], ()
FUSED = {
    "sigmoid": (ops.sigmoid.forward, IMAGES),
    "tanh": (ops.tanh.forward, IMAGES),
    "relu": (ops.relu.forward, IMAGES),
    "softplus": (ops.softplus.forward, IMAGES),
    "gradient of sigmoid": (dense._sigmoid_gradient.forward, IMAGES, IMAGES),
    "gradient of tanh": (dense._tanh_gradient.forward, IMAGES, IMAGES),
    "gradient of softplus": (dense._times_sigmoid.forward, IMAGES, IMAGES),
    "gate": (dense._gate.forward, IMAGES, IMAGES),
    "bias": (dense._FINISH[None], IMAGES, CHANNELS),
    "bias and sigmoid": (dense._FINISH[ops.sigmoid], IMAGES, CHANNELS),
    "bias and tanh": (dense._FINISH[ops.tanh], IMAGES, CHANNELS),
    "bias and relu": (dense._FINISH[ops.relu], IMAGES, CHANNELS),
    "centred": (batch_norm._centred, IMAGES, CHANNELS),
    "scaled": (batch_norm._scaled, IMAGES, *[CHANNELS] * 4, NUMBER),
    "gradient of batch_norm": (batch_norm._in_one_kernel, IMAGES, IMAGES, *[CHANNELS] * 4, NUMBER, NUMBER),
    "gradient of its weight": (batch_norm._weight_gradient, CHANNELS, CHANNELS, NUMBER),
    "running statistics": (nn._moved, CHANNELS, CHANNELS, *[NUMBER] * 3),
    "gradient of squared_error": (losses._difference, IMAGES, IMAGES, SCALAR, NUMBER),
    "gradient of gaussian_kl": (losses._variance_gradient, ROWS, (24, 1)),
    "latent": (vae._sample, ROWS, ROWS, ROWS),
    "gradient of latent": (vae._logvar_gradient, ROWS, ROWS, ROWS),
    "SGD": (optim._sgd, *[IMAGES] * 4, NUMBER, NUMBER),
    "Adam": (optim._adaptive, *[IMAGES] * 5, *[NUMBER] * 4),
    "RMSProp": (optim._adaptive, *[IMAGES] * 4, None, *[NUMBER] * 4),
}


SUMS = {        # with the shape of the result
    "squared error": (losses._sum_of_squares, IMAGES, IMAGES, NUMBER),
    "gaussian_kl": (losses._divergence, ROWS, ROWS),
    "variance": (batch_norm._squares, ROWS, CHANNELS, NUMBER),
    "gradient of weight": (batch_norm._products, ROWS, ROWS),
}


def pretended(shape, dtype):
    """An array whose memory is never looked at; a number for the shape (), None for None."""
    if shape is None or shape == NUMBER:
        return None if shape is None else 0.5
    size = int(numpy.prod(shape)) * numpy.dtype(dtype).itemsize
    return cupy.ndarray(tuple(shape), dtype,
                        cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(1 << 20, size, None, 0), 0))


@pytest.fixture
def without_device(monkeypatch):
    """``xp`` is CuPy, which ``use`` would refuse without a device."""
    monkeypatch.setattr(backend, "_module", cupy)
    backend.xp.__dict__.clear()
    yield
    backend.xp.__dict__.clear()


def kernel(function, args):
    """The kernel that ``cupy.fuse`` makes of the function when it is called so for the first time. Where this
    fails, ``cupy.fuse`` would silently go another way, whose kernels wait for each other."""
    here = _fusion_thread_local.thread_local
    here.history, here.is_old_fusing = fusion._FusionHistory(), True
    try:
        made, _ = here.history.get_fusion(inspect.unwrap(function), args, "fused")
    finally:
        here.history, here.is_old_fusing = None, False
    return made


def compiles(source):
    """Whether NVRTC compiles the source, which has a kernel ``fused``."""
    program = nvrtc.createProgram(source, "fused.cu", (), ())
    try:
        includes = [f"-I{folder}" for folder in HEADERS]
        nvrtc.compileProgram(program, ("--gpu-architecture=compute_80", *includes))
        return b"fused" in bytes(nvrtc.getPTX(program))
    except nvrtc.NVRTCError:
        raise AssertionError(f"{nvrtc.getProgramLog(program)}\n{source}") from None
    finally:
        nvrtc.destroyProgram(program)


def assert_compiles(made, dtype, body):
    """CuPy puts a loop around the body whose details depend on the arrays' memory layouts: here each has one
    element. Nothing is computed in float16, in which CuPy would take numbers alone."""
    parameters = [*made.in_params, *made.out_params]
    assert all(numpy.dtype(parameter.dtype) == dtype for parameter in made.out_params)
    pointers = ", ".join(f"{p.ctype} *p_{p.name}" for p in parameters)
    values = "".join(f"{p.ctype} &{p.name} = *p_{p.name};\n" for p in parameters)
    assert not re.search("float16(?!.cuh)", made.preamble + body)
    assert compiles(f'{made.preamble}\nextern "C" __global__ void fused({pointers}) {{\n{values}{body};\n}}')


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUSED)
def test_fused_functions_compile(name, dtype, without_device):
    function, *shapes = FUSED[name]
    made = kernel(function, [pretended(shape, dtype) for shape in shapes])
    written = sum(not parameter.is_const for parameter in [*made.in_params, *made.out_params])
    assert written == {"SGD": 2, "Adam": 3, "RMSProp": 2}.get(name, 1)
    assert_compiles(made, dtype, made.operation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SUMS)
def test_fused_sums_compile(name, dtype, without_device):
    function, *shapes = SUMS[name]
    made = kernel(function, [pretended(shape, dtype) for shape in shapes])
    assert made.reduce_expr == "a + b" and made.identity == "0"
    assert_compiles(made, dtype, f"{made.reduce_type} a = {made.map_expr};\n{made.post_map_expr}")


@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize("make", [lambda: kernels._placing(cupy.ElementwiseKernel, 3),
                                  lambda: kernels._gathering(cupy.ElementwiseKernel)])
def test_kernels_of_our_own_compile(make, dtype, without_device):
    made = make()
    parameters = ", ".join(
        f"const T *{p.name}" if p.raw else f"int {p.name}" for p in made.in_params)
    assert compiles(f"typedef {dtype} T;\nextern \"C\" __global__ void fused({parameters}, T *p_y) {{\n"
                    f"long long i = threadIdx.x;\nT &y = p_y[i];\n{made.operation};\n}}")
