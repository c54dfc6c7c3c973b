"""The graph of a computation: a box for each op and each of its inputs, in the language of Graphviz."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy

from minigen import checks
from minigen.backend import to_host
from minigen.figures.style import File
from minigen.tensor import Tensor, value_of

_FEW = 6                # numbers that are shown one by one
_LONGEST = 28           # characters of an option
_SETTINGS = """digraph "graph" {
  ordering=in; nodesep=0.3; ranksep=0.35
  node [shape=box, style="filled,rounded", fillcolor=white, color="#555555", fontname="Helvetica", \
fontsize=11, margin="0.12,0.06"]
  edge [arrowsize=0.6, color="#555555", fontcolor="#555555", fontname="Helvetica", fontsize=9]
"""
_FILLED = {"op": "white", "Tensor": "#cfe5f5", "array": "#eeeeee", "layer": "#d3efe2"}
_GRADIENT = "#b34700"
_DRAWN = (".svg", ".pdf", ".png")


@dataclass(frozen=True, repr=False)
class Graph:
    """A drawing in the language of Graphviz, the text ``dot``.

    A notebook shows it as a picture, or as this text where Graphviz is not installed.
    """

    dot: str

    def __repr__(self) -> str:
        return self.dot

    def svg(self) -> str:
        """The picture as SVG; ``OSError`` if Graphviz is not installed."""
        return _draw(self.dot, "svg").decode()

    def _repr_svg_(self) -> str | None:
        return self.svg() if shutil.which("dot") else None

    def save(self, path: File) -> None:
        """Write the picture to ``path``: .svg, .pdf or .png, for which Graphviz must be installed, or the
        text, .dot.

        ``ValueError`` for another suffix; ``OSError`` if Graphviz is not installed.
        """
        suffix = Path(path).suffix
        if suffix not in (*_DRAWN, ".dot"):
            raise ValueError(f"Graph.save: a path that ends in {', '.join(_DRAWN)} or .dot expected, "
                             f"{os.fspath(path)!r} found")
        Path(path).write_bytes(self.dot.encode() if suffix == ".dot" else _draw(self.dot, suffix[1:]))


def _draw(dot: str, kind: str) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise OSError("Graph: Graphviz draws graphs, and its program dot is not installed: install Graphviz, "
                      "or take the text, Graph.dot, elsewhere")
    done = subprocess.run([program, f"-T{kind}", *["-Gdpi=192"] * (kind == "png")], input=dot.encode(),
                          capture_output=True)
    if done.returncode:
        raise OSError(f"Graph: Graphviz cannot draw this as {kind}: {' '.join(done.stderr.decode().split())}")
    return done.stdout


def graph(y: Tensor, names: Mapping[str, Any] | None = None, gradients: Sequence[Any] | None = None, *,
          layers: Mapping[str, Any] | None = None, networks: Mapping[str, Any] | None = None,
          values: bool = True) -> Graph:
    """The recorded computation of ``y`` as a drawing, from its inputs down to ``y``.

    Each op is a box that shows its call; its arrows come from its arguments. Leaves are blue, arrays grey.
    Up to six numbers are written out, of others the shape and the range; with ``values=False``, only shapes.
    ``names`` has Tensors and arrays by name. ``gradients`` has one gradient for each of them, in their order,
    as ``grad(y, [x, w])`` returns them for ``names={"x": x, "w": w}``; None leaves one out.

    ``layers`` has modules by name, such as a model's ``networks``. Their parameters are not drawn then,
    except those in ``names``. An op that takes parameters is a green box with the name of their layer. What
    is computed from one layer's parameters alone, such as a transposed weight, counts as its parameter.
    ``networks`` has modules that are drawn as one green box for each pass: the ops that take parameters, and
    those between them. Its numbers are those of the last op; the names of the others are not drawn.

    ``ValueError`` if ``y`` was not recorded, or if a gradient does not fit its Tensor; ``RuntimeError`` if
    the graph was freed, as an optimiser's step does, or if a leaf was changed after its use.
    """
    if type(y) is not Tensor:
        raise TypeError(f"graph: a Tensor y expected, {type(y).__name__} found")
    if y.op is None:
        raise ValueError("graph: y was not recorded: compute it from Tensors, with ops, outside no_grad")
    names = _mapping("names", names, lambda value: hasattr(value, "shape"), "Tensors or arrays")
    layers, networks = (_mapping(name, found, lambda value: hasattr(value, "named_parameters"), "modules")
                        for name, found in (("layers", layers), ("networks", networks)))
    nodes = _recorded(y)
    named = {id(value): name for name, value in names.items()}
    owners = _owners(y, nodes, layers, networks)
    drawing = _Drawing(named, _by_id(names, gradients), owners, _passes(nodes, owners, networks), values)
    for node in nodes:
        if id(node) not in owners or id(node) in named:
            drawing.add(node, node is y)
    return Graph(f"{_SETTINGS}{''.join(drawing.boxes)}{''.join(drawing.arrows)}}}\n")


def _mapping(name: str, found: Any, fits: Any, expected: str) -> Mapping[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise TypeError(f"graph: {name}: a dict of {expected} by name expected, "
                        f"{type(found).__name__} found")
    for key, value in found.items():
        if not (isinstance(key, str) and fits(value)):
            raise TypeError(f"graph: {name}: {expected} by name expected, {checks.shown(key)}: "
                            f"{type(value).__name__} found")
    return found


def _by_id(names: Mapping[str, Any], gradients: Sequence[Any] | None) -> dict[int, Any]:
    """The gradients, as arrays, by the id of the Tensor that each belongs to."""
    if gradients is None:
        return {}
    if not isinstance(gradients, (list, tuple)) or len(gradients) != len(names):
        found = f"{len(gradients)}" if isinstance(gradients, (list, tuple)) else type(gradients).__name__
        raise ValueError(f"graph: gradients: a list of {len(names)}, one for each of names, expected, "
                         f"{found} found")
    by_id = {}
    for (name, value), gradient in zip(names.items(), gradients):
        if gradient is not None:
            if getattr(gradient, "shape", None) != value.shape:
                raise ValueError(f"graph: gradients: {value.shape} expected for {name}, "
                                 f"{getattr(gradient, 'shape', type(gradient).__name__)} found")
            by_id[id(value)] = value_of(gradient)
    return by_id


def _recorded(y: Tensor) -> list[Tensor]:
    """The Tensors that ``y`` was computed from, and ``y``, oldest first."""
    found, stack = {id(y): y}, [y]
    while stack:
        node = stack.pop()
        if node.op is None:
            continue
        if node.args is None:
            raise RuntimeError("graph: a part of y's graph was freed, as an optimiser's step does: draw it "
                               "before, or compute y again")
        for a in node.args:
            if type(a) is Tensor:
                if a.order > node.order:
                    raise RuntimeError(f"graph: an argument of {node.op.name} was changed after this graph "
                                       "was recorded: compute y again")
                if id(a) not in found:
                    found[id(a)] = a
                    stack.append(a)
    return sorted(found.values(), key=lambda node: node.order)


def _owners(y: Tensor, nodes: Sequence[Tensor], layers: Mapping[str, Any],
            networks: Mapping[str, Any]) -> dict[int, str]:
    """The name of its layer or network for each parameter, by id, and for what is computed from one's alone.
    """
    owners = {id(parameter): f"{prefix}.{name}".rpartition(".")[0] for prefix, module in layers.items()
              for name, parameter in module.named_parameters()}
    owners |= {id(parameter): name for name, module in networks.items()
               for _, parameter in module.named_parameters()}
    for node in nodes:
        if node.op is not None and node is not y:
            found = {owners.get(id(a)) for a in node.args if hasattr(a, "shape")}
            if len(found) == 1 and (owner := found.pop()) is not None:
                owners[id(node)] = owner
    return owners


def _passes(nodes: Sequence[Tensor], owners: Mapping[int, str],
            networks: Mapping[str, Any]) -> dict[int, list[Tensor]]:
    """For each op of a pass through a network, by id, all ops of the pass, oldest first."""
    inside: dict[int, tuple[str, int]] = {}         # the pass of each op in one, or after one
    used: dict[tuple[str, int], set[int]] = {}      # the parameters that a pass has taken
    inner = set()                                   # the ops that are in one
    for node in nodes:
        if node.op is not None and id(node) not in owners:
            tensors = [id(a) for a in node.args if type(a) is Tensor]
            taken = [owners[i] for i in tensors if owners.get(i) in networks]
            before = {inside[i] for i in tensors if i in inside}
            if taken:       # the same pass, unless that has taken these parameters already
                parameters = {i for i in tensors if i in owners}
                one = next((one for one in before if one[0] == taken[0] and not used[one] & parameters),
                           (taken[0], len(used)))
                used[one] = used.get(one, set()) | parameters
                inside[id(node)] = one
                inner.add(id(node))
            elif len(before) == 1 and all(i in inside for i in tensors):
                inside[id(node)] = before.pop()
    passes: dict[int, list[Tensor]] = {}
    for node in reversed(nodes):
        if id(node) in inner:
            joined = passes.setdefault(id(node), [node])
            for a in node.args:
                if id(a) in inside and inside[id(a)] == inside[id(node)]:
                    inner.add(id(a))
                    members = passes.get(id(a), [a])
                    if members is not joined:
                        joined += members
                        passes |= dict.fromkeys(map(id, members), joined)
    for members in passes.values():
        members.sort(key=lambda node: node.order)
    return passes


class _Drawing:
    """Boxes and arrows in Graphviz's language, numbered as they come."""

    def __init__(self, named: Mapping[int, str], gradients: Mapping[int, Any], owners: Mapping[int, str],
                 passes: Mapping[int, list[Tensor]], values: bool) -> None:
        self.named, self.gradients, self.owners, self.values = named, gradients, owners, values
        self.passes = passes
        self.numbers: dict[int, int] = {}       # of the boxes, by id
        self.boxes: list[str] = []
        self.arrows: list[str] = []

    def add(self, node: Tensor, last: bool) -> None:
        """Add the box of a Tensor, and the arrows that lead there; the last op of a pass has that of the
        whole pass."""
        if node.op is None:
            self._box(node, "Tensor", [], "a leaf")
            return
        members = self.passes.get(id(node), [node])
        if node is not members[-1]:
            return
        arrows: dict[tuple[int, str], None] = {}
        for member in members:
            names = _argument_names(member.op, len(member.args))
            shown, hidden = self._inputs(member)
            for i in shown:
                a = member.args[i]
                if type(a) is not Tensor and id(a) not in self.numbers:
                    self._box(a, "array", [], "an array")
                if all(a is not other for other in members):
                    arrows[self._number(a), names[i] if len(shown) > 1 and len(members) == 1 else ""] = None
        owners = dict.fromkeys(self.owners[id(a)] for a in members[0].args if id(a) in self.owners)
        lines = [f"<B>{_escaped(', '.join(owners))}</B>"] if owners else []
        call = f"{node.op.name}({', '.join(_words(node, names, hidden))})"
        lines.append(_escaped(call if len(members) == 1 else f"{len(members)} ops"))
        self._box(node, "layer" if owners else "op", lines, node.op.__doc__, last)
        self.arrows += [f"  n{start} -> n{self._number(node)}" + f' [label="{_escaped(name)}"]' * bool(name)
                        + "\n" for start, name in arrows]

    def _number(self, value: Any) -> int:
        """The number of the box that a value is in."""
        last = self.passes.get(id(value), [value])[-1]
        return self.numbers.setdefault(id(last), len(self.numbers))

    def _inputs(self, node: Tensor) -> tuple[list[int], list[int]]:
        """The places of the arguments that have boxes, and of those that a layer's box hides."""
        hidden = [i for i, a in enumerate(node.args) if id(a) in self.owners and id(a) not in self.named]
        shown = [i for i, a in enumerate(node.args) if hasattr(a, "shape") and i not in hidden]
        if hidden and any(type(node.args[i]) is Tensor for i in shown):
            # Arrays beside a layer's input and parameters are its own, such as the statistics of BatchNorm.
            arrays = [i for i in shown if type(node.args[i]) is not Tensor
                      and id(node.args[i]) not in self.named]
            shown, hidden = [i for i in shown if i not in arrays], hidden + arrays
        return shown, hidden

    def _box(self, value: Any, kind: str, lines: list[str], tooltip: str, last: bool = False) -> None:
        name = self.named.get(id(value), "" if lines else kind)
        lines = [f"<B>{_escaped(name)}</B>"] * bool(name) + lines
        lines += map(_escaped, _about(value_of(value), self.values))
        if id(value) in self.gradients:
            about = _about(self.gradients[id(value)], self.values)[-1]      # its shape is that of the value
            lines.append(f'<FONT COLOR="{_GRADIENT}">gradient {_escaped(about)}</FONT>')
        bold = ", penwidth=2.5" if last else ""
        self.boxes.append(f'  n{self._number(value)} [label=<{"<BR/>".join(lines)}>, '
                          f'fillcolor="{_FILLED[kind]}"{bold}, tooltip="{_escaped(tooltip)}"]\n')


def _argument_names(op: Any, n: int) -> list[str]:
    """The names of the first n arguments of the op's forward function."""
    names: list[str] = []
    for parameter in getattr(op, "__signature__", inspect.Signature()).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            break
        names.append(parameter.name)
    return names[:n] + [f"[{i}]" for i in range(n - len(names))]


def _words(node: Tensor, names: Sequence[str], hidden: Sequence[int]) -> Iterator[str]:
    """What the call in a box shows: names of arguments that come by arrows, numbers, and other options than
    the defaults."""
    for i, (name, a) in enumerate(zip(names, node.args)):
        if hasattr(a, "shape"):
            if i not in hidden:
                yield name
        elif isinstance(a, (int, float)):
            yield _text(a)
        elif a is not None:
            yield f"{name}={_text(a)}"
    signature = getattr(node.op, "__signature__", inspect.Signature())
    for name, value in node.options.items():
        if name not in signature.parameters or _text(value) != _text(signature.parameters[name].default):
            yield f"{name}={_text(value)}"


def _text(value: Any) -> str:
    if hasattr(value, "partials"):
        text = value.name               # of an op
    elif isinstance(value, slice):
        text = ":".join("" if end is None else str(end) for end in (value.start, value.stop, value.step))
        text = text if value.step is not None else text[:-1]
    elif isinstance(value, tuple) and any(isinstance(item, slice) or item is ... for item in value):
        text = f"[{', '.join(map(_text, value))}]"
    elif hasattr(value, "shape"):
        text = f"{value.dtype} {value.shape}"
    elif isinstance(value, float):
        text = f"{value:.4g}"
    else:
        text = "..." if value is ... else checks.shown(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST - 3] + "..."


def _about(array: Any, values: bool) -> list[str]:
    """The shape of an array, and its numbers or their range: one line or two."""
    shape = str(tuple(array.shape))
    if not values:
        return [shape]
    found = to_host(array)
    if found.size <= _FEW:
        text = numpy.array2string(found, separator=", ", formatter={"float": lambda x: f"{x:.4g}"})
        return [shape] * (found.ndim > 0) + [" ".join(text.split())]
    if found.dtype.kind == "b":
        return [shape]
    if not numpy.isfinite(found).all():
        return [shape, "NaN or infinite"]
    low, high = found.min(), found.max()
    return [shape, f"{low:.4g} to {high:.4g}" if low < high else f"all {low:.4g}"]


def _escaped(text: str) -> str:
    """The text as Graphviz reads it in labels, where a backslash and a letter would stand for something."""
    return escape("".join(c if c.isprintable() else " " for c in text)).replace("\\", "\\\\")
