"""``Tensor``: an array that remembers how it was computed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import numpy

from minigen import backend
from minigen.backend import Array, xp

Value = TypeVar("Value", bound=Any)         # of a function that returns what it was given, array or Tensor

# The ops behind Tensor's operators and methods, by name; ``ops`` puts them here.
operators: dict[str, Callable[..., Tensor]] = {}

next_order = itertools.count().__next__     # numbers Tensors as they are created or get new values


def real_array(data: Any, dtype: Any, name: str) -> Array:
    """A copy of ``data``, real numbers in a regular array, with this dtype or, if that is None, its own.

    Its own is that of a float array or NumPy number, and float32 for all others. ``TypeError`` names ``name``
    if ``data`` is anything else, or if the dtype is neither float32 nor float64.
    """
    if isinstance(data, numpy.ma.MaskedArray):
        raise TypeError(f"{name}: a masked array found: fill it first, with filled()")
    try:
        array = xp.asarray(data)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: real numbers in a regular array expected: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: real numbers expected, {array.dtype} found")
    if dtype is None:
        keeps = array.dtype.kind == "f" and hasattr(data, "dtype")
        dtype = array.dtype.newbyteorder("=") if keeps else xp.float32
    try:
        kind = xp.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{name}: float32 or float64 expected: {error}") from None
    if kind not in (xp.float32, xp.float64):
        raise TypeError(f"{name}: float32 or float64 expected, {kind} found")
    return xp.array(array, dtype=dtype, order="C")     # last bits of products depend on the order


class Tensor:
    """An array whose history is recorded.

    ``Tensor(data)`` is a leaf with a copy of ``data``. An array of float64 stays float64; Python numbers,
    lists and integers become float32 unless ``dtype`` is ``"float64"``. All other Tensors come from ops.
    Operators, indexing and methods work as in NumPy; comparisons return raw arrays of bool.

    A leaf can be copied and pickled. A Tensor that comes from an op cannot: copy its ``data``.
    """

    __slots__ = ("_data", "order", "op", "args", "raw", "options", "__weakref__")
    _data: Array
    order: int
    # The op that this is a result of, or None; then with its arguments, their raw arrays, and its options.
    op: Any
    args: Any
    raw: Any
    options: dict[str, Any]
    # With these, NumPy and CuPy leave `array + tensor` to Tensor.__radd__, and likewise other operators.
    __array_ufunc__ = None
    __array_priority__ = 1000.0

    def __init__(self, data: Any, dtype: Any = None) -> None:
        self.adopt(real_array(data._data if type(data) is Tensor else data, dtype, "Tensor"))

    @classmethod
    def holding(cls, array: Array) -> Tensor:
        """A leaf with this array, which is not copied and must not change from now on."""
        tensor = cls.__new__(cls)
        tensor.adopt(array)
        return tensor

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError(f"{cls.__name__}: Tensor cannot have subclasses, because ops return Tensors: let "
                        "your class hold a Tensor")

    @property
    def data(self) -> Array:
        """The value, a raw array of the backend. It is read-only: graphs and views share it.

        A leaf can be assigned a new array of the same shape and dtype, as in ``x.data = x.data - 0.5``. It is
        copied. A graph that was recorded with the earlier value can then no longer be differentiated through
        the leaf: ``grad`` raises ``RuntimeError``.
        """
        return backend.read_only(self._data)

    @data.setter
    def data(self, value: Any) -> None:
        if self.op is not None:
            raise TypeError(f"Tensor.data: only a leaf gets a new value, and this is a result of "
                            f"{self.op.name}: make a leaf with Tensor(value)")
        is_array = isinstance(value, (numpy.ndarray, xp.ndarray))
        if is_array and value.dtype.kind == "f" and value.dtype.newbyteorder("=") != self.dtype:
            raise TypeError(f"Tensor.data: {self.dtype} expected, {value.dtype} found: convert it with "
                            f"astype({str(self.dtype)!r})")
        array = real_array(value, self.dtype, "Tensor.data")
        if array.shape != self.shape:
            raise ValueError(f"Tensor.data: a value of shape {self.shape} expected, {array.shape} found")
        self.adopt(array)

    def adopt(self, array: Array) -> None:
        """Make this Tensor a leaf with this array, which is not copied and must not change from now on."""
        self._data = array
        self.order = next_order()
        self.op = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The length along each axis, () of a single number."""
        return tuple(self._data.shape)

    @property
    def dtype(self) -> Any:
        """float32 or float64."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return int(self._data.ndim)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self._data.size)

    def item(self) -> float:
        """The number in a Tensor of size 1. On a GPU this waits for the device."""
        return float(self._data.item())

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """The sum over all axes, one axis or a tuple of axes."""
        return operators["sum"](self, axis=axis, keepdims=keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """The mean over all axes, one axis or a tuple of axes."""
        return operators["mean"](self, axis=axis, keepdims=keepdims)

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """The largest element over all axes, one axis or a tuple of axes."""
        return operators["max"](self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape, given as integers or as one tuple; one of them may be -1."""
        return operators["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes permuted, given as integers or as one tuple; reversed if none are given."""
        in_one = len(axes) == 1 and (axes[0] is None or numpy.ndim(axes[0]) > 0)
        return operators["transpose"](self, axes[0] if in_one else axes or None)

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return operators["transpose"](self)

    def __getitem__(self, index: Any) -> Tensor:
        return operators["getitem"](self, index)

    def __add__(self, other: Any) -> Tensor:
        return operators["add"](self, other)

    def __radd__(self, other: Any) -> Tensor:
        return operators["add"](other, self)

    def __sub__(self, other: Any) -> Tensor:
        return operators["sub"](self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return operators["sub"](other, self)

    def __mul__(self, other: Any) -> Tensor:
        return operators["mul"](self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return operators["mul"](other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return operators["div"](self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return operators["div"](other, self)

    def __pow__(self, other: Any) -> Tensor:
        return operators["power"](self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return operators["power"](other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return operators["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return operators["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return operators["neg"](self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return operators["abs"](self)

    # Comparisons are piecewise constant: they return raw arrays of bool.
    def __eq__(self, other: Any) -> Any:
        return self._data == value_of(other)

    def __ne__(self, other: Any) -> Any:
        return self._data != value_of(other)

    def __lt__(self, other: Any) -> Any:
        return self._data < value_of(other)

    def __le__(self, other: Any) -> Any:
        return self._data <= value_of(other)

    def __gt__(self, other: Any) -> Any:
        return self._data > value_of(other)

    def __ge__(self, other: Any) -> Any:
        return self._data >= value_of(other)

    __hash__ = object.__hash__

    def __float__(self) -> float:
        return self.item()

    def __bool__(self) -> bool:
        return bool(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.shape == () and spec else super().__format__(spec)

    def __repr__(self) -> str:
        origin = f", from {self.op.name}" if self.op else ""
        values = xp.array2string(self.data, separator=", ", threshold=100, edgeitems=2, prefix="Tensor(")
        return f"Tensor({values}, {self.dtype} {self.shape}{origin})"

    # Not NoReturn: the type hints of `array + tensor` would then be those of two arrays.
    def __array__(self, *args: Any, **options: Any) -> object:
        raise TypeError("a Tensor is not an array: use minigen.ops to compute with it, "
                        "minigen.to_host to read it")

    def __array_function__(self, function: Any, *others: Any) -> NoReturn:
        raise TypeError(f"{function.__module__}.{function.__name__}: a Tensor is not an array: use "
                        "minigen.ops to compute with it, minigen.to_host to read it")

    def __reduce__(self) -> Any:
        if self.op is not None:
            raise TypeError(f"a Tensor from an op, here {self.op.name}, cannot be copied or pickled, because "
                            "its graph cannot: use Tensor(x.data)")
        return Tensor, (xp.asarray(self._data),)


def value_of(x: Any) -> Any:
    """The raw array of a Tensor; anything else unchanged."""
    return x._data if type(x) is Tensor else x
