"""Modules: parts of networks, which find their parameters and parts, and have a state and a mode."""

from __future__ import annotations

import math
import reprlib
import threading
from collections import UserDict, UserList, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import GeneratorType, SimpleNamespace
from typing import Any, TypeVar, overload

import numpy

from minigen import checks
from minigen.backend import Array, to_device, to_host
from minigen.core import Tensor

_M = TypeVar("_M", bound="Module")


class _Running(threading.local):
    """The modules whose ``forward`` this thread is in."""

    def __init__(self) -> None:
        self.modules: list[Module] = []


_running = _Running()
_SHORT = 100        # items of a list that each call of a module can look through
_PLAIN = frozenset((bool, float, int, numpy.ndarray, str, type(None)))     # most attributes
_GROWING = (dict, list, deque, UserDict, UserList)
_HOLDING = (*_GROWING, tuple)
_HIDING: tuple[type, ...] = (GeneratorType, map, filter, zip, enumerate, type(iter([])), type(reversed([])),
                             type({}.keys()), type({}.values()), type({}.items()))


class Module:
    """A part of a network. Its parameters and parts are the Tensors and modules among its attributes.

    They may be in dicts, lists, tuples, namespaces and dataclasses, to any depth, but not in other objects.
    One that is used twice counts once, under its first name. A parameter is a leaf. What ``forward`` assigns
    is no part of the module: it may keep a Tensor, but neither make a module nor replace a parameter, nor add
    to the containers that hold parts.

    Subclasses define ``forward``, with any arguments; calling the module calls it. ``buffers`` names the
    array attributes that belong to the state but are not parameters, besides those of the base classes.
    ``training`` is the mode, for layers that behave differently in training: see ``train`` and ``eval``.
    """

    buffers: tuple[str, ...] = ()
    training: bool = True
    _kept: frozenset[str] = frozenset()     # the attributes that forward assigned
    _containers: bool = False               # whether forward could put parts into one, such as a list
    _shared: tuple[tuple[str, Any], ...] = ()       # the lists and dicts that are attributes of the class

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if isinstance(cls.buffers, str):
            raise TypeError(f"{cls.__name__}.buffers: a tuple of names expected, {cls.buffers!r} found")
        cls.buffers = tuple(dict.fromkeys(
            name for base in reversed(cls.__mro__) for name in vars(base).get("buffers", ())))
        if vars(cls).get("__slots__"):
            raise TypeError(f"{cls.__name__}: __slots__ would hide parameters: leave them out")
        _refuse_shared(cls.__name__, dict(vars(cls)))
        cls._shared = tuple((f"{base.__name__}.{name}", value) for base in cls.__mro__
                            for name, value in vars(base).items()
                            if isinstance(value, _GROWING) and not name.startswith("__"))

    def forward(self, *args: Any, **options: Any) -> Any:
        """What a call of the module computes; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    @overload
    def __call__(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        ...

    @overload
    def __call__(self, *args: Any, **options: Any) -> Any:
        ...

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self._containers:
            return self._watched(*args, **options)
        running = _running.modules
        running.append(self)
        try:
            return self.forward(*args, **options)
        finally:
            running.pop()

    def _watched(self, *args: Any, **options: Any) -> Any:
        before = self._held()
        _running.modules.append(self)
        try:
            y = self.forward(*args, **options)
        finally:
            _running.modules.pop()
        if list(map(id, before)) != list(map(id, self._held())):
            raise TypeError(f"{type(self).__name__}.forward: it put Tensors or modules into a list, dict or "
                            "dataclass of the module, or took some out: assign a new one in forward, or keep "
                            "arrays")
        return y

    def __setattr__(self, name: str, value: Any) -> None:
        if callable(getattr(Module, name, None)) and not callable(value):
            raise TypeError(f"{type(self).__name__}: {name} is a method of every module: choose another name")
        if name in self.buffers:
            self._check_buffer(name, value)
        elif any(module is self for module in _running.modules):
            self._keep(name, value)
        elif name in self._kept:
            object.__setattr__(self, "_kept", self._kept - {name})
        elif isinstance(vars(self).get(name), Tensor) and value is not None and not _holds(value):
            raise TypeError(f"{type(self).__name__}: {name} is a Tensor: assign an array to {name}.data")
        if not self._containers and (isinstance(value, _HOLDING) or _has_fields(value)):
            object.__setattr__(self, "_containers", True)
        object.__setattr__(self, name, value)

    def _check_buffer(self, name: str, value: Any) -> None:
        who, before = f"{type(self).__name__}: buffer {name}", vars(self).get(name)
        if isinstance(value, Tensor) or not hasattr(value, "dtype"):
            raise TypeError(f"{who}: an array expected, {type(value).__name__} found")
        if before is not None and (value.dtype, value.shape) != (before.dtype, before.shape):
            raise ValueError(f"{who}: {before.dtype} {before.shape} expected, "
                             f"{value.dtype} {value.shape} found")

    def _keep(self, name: str, value: Any) -> None:
        who = f"{type(self).__name__}.forward"
        if any(isinstance(part, Module) for _, part in _items(name, value)):
            raise TypeError(f"{who}: {name} is a module, which no optimiser would know: make it in __init__")
        if name not in self._kept and _holds(vars(self).get(name)):
            raise TypeError(f"{who}: {name} is a part of the module, which forward cannot replace: "
                            "choose another name, or keep an array")
        object.__setattr__(self, "_kept", self._kept | {name})

    def _held(self) -> list[Any]:
        """The parts that are attributes or in lists and dicts, but not in long ones: they were short once."""
        return [part for name, value in vars(self).items() if name not in self._kept
                for _, part in _items(name, value, longest=_SHORT)]

    def _parts(self) -> list[tuple[str, Any]]:
        """The Tensors and modules among the attributes, but not those within these modules."""
        for name, value in self._shared:        # methods may have put parts into it
            _refuse_shared(name, value)
        kept = self._kept
        found: list[tuple[str, Any]] = []
        for name, value in vars(self).items():
            if type(value) not in _PLAIN and name not in kept:
                found += [(name, value)] if isinstance(value, (Tensor, Module)) else _items(name, value)
        return found

    def _walk(self, prefix: str, found: dict[int, tuple[str, Any]]) -> Collection[tuple[str, Any]]:
        """This module and all Tensors and modules in it, each once: a module with the prefix of its names.

        ``found`` has them by id. Generators within generators would take twice as long in each step.
        """
        found[id(self)] = prefix, self
        for name, part in self._parts():
            if id(part) not in found:
                if isinstance(part, Module):
                    part._walk(f"{prefix}{name}.", found)
                else:
                    found[id(part)] = prefix + name, part
        return found.values()

    def holds(self, kind: type[Module]) -> bool:
        """Whether this module, or one in it, is of this kind. It takes a quarter of the time of
        ``named_modules``, for use in each step."""
        stack: list[Module] = [self]
        seen = set()
        while stack:
            module = stack.pop()
            if isinstance(module, kind):
                return True
            if id(module) not in seen:
                seen.add(id(module))
                for value in vars(module).values():
                    if type(value) is list and all(isinstance(item, Module) for item in value):
                        stack += value
                    elif type(value) is not Tensor and type(value) not in _PLAIN:
                        stack += [part for _, part in _items("", value) if isinstance(part, Module)]
        return False

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Each parameter with its name, such as ``layers.0.weight``, in the order of definition."""
        for name, part in self._walk(prefix, {}):
            if isinstance(part, Tensor):
                if part.op is not None:
                    raise ValueError(f"{type(self).__name__}: {name} is a result of {part.op.name}, but a "
                                     "parameter is a leaf: assign Tensor(its data), or keep only the data")
                yield name, part

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all modules in it, each with the prefix of its names, such as ``layers.0.``."""
        return ((name, part) for name, part in self._walk(prefix, {}) if isinstance(part, Module))

    def parameters(self) -> list[Tensor]:
        """The parameters in the order of definition."""
        return [parameter for _, parameter in self.named_parameters()]

    def train(self: _M, mode: bool = True) -> _M:
        """Switch this module and all modules in it to training mode, in which they start, and return it.

        With ``mode=False`` switch to evaluation mode.
        """
        if not isinstance(mode, (bool, numpy.bool_)):
            raise TypeError(f"{type(self).__name__}.train, which sets the mode: True or False expected, "
                            f"{checks.shown(mode)} found")
        for _, module in self.named_modules():
            module.training = bool(mode)
        return self

    def eval(self: _M) -> _M:
        """Switch this module and all modules in it to evaluation mode, for use after training; return it."""
        return self.train(False)

    def _arrays(self) -> dict[str, Array]:
        """Every parameter's and buffer's array by name."""
        named = [(name, parameter.data) for name, parameter in self.named_parameters()]
        named += [(prefix + name, getattr(module, name))
                  for prefix, module in self.named_modules() for name in module.buffers]
        arrays = dict(named)
        if len(arrays) < len(named):
            raise ValueError(f"{type(self).__name__}: two parts with one name: {[name for name, _ in named]}")
        return arrays

    def state(self) -> dict[str, numpy.ndarray]:
        """A copy of every parameter and buffer on the host, by name."""
        return {name: numpy.array(to_host(array)) for name, array in self._arrays().items()}

    def check_state(self, state: Mapping[str, numpy.ndarray]) -> None:
        """``TypeError`` or ``ValueError`` if ``load_state`` would refuse ``state``; nothing changes."""
        checks.state(f"{type(self).__name__}.load_state", self._arrays(), state)

    def load_state(self, state: Mapping[str, numpy.ndarray]) -> None:
        """Set parameters and buffers from ``state``; names, shapes and dtypes must be those of ``state()``.

        If they differ, or if a number is not finite, an error names the difference, and nothing changes.
        """
        self.check_state(state)
        self._set({name: to_device(array.copy()) for name, array in state.items()})

    def _set(self, arrays: Mapping[str, Array]) -> None:
        for name, parameter in self.named_parameters():
            parameter.adopt(arrays[name])
        for prefix, module in self.named_modules():
            for name in module.buffers:
                setattr(module, name, arrays[prefix + name])

    def approach(self, other: Module, share: float) -> None:
        """Move every parameter and buffer by ``share`` of the way to that of ``other``, as of a copy.

        After each step of an optimiser of ``other``, a small share makes this module a moving average of it
        (Polyak and Juditsky, 1992). ``ValueError`` if the other one has other parameters or buffers.
        """
        who = f"{type(self).__name__}.approach"
        share = checks.real(who, "share", share, "[0, 1]")
        mine, theirs = self._arrays(), other._arrays()
        kinds = [{name: (array.dtype, array.shape) for name, array in arrays.items()}
                 for arrays in (mine, theirs)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"{who}: a module with the same parameters and buffers expected, such as a "
                             f"copy, {type(other).__name__} with others found")
        self._set({name: array + share * (theirs[name] - array) for name, array in mine.items()})

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        return ""

    def _shown(self) -> Iterable[tuple[str, Any]]:
        return self._parts()

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        settings, lines = self.extra_repr(), []
        for name, part in self._shown():
            if not isinstance(part, Tensor):
                lines.append(f"({name}): {getattr(part, '__name__', None) or repr(part)}")
            elif not settings:
                lines.append(f"({name}): {part.dtype} {part.shape}")
        inside = "".join("\n" + line for line in lines).replace("\n", "\n  ") + "\n" * bool(lines)
        count = sum(part.size for _, part in self._walk("", {}) if isinstance(part, Tensor))
        total = f", {count:,} parameter{'s' * (count > 1)}" if count else ""
        return f"{type(self).__name__}({settings}{inside}){total}"


def _refuse_shared(name: str, value: Any) -> None:
    for found, _ in _items(name, value):
        raise TypeError(f"{found} is shared by all instances, so it is no part of any: assign it in __init__")


def _items(name: str, value: Any, within: tuple[int, ...] = (),
           longest: float = math.inf) -> Iterator[tuple[str, Any]]:
    """The Tensors and modules that ``value`` is, or holds in containers and dataclasses, with their names."""
    if isinstance(value, (Tensor, Module)):
        yield name, value
    elif isinstance(value, _HOLDING) and id(value) not in within and len(value) <= longest:
        for key, item in value.items() if isinstance(value, (dict, UserDict)) else enumerate(value):
            yield from _items(f"{name}.{key}", item, (*within, id(value)), longest)
    elif _has_fields(value) and id(value) not in within:
        fields = vars(value) if isinstance(value, SimpleNamespace) else value.__dataclass_fields__
        for field in fields:
            yield from _items(f"{name}.{field}", getattr(value, field, None), (*within, id(value)), longest)
    elif isinstance(value, _HIDING) or isinstance(value, (set, frozenset)) and any(
            isinstance(item, (Tensor, Module)) for item in value):
        raise TypeError(f"{name}: a {type(value).__name__} hides its Tensors and modules, or their order: "
                        "keep them in a list")


def _has_fields(value: Any) -> bool:
    """Whether ``value`` is a namespace or a dataclass, but no class."""
    return isinstance(value, SimpleNamespace) or hasattr(type(value), "__dataclass_fields__")


def _holds(value: Any) -> bool:
    """Whether ``value`` is or holds a Tensor or a module."""
    return any(True for _ in _items("", value))
