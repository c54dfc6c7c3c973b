"""``Op``: a differentiable function; and ``no_grad``, within which ops record no graph."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar, overload

import numpy

from minigen import checks, threads
from minigen.backend import Array, xp
from minigen.tensor import Tensor, next_order, value_of

_P = ParamSpec("_P")
_R = TypeVar("_R")
_FLOAT16 = numpy.dtype("float16")
_PLAIN = frozenset((numpy.ndarray, float, int, bool, type(None)))      # what forward functions take as it is
_LISTS = (list, tuple, numpy.ma.MaskedArray)    # what they do not take, with or without Tensors


class _Thread(threading.local):
    """State of which each thread has its own copy."""

    paused = 0      # recording is off while this is above 0


thread = _Thread()


class Op:
    """A differentiable function: a forward function and its vector-Jacobian products, the partials.

    ``doc`` is ``"name(arguments) = formula"``. ``forward(*arrays, **options)`` works on raw arrays. There is
    one partial per argument, called as ``partial(g, y, *args, **options)`` with the gradient ``g`` with
    respect to the output ``y``. It returns the gradient with respect to its argument, and the engine sums
    this over broadcast axes. ``None`` stands for a derivative that is zero everywhere. One function replaces
    partials that share work: ``joint(needed, g, y, *args, **options)``. Its ``needed`` has a bool per
    argument. It returns a gradient per argument, or ``None`` where no gradient is needed.

    With ``elementwise`` the output has the shape of the first argument, and ``forward`` puts it into the
    array ``out`` if it is given one. The op then processes large arrays block by block, and is one kernel on
    a GPU.

    The output of an op has the dtype of its Tensors. Promotion, say from float32 to float64, raises
    ``TypeError``. Python and NumPy numbers and lists of them take the Tensors' dtype; arrays must have it, or
    one that it includes.

    A recorded op keeps the arrays among its arguments and does not copy them. They must not change until the
    gradient has been computed: a forward function or a partial must not write into its arguments either, nor
    into an array that it returned before.
    """

    def __init__(self, doc: str, forward: Callable[..., Array], *partials: Callable[..., Any] | None,
                 joint: Callable[..., Sequence[Any]] | None = None, elementwise: bool = False) -> None:
        if not isinstance(doc, str):
            raise TypeError("Op: doc, a string such as 'mul(a, b) = a b', expected, "
                            f"{checks.shown(doc)} found")
        self.name = doc.split("(")[0]
        self.__doc__ = doc
        self.__module__ = getattr(forward, "__module__", "")
        code = getattr(inspect.unwrap(forward), "__code__", None)
        if code is not None:
            self.__signature__ = inspect.signature(forward)
        # The arguments that have a partial, by name. They may be given by keyword.
        self.names = code.co_varnames[:code.co_argcount][:len(partials)] if code else ()
        if elementwise:
            forward.__name__ = self.name
            forward = threads.elementwise(forward)
        self.forward = forward
        self.partials = partials
        self.joint = joint
        # Partials of others may return an array that they keep.
        self.keeps_nothing = (self.__module__ or "").startswith("minigen.")

    def __repr__(self) -> str:
        return f"<Op {self.__doc__}>"

    def __reduce__(self) -> str:
        return self.name        # copied and pickled as functions are: by name

    @overload
    def __call__(self, first: Tensor, *args: Any, **options: Any) -> Tensor:
        ...

    @overload
    def __call__(self, first: Any, second: Tensor, *args: Any, **options: Any) -> Tensor:
        ...

    @overload
    def __call__(self, *args: Any, **options: Any) -> Any:
        ...

    def __call__(self, *args: Any, **options: Any) -> Any:
        if options:
            args, options = self._bind(args, options)
        dtype = None        # of the Tensors
        plain, lists = True, False
        raw = []
        for a in args:
            kind = type(a)
            if kind is Tensor:
                a = a._data
                if dtype is None:
                    dtype = a.dtype
                elif a.dtype is not dtype and a.dtype != dtype:
                    raise TypeError(f"{self.name}: Tensors of {dtype} and of {a.dtype} found, "
                                    "one dtype expected")
            elif kind not in _PLAIN and kind is not xp.ndarray:
                plain = False
                lists = lists or kind in _LISTS
            raw.append(a)
        if not plain and (lists or dtype is not None):
            args = self._plain(args, dtype)
            raw = [value_of(a) for a in args]
        try:
            y = self.forward(*raw, **options)
            found = y.dtype if dtype is not None else None
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise named(error, signature(self.name, raw, options)) from error
        if dtype is None and getattr(y, "dtype", None) != _FLOAT16:
            return y
        if found is not dtype and found != dtype or type(y) is Tensor or dtype is None:
            raise TypeError(f"{signature(self.name, raw, options)}: {_remedy(y, dtype)}")
        tensor: Tensor = Tensor.__new__(Tensor)
        tensor._data = y
        tensor.order = next_order()
        if thread.paused:
            tensor.op = None
        else:
            if len(args) > len(self.partials) and self.joint is None:
                self._refuse_tensors(args[len(self.partials):])
            tensor.op = self
            tensor.args = args
            tensor.raw = raw
            tensor.options = options
        return tensor

    def _bind(self, args: tuple[Any, ...],
              options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Move keywords that have a partial to their positions, and make NumPy's numbers Python's."""
        for name in self.names[len(args):]:
            if name not in options:
                break
            args = (*args, options.pop(name))
        for name, value in options.items():
            if type(value) is Tensor:
                self._refuse_tensors([value])
            elif isinstance(value, numpy.generic):
                options[name] = value.item()
        return args, options

    def _plain(self, args: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
        """The arguments with lists as arrays; beside Tensors of ``dtype``, if there are any, with NumPy's
        numbers as Python's, and with whatever has a partial as an array."""
        plain = []
        for i, a in enumerate(args):
            if isinstance(a, numpy.ma.MaskedArray):
                raise TypeError(f"{self.name}: a masked array found: fill it first, with filled()")
            is_list = isinstance(a, (list, tuple))
            if isinstance(a, numpy.generic) and dtype is not None:
                a = a.item()
            elif (is_list or dtype is not None and type(a) is not Tensor and type(a) not in _PLAIN) and (
                    i < len(self.partials) or self.joint):
                try:
                    array = xp.asarray(a)
                except (ValueError, TypeError) as error:
                    raise named(error, self.name) from None
                a = array.astype(dtype or array.dtype) if is_list and array.dtype.kind in "iuf" else array
            plain.append(a)
        return tuple(plain)

    def _refuse_tensors(self, values: Sequence[Any]) -> None:
        if any(type(value) is Tensor for value in values):
            raise TypeError(f"{self.__doc__}: a Tensor found where only a number or an array is allowed: "
                            "the op has no derivative there")


def signature(name: str, raw: Sequence[Any], options: dict[str, Any]) -> str:
    words = [f"{a.dtype} {a.shape}" if hasattr(a, "shape") else checks.shown(a) for a in raw]
    words += [f"{key}={checks.shown(value)}" for key, value in options.items()]
    return f"{name}({' '.join(', '.join(words).split())})"


def named(error: Exception, name: str) -> Exception:
    """An error of the same kind whose message begins with ``name``."""
    kind = next((k for k in (ValueError, IndexError, OverflowError) if isinstance(error, k)), TypeError)
    return kind(f"{name}: {error}")


def _remedy(y: Any, dtype: Any) -> str:
    """What is wrong with the result of a forward function, with or without Tensors of ``dtype``."""
    if type(y) is Tensor:
        return "the result is a Tensor: a forward function works on raw arrays, also those of a Tensor"
    if dtype is None:
        return "the result is float16, too coarse for sums: convert arrays with astype('float32')"
    return (f"the result is {y.dtype}, but an op keeps the dtype of its Tensors: convert arrays with "
            f"astype({str(dtype)!r})")


class no_grad:
    """Within this context, or in a function decorated with it, the ops of this thread record no graph."""

    def __enter__(self) -> None:
        thread.paused += 1

    def __exit__(self, *error: Any) -> None:
        thread.paused -= 1

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        checks.plain_function("no_grad", function)

        @wraps(function)
        def call(*args: _P.args, **options: _P.kwargs) -> _R:
            with self:
                return function(*args, **options)
        return call
