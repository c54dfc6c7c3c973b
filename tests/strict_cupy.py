"""A strict stand-in for CuPy, on NumPy arrays: it refuses whatever CuPy refuses, and counts what is slow on a
GPU.

``cupy`` is the module to be put into ``sys.modules``. It has the names and parameters that cupy_names.json
lists, see make_cupy_names.py, and computes what NumPy's function of the same name computes. Its arrays are of
a class of their own: NumPy arrays are refused beside them, reductions and single elements are arrays of no
dimension, and memory that was not filled holds NaN. ``counts`` says how often the host had to wait for the
device, and how often it sent data to it.

Where CuPy is lenient, but differently from NumPy, this refuses: an index twice where values are assigned
(CuPy leaves open which of them stays), an index that is out of bounds (CuPy starts again from the front), a
device array in a function of NumPy's.
"""

import inspect
import json
import operator
import re
import types
from dataclasses import dataclass
from pathlib import Path

import numpy

NAMES = json.loads(Path(__file__).with_name("cupy_names.json").read_text())
SCALARS = (bool, int, float, complex, numpy.generic)
WITHOUT_ARRAYS = {"arange", "can_cast", "eye", "full", "identity", "linspace", "ones", "result_type", "zeros"}
ADDING = {"sum", "mean"}     # in pairs along any axis; NumPy, along the last one only
# To those whose documentation says that they may wait for the device: what gives something to the host.
WAITING = {
    *NAMES["synchronising"], "compress", "dump", "dumps", "item", "nonzero", "tobytes", "tofile", "tolist",
    "array2string", "array_repr", "array_str"
}


@dataclass
class Counts:
    """Since the last ``reset``."""

    synchronisations: int = 0
    copies_to_device: int = 0
    fused: int = 0      # calls of fused kernels

    def reset(self):
        self.synchronisations = self.copies_to_device = self.fused = 0


counts = Counts()
fusing = []     # the names of the fused kernels that are being computed
sums = []       # that they have computed


class ndarray:
    """An array "on the device", which is the NumPy array ``_host``. The rest of its methods is added below,
    from the list."""

    __slots__ = ("_host",)
    # CuPy's, like its __array_function__, would compute on the device what NumPy is asked for.
    __array_ufunc__ = None
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, *args, **options):
        raise TypeError("cupy.ndarray: use cupy.empty")

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. "
                        "Please use `.get()` to construct a NumPy array explicitly.")

    def __array_function__(self, function, types, args, options):
        raise TypeError(f"numpy.{function.__name__} of a cupy.ndarray")

    def _waited_for(self):
        refuse_in_fusion("what waits for the device")
        counts.synchronisations += 1
        return self._host

    def get(self, stream=None, order="C", out=None, blocking=True):
        return self._waited_for().copy(order)

    def __bool__(self):
        return bool(self._waited_for())

    def __int__(self):
        return int(self._waited_for())

    def __float__(self):
        return float(self._waited_for())

    def __repr__(self):
        return repr(self._waited_for())

    def __format__(self, spec):
        return format(self._waited_for(), spec)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    @property
    def flags(self):
        names = ("c_contiguous", "f_contiguous", "owndata")
        return types.SimpleNamespace(**{name: getattr(self._host.flags, name) for name in names})

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._host.ctypes.data)

    def __getitem__(self, index):
        refuse_in_fusion("indexing")
        return on_device(self._host[_index(index)])

    def __setitem__(self, index, value):
        refuse_in_fusion("indexing")
        if not isinstance(value, (ndarray, *SCALARS)):
            raise ValueError(f"non-scalar {type(value)} cannot be used for fill")
        index = _index(index)
        if any(isinstance(part, numpy.ndarray) and part.dtype != bool for part in index):
            places = numpy.arange(self._host.size).reshape(self._host.shape)[index]
            if numpy.unique(places).size < places.size:
                raise ValueError("an index twice in an assignment: CuPy does not say which value stays")
        self._host[index] = operand(value)


def on_device(result):
    """What NumPy returned, as CuPy returns it: arrays and NumPy's scalars on the device."""
    if isinstance(result, (numpy.ndarray, numpy.generic)):
        array = object.__new__(ndarray)
        array._host = numpy.asarray(result)
        return array
    return type(result)(map(on_device, result)) if isinstance(result, (list, tuple)) else result


def on_host(argument):
    """An argument as NumPy's functions take it; arrays of the host are refused."""
    if isinstance(argument, ndarray):
        return argument._host
    if isinstance(argument, numpy.ndarray):
        raise TypeError(f"Unsupported type {type(argument)}")
    return type(argument)(map(on_host, argument)) if isinstance(argument, (list, tuple)) else argument


def values_on_host(options):
    return {key: on_host(value) for key, value in options.items()}


def operand(argument):
    """An argument of an elementwise function: an array of the device or a number."""
    if not isinstance(argument, (ndarray, *SCALARS)):
        raise TypeError(f"Unsupported type {type(argument)}")
    return on_host(argument)


def _index(index):
    """An index as a tuple, for views of single elements too. CuPy copies lists and host arrays to the device,
    and counts masks."""
    parts = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, ndarray):
            part = part._host
        elif isinstance(part, (list, numpy.ndarray, bool)):
            counts.copies_to_device += 1
            part = numpy.asarray(part, None if numpy.size(part) else getattr(part, "dtype", int))
        counts.synchronisations += isinstance(part, numpy.ndarray) and part.dtype == bool
        parts.append(part)
    return tuple(parts) if any(part is Ellipsis for part in parts) else (*parts, Ellipsis)


def signature(words):
    """The signature with the parameters of an entry of the list."""
    parameters, kind = [], inspect.Parameter.POSITIONAL_OR_KEYWORD
    for word in filter(None, words.split(", ")):
        name, stars = word.strip("*="), word.count("*")
        if name:
            star = (kind, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)[stars]
            parameters.append(
                inspect.Parameter(name, star,
                                  default=None if word.endswith("=") else inspect.Parameter.empty))
        if stars == 1:
            kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(parameters)


def function(name, numpys, words):
    """CuPy's function of this name, which takes the parameters ``words`` and computes what NumPy's does."""
    allowed = signature(words)

    def call(*args, **options):
        if name != "sum" or not fusing:
            refuse_in_fusion(f"cupy.{name}")
        bound = allowed.bind(*args, **options)
        given = [a for b in (*args, *options.values()) for a in (b if isinstance(b, (list, tuple)) else (b,))]
        if name not in WITHOUT_ARRAYS and not any(isinstance(a, ndarray) for a in given):
            raise TypeError(f"cupy.{name}: no cupy.ndarray among the arguments")
        counts.synchronisations += name in WAITING and not (name == "where" and "x" in bound.arguments)
        if name in ADDING and getattr(given[0], "dtype", None) == "float32" and "dtype" not in options:
            result = numpys(*map(on_host, args), **values_on_host(options), dtype="float64").astype("float32")
        else:
            result = numpys(*map(on_host, args), **values_on_host(options))
        result = on_device(result)
        if fusing:
            sums.append(result)
        return result
    return call


def method(name, words):
    """The same for a method of the arrays."""
    allowed, numpys = signature(words), getattr(numpy.ndarray, name)

    def call(self, *args, **options):
        refuse_in_fusion(f"cupy.ndarray.{name}")
        allowed.bind(*args, **options)
        counts.synchronisations += name in WAITING
        return on_device(numpys(self._host, *map(on_host, args), **values_on_host(options)))
    return call


class Ufunc:
    """CuPy's elementwise function of this name; of NumPy's options it takes ``out``, ``dtype`` and
    ``casting``."""

    def __init__(self, name):
        self.name, self.numpys = name, getattr(numpy, name)

    def __call__(self, *args, **options):
        if options.keys() - {"out", "dtype", "casting"}:
            raise TypeError(f"Wrong arguments {options}")
        return on_device(self.numpys(*map(operand, args), **values_on_host(options)))

    def at(self, a, indices, b=None):
        if not NAMES["ufuncs"][self.name]:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        if a.dtype not in ("int32", "uint32", "uint64", "float16", "float32", "float64"):
            raise TypeError(f"cupy.{self.name}.at does not support {a.dtype}")
        self.numpys.at(a._host, _index(indices), operand(b))


def asarray(a, dtype=None, order=None, *, blocking=False):
    """From the device the same array, if the dtype is the same; from the host a copy."""
    if isinstance(a, ndarray):
        host = numpy.asarray(a._host, dtype, order)
        return a if host is a._host else on_device(host)
    counts.copies_to_device += 1
    host = numpy.array(a, dtype, order=order)
    if host.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    return on_device(host)


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    return on_device(numpy.array(asarray(obj, dtype)._host, copy=copy, order=order, ndmin=ndmin))


def empty(shape, dtype=float, order="C"):
    """Memory with NaN in it, or 99."""
    return on_device(numpy.full(shape, numpy.nan if numpy.dtype(dtype).kind in "fc" else 99, dtype, order))


def fuse(kernel_name):
    """Calls the function itself, but only with arrays and numbers, and lets it use elementwise functions and
    operators only, and a sum at the end."""
    if not re.fullmatch(r"[A-Za-z_]\w*", kernel_name):
        raise ValueError(f'Invalid kernel name: "{kernel_name}"')

    def decorate(function):
        def call(*args):
            for argument in args:
                if not isinstance(argument, (ndarray, *SCALARS, type(None))):
                    raise TypeError(f"Invalid argument type for '{kernel_name}': {type(argument)}")
            counts.fused += 1
            fusing.append(kernel_name)
            try:
                result = function(*args)
                if sums and sums.pop() is not result:
                    refuse_in_fusion("what follows a sum")
                return result
            finally:
                fusing.pop()
                sums.clear()
        return call
    return decorate


def refuse_in_fusion(name):
    if fusing:
        raise TypeError(f"{name} cannot be part of a fused kernel, {fusing[-1]}")


class ElementwiseKernel:
    """What minigen's own kernels do, see ``kernels.concatenate`` and ``kernels.gather``."""

    def __init__(self, in_params, out_params, operation, name):
        self.compute = {"minigen_placed": place, "minigen_gathered": gather}[name]
        assert out_params == "T y" and "raw T " in in_params and "y = " in operation

    def __call__(self, *args):
        assert len({a.dtype for a in args if isinstance(a, ndarray)}) == 1
        counts.fused += 1
        self.compute(*(a._host if isinstance(a, ndarray) else operator.index(a) for a in args))


def place(*args):
    *given, y = args
    y[...] = 0
    for start, end, part in zip(given[::3], given[1::3], given[2::3], strict=True):
        y[start:end] = part


def gather(x, *args):
    *numbers, windows = args
    _, down, across, height, width, _ = windows.shape
    assert (*numbers[:3], *numbers[3:7]) == (*x.shape[1:], down, across, height, width)
    row_step, top, column_step, left = numbers[7:]
    h = (numpy.arange(down) * row_step + top)[:, None, None, None] + numpy.arange(height)[:, None]
    w = (numpy.arange(across) * column_step + left)[:, None, None] + numpy.arange(width)
    inside = (h >= 0) & (h < x.shape[1]) & (w >= 0) & (w < x.shape[2])
    seen = x[:, h % x.shape[1], w % x.shape[2]]
    windows[...] = numpy.where(inside[..., None], seen, 0)


class CUDARuntimeError(RuntimeError):
    """CuPy's, for what has no device."""


class Module(types.ModuleType):
    """``cupy``: its names are made when they are first asked for."""

    def __getattr__(self, name):
        if name in NAMES["numpys"]:
            value = getattr(numpy, name)
        elif name in NAMES["ufuncs"] and hasattr(numpy, name):
            value = Ufunc(name)
        elif name in NAMES["functions"] and hasattr(numpy, name):
            value = function(name, getattr(numpy, name), NAMES["functions"][name])
        else:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}, or its stand-in does not know it")
        setattr(self, name, value)
        return value


cupy = Module("cupy")
cupy.ndarray, cupy.asarray, cupy.asanyarray, cupy.array, cupy.empty = ndarray, asarray, asarray, array, empty
cupy.asnumpy = lambda a, stream=None, order="C", out=None, *, blocking=True: a.get()
cupy.fuse, cupy.ElementwiseKernel = fuse, ElementwiseKernel
cupy.empty_like = lambda a: empty(a.shape, a.dtype)
cupy.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=function(
    "as_strided", numpy.lib.stride_tricks.as_strided, NAMES["stride_tricks"]["as_strided"])))
cupy.cuda = types.SimpleNamespace(
    runtime=types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1,
                                  setDevice=lambda number: None, memGetInfo=lambda: (1 << 40, 1 << 40),
                                  getDevice=lambda: 0, getDeviceProperties=lambda number: {"name": b"none"}))
cupy.__version__ = NAMES["versions"][-1]


def operators(word, ufunc):
    """The operators of CuPy's arrays with this word in their names: a + b, b + a and a += b. An unknown class
    may come first."""
    def forward(self, other):
        return NotImplemented if _its_turn(other) else ufunc(self, other)

    def in_place(self, other):
        if _its_turn(other):
            return NotImplemented
        ufunc(self, other, out=self)
        return self
    for name, call in ((f"__{word}__", forward), (f"__r{word}__", lambda self, other: ufunc(other, self)),
                       (f"__i{word}__", in_place)):
        if name in NAMES["operators"]:
            setattr(ndarray, name, call)


def _its_turn(other):
    return not isinstance(other, ndarray) and getattr(other, "__array_ufunc__", other) is None


def unary(ufunc):
    return lambda self: ufunc(self)


for word, name in {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
        "mod": "remainder", "pow": "power", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
        "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift", "eq": "equal",
        "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"
}.items():
    operators(word, getattr(cupy, name))
for word, name in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():
    setattr(ndarray, f"__{word}__", unary(getattr(cupy, name)))
for name in NAMES["methods"]:
    if not hasattr(ndarray, name) and name != "fill" and hasattr(numpy.ndarray, name):
        setattr(ndarray, name, method(name, NAMES["methods"][name]))
for name in {"T", "base", "dtype", "imag", "itemsize", "nbytes", "ndim", "real", "shape", "size", "strides"
             } & {*NAMES["attributes"]}:
    setattr(ndarray, name, property(lambda self, read=operator.attrgetter(name): on_device(read(self._host))))
