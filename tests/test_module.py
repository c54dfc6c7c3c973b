"""Modules: how they find their parts, what is a parameter, state, modes."""

import copy
import math
from collections import UserDict, UserList, deque
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from minigen import nn, ops, optim
from minigen.core import Tensor, grad, no_grad, to_host


class Branches(nn.Module):
    def __init__(self, rng):
        self.scale = Tensor(numpy.ones(1, "float32"))
        self.name = "not a parameter"
        self.b = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.ReLU(), nn.Linear(3, 1, rng=rng))
        self.a = nn.Linear(2, 1, rng=rng)

    def forward(self, x):
        return (self.b(x) + self.a(x)) * self.scale


def test_parameters_come_in_definition_order(rng):
    net = Branches(rng)
    names = ["scale", "b.layers.0.weight", "b.layers.0.bias", "b.layers.2.weight", "b.layers.2.bias",
             "a.weight", "a.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert list(net.state()) == names and len(net.parameters()) == 7
    assert all(p is q for p, (_, q) in zip(net.parameters(), net.named_parameters()))


def test_parameters_in_a_tuple_are_found(rng):
    module = nn.Module()
    module.parts = (nn.Linear(1, 1, rng=rng), Tensor(1.0))
    assert [name for name, _ in module.named_parameters()] == ["parts.0.weight", "parts.0.bias", "parts.1"]


def test_state_round_trip_is_a_copy(rng):
    net, other = Branches(rng), Branches(numpy.random.default_rng(9))
    x = rng.normal(size=(3, 2)).astype("float32")
    state = net.state()
    other.load_state(state)
    assert (to_host(net(x)) == to_host(other(x))).all()
    other.scale.data = other.scale.data * 2
    other.a.weight.data = other.a.weight.data * 0
    assert state["scale"] == 1 and state["a.weight"].any()
    assert not any(numpy.shares_memory(state["a.weight"], one.a.weight.data) for one in (net, other))


def test_approach_moves_parameters_and_buffers_a_share_of_the_way(rng):
    net, goal = (nn.Sequential(nn.Linear(3, 4, rng=rng), nn.BatchNorm(4)) for _ in range(2))
    goal(rng.normal(size=(5, 3)).astype("float32"))         # other running statistics
    for parameter in goal.parameters():
        parameter.adopt(rng.normal(size=parameter.shape).astype("float32"))
    before, end, weight = net.state(), goal.state(), net[0].weight.data
    net.approach(goal, 0.25)
    for name, found in net.state().items():
        assert found.dtype == "float32" and (before[name] != end[name]).all()
        numpy.testing.assert_allclose(found, 0.75 * before[name] + 0.25 * end[name], atol=1e-6)
        assert (goal.state()[name] == end[name]).all()
    assert (weight == before["layers.0.weight"]).all()      # a recorded graph may hold it
    net.approach(goal, 1)
    goal[1].running_mean += 1
    numpy.testing.assert_allclose(net.state()["layers.1.running_mean"], end["layers.1.running_mean"])


@pytest.mark.parametrize("other, share, message", [
    (lambda rng: nn.Linear(2, 1, rng=rng), 0.5, "Linear.approach: a module with the same parameters and "
                                                "buffers expected, such as a copy, Linear with others found"),
    (lambda rng: nn.ReLU(), 0.5, "such as a copy, ReLU with others found"),
    (lambda rng: nn.Linear(3, 1, rng=rng, dtype="float64"), 0.5, "Linear with others found"),
    (lambda rng: nn.Linear(3, 1, rng=rng), 1.5, "Linear.approach: a number share in .* expected, 1.5 found")])
def test_approach_refuses_what_is_no_copy(other, share, message, rng):
    net = nn.Linear(3, 1, rng=rng)
    before = net.state()
    with pytest.raises(ValueError, match=message):
        net.approach(other(rng), share)
    assert all((value == before[name]).all() for name, value in net.state().items())


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("scale"), r"missing: \['scale'\]"),
    (lambda s: s.update(x=numpy.ones(1)), r"unknown: \['x'\]"),
    (lambda s: s.update(scale=numpy.ones(2, "float32")),
     r"scale of float32 \(1,\) expected, float32 \(2,\) found"),
    (lambda s: s.update(scale=numpy.ones(1)), r"float64 \(1,\) found"),
    (lambda s: s["a.bias"].fill(math.nan), "^Branches.load_state: a.bias is not finite$"),
])
def test_a_state_that_does_not_fit_changes_nothing(rng, change, message):
    net = Branches(rng)
    state = Branches(numpy.random.default_rng(3)).state()
    change(state)
    before = net.state()
    with pytest.raises(ValueError, match=message):
        net.load_state(state)
    assert all((net.state()[k] == before[k]).all() for k in before)


def test_loading_makes_recorded_graphs_stale(rng):
    net = Branches(rng)
    loss = ops.sum(net(numpy.ones((1, 2), "float32")))
    net.load_state(net.state())
    with pytest.raises(RuntimeError, match="changed after"):
        grad(loss, net.parameters())


def test_buffers_are_in_the_state_but_no_parameters(rng):
    net, other = (nn.Sequential(nn.Linear(3, 2, rng=rng), nn.Sequential(nn.BatchNorm(2))) for _ in range(2))
    names = ["layers.0.weight", "layers.0.bias", "layers.1.layers.0.weight", "layers.1.layers.0.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert list(net.state()) == [*names, "layers.1.layers.0.running_mean", "layers.1.layers.0.running_var"]
    net(rng.normal(size=(8, 3)).astype("float32"))
    state = net.state()
    other.load_state(state)
    for one in (net, other):
        one.eval()
        buffer = one[1][0].running_mean
        assert not numpy.shares_memory(state["layers.1.layers.0.running_mean"], buffer) and buffer.any()
    x = rng.normal(size=(4, 3)).astype("float32")
    assert (to_host(net(x)) == to_host(other(x))).all() and state["layers.1.layers.0.running_mean"].any()
    del state["layers.1.layers.0.running_var"]
    with pytest.raises(ValueError, match=r"missing: \['layers.1.layers.0.running_var'\]"):
        net.load_state(state)


def test_train_and_eval_reach_every_part(rng):
    net = nn.Sequential(nn.Linear(1, 1, rng=rng), nn.Sequential(nn.BatchNorm(1)))
    everything = [module for _, module in net.named_modules()]
    assert len(everything) == 4 and all(module.training for module in everything)
    net.eval()
    assert not any(module.training for module in everything)
    net.train()
    assert all(module.training for module in everything)


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(1)


def names(net):
    return [name for name, _ in net.named_parameters()]


def linear(rng):
    return nn.Linear(2, 2, bias=False, rng=rng)


def test_what_is_used_twice_counts_once(rng):
    shared, w = linear(rng), Tensor(numpy.ones((2, 2), "float32"))
    net = nn.Sequential(shared, nn.ReLU(), shared)
    net.first, net.second, net.again = w, [w], shared
    assert names(net) == ["layers.0.weight", "first"] == list(net.state()) and len(net.parameters()) == 2
    assert [name for name, _ in net.named_modules()] == ["", "layers.0.", "layers.1."]
    before, g = shared.weight.data, numpy.ones((2, 2), "float32")
    optim.SGD(net.parameters(), lr=1.0).step([g, g])
    assert (shared.weight.data == before - 1).all() and (w.data == 0).all()


def test_parts_are_found_in_dicts_lists_and_tuples_to_any_depth(rng):
    net = nn.Module()
    net.blocks = {"b": [linear(rng), (linear(rng),)], "a": {0: linear(rng)}, 7: Tensor(1.0),
                  "n": [1, "x", None]}
    net.queue, net.user = deque([linear(rng)]), UserDict(a=UserList([linear(rng)]))
    net.loop = [Tensor(2.0)]
    net.loop.append(net.loop)
    found = ["blocks.b.0.weight", "blocks.b.1.0.weight", "blocks.a.0.weight", "blocks.7", "queue.0.weight",
             "user.a.0.weight", "loop.0"]
    assert names(net) == found == list(net.state())
    assert not any(module.training for _, module in net.eval().named_modules())
    assert [name for name, _ in net.named_modules()] == ["", "blocks.b.0.", "blocks.b.1.0.", "blocks.a.0.",
                                                         "queue.0.", "user.a.0."]
    state = {name: array + 1 for name, array in net.state().items()}
    net.load_state(state)
    assert net.blocks[7].item() == 2 and (net.queue[0].weight.data == state["queue.0.weight"]).all()


@dataclass
class Weights:
    inner: Any
    w: Tensor


@dataclass(slots=True)
class Slots(Weights):
    pass


def test_parts_are_found_in_namespaces_and_dataclasses(rng):
    net = nn.Module()
    net.space = SimpleNamespace(b=linear(rng), a=[Tensor(1.0)], name="x")
    net.space.own = net.space
    net.weights = {"a": Weights(linear(rng), Tensor(2.0)), "b": Slots(None, Tensor(3.0))}
    net.kind = Weights
    assert names(net) == ["space.b.weight", "space.a.0", "weights.a.inner.weight", "weights.a.w",
                          "weights.b.w"]
    assert not net.eval().space.b.training and not net.weights["a"].inner.training
    with pytest.raises(TypeError, match="^Shared.weights.w is shared by all instances"):
        type("Shared", (nn.Module,), {"weights": Weights(None, Tensor(1.0))})


@pytest.mark.parametrize("make", [SimpleNamespace, Weights, Slots])
def test_forward_puts_no_parts_into_namespaces_and_dataclasses(rng, make):
    net, x = Keeper(rng), numpy.ones((1, 2), "float32")
    net.cache = make(inner=None, w=Tensor(1.0))
    net(x, keep=lambda net, h: setattr(net.cache, "inner", h.data))
    with pytest.raises(TypeError, match="^Keeper.forward: it put Tensors or modules into a list, dict or"):
        net(x, keep=lambda net, h: setattr(net.cache, "inner", h))


def test_parts_without_an_order_or_a_name_of_their_own_are_refused(rng):
    net = nn.Module()
    net.blocks = {linear(rng)}
    for hiding, kind in (({linear(rng)}, "set"), (frozenset([Tensor(1.0)]), "frozenset"),
                         ((linear(rng) for _ in range(2)), "generator"), (map(str, []), "map"),
                         ({"a": linear(rng)}.values(), "dict_values"), (enumerate([]), "enumerate"),
                         (reversed([linear(rng)]), "list_reverseiterator"), (iter([]), "list_iterator")):
        net.blocks = hiding
        with pytest.raises(TypeError, match=f"^blocks: a {kind} hides its Tensors and modules, or their"):
            net.parameters()
    net.blocks = {1: linear(rng), "1": linear(rng)}
    with pytest.raises(ValueError, match=r"two parts with one name: \['blocks.1.weight', 'blocks"):
        net.state()
    with pytest.raises(TypeError, match=r"^Shared.layers.0 is shared by all instances"):
        type("Shared", (nn.Module,), {"layers": [linear(rng)]})
    with pytest.raises(TypeError, match="^Hidden: __slots__ would hide parameters: leave them out$"):
        type("Hidden", (nn.Module,), {"__slots__": ("w",)})
    with pytest.raises(TypeError, match="^Letters.buffers: a tuple of names expected, 'mean' found$"):
        type("Letters", (nn.Module,), {"buffers": "mean"})


def test_parts_put_into_a_list_of_the_class_are_refused(rng):
    class Shared(nn.Module):
        layers = []

        def __init__(self):
            self.layers.append(linear(rng))

    class Heir(Shared):
        pass
    net = Heir()
    for find in (net.parameters, net.state, net.eval, lambda: repr(net)):
        with pytest.raises(TypeError, match="^Shared.layers.0 is shared by all instances"):
            find()


def test_attributes_that_would_break_a_module_are_refused(rng):
    net = linear(rng)
    for name in ("state", "parameters", "forward"):
        with pytest.raises(TypeError, match=f"^Linear: {name} is a method of every module"):
            setattr(net, name, numpy.ones(2))
    with pytest.raises(TypeError, match="^Keeper: state is a method of every module"):
        Keeper(rng)(numpy.ones((1, 2), "float32"), keep=lambda net, h: setattr(net, "state", h))
    net.forward = lambda x: 2 * x       # another function is no mistake
    assert net(3) == 6
    for value in (numpy.ones((2, 2), "float32"), [[1.0, 1.0]], 1.0):
        with pytest.raises(TypeError, match="^Linear: weight is a Tensor: assign an array to weight.data$"):
            net.weight = value
    net.weight = Tensor(numpy.ones((2, 2), "float32"))
    net.weight = None
    assert names(net) == []


def test_a_child_may_know_its_parent(rng):
    net, child = nn.Module(), linear(rng)
    net.child, child.parent, child.me = child, net, child
    assert names(net) == ["child.weight"] and names(child) == ["weight"]
    assert [name for name, _ in net.eval().named_modules()] == ["", "child."] and not child.training
    assert repr(net) == ("Module(\n  (child): Linear(2, 2, bias=False\n    (parent): ...\n    (me): ...\n  ),"
                         " 4 parameters\n), 4 parameters")


class Keeper(nn.Module):
    """Its ``forward`` takes a label, and keeps what the test tells it to."""

    def __init__(self, rng):
        self.inner, self.list = linear(rng), []

    def forward(self, x, label=0, *, keep=lambda net, h: None):
        h = self.inner(x) + label
        keep(self, h)
        return h


def test_forward_takes_any_arguments(rng):
    net, x = Keeper(rng), numpy.ones((1, 2), "float32")
    for y in (net(x, 3), net(x, label=3)):
        numpy.testing.assert_allclose(y.data, x @ net.inner.weight.data + 3, rtol=1e-6)


@pytest.mark.parametrize("keep", [
    lambda net, h: setattr(net, "h", h), lambda net, h: setattr(net, "h", Tensor(h.data)),
    lambda net, h: setattr(net, "h", [{"h": h}]),
    lambda net, h: setattr(net, "list", [*net.list, Tensor(1.0)]),
    lambda net, h: setattr(net.inner.parent, "h", h) if hasattr(net.inner, "parent") else None])
@pytest.mark.parametrize("context", [nullcontext, no_grad])
def test_what_forward_keeps_is_no_parameter(rng, keep, context):
    net, x = Keeper(rng), numpy.ones((1, 2), "float32")
    net.inner.parent = net
    with context():
        for _ in range(3):
            net(x, keep=keep)
    assert names(net) == ["inner.weight"] == list(net.state())
    net.load_state(net.state())
    net.h = Tensor(1.0)     # assigned outside forward, it is one
    assert names(net) == ["inner.weight", "h"]


def test_only_the_modules_in_forward_keep_what_is_assigned(rng):
    net, child, made = Keeper(rng), Keeper(rng), []
    child.parent = net

    def keep(net, h):
        made.append(linear(numpy.random.default_rng(0)))        # built in forward, but complete
        child(h, keep=lambda child, h: setattr(child.parent, "h", Tensor(1.0)))
    net(numpy.ones((1, 2), "float32"), keep=keep)
    assert names(net) == ["inner.weight"] and names(made[0]) == ["weight"]


def test_what_forward_assigned_is_no_parameter_of_a_copy_either(rng):
    net = Keeper(rng)
    net(numpy.ones((1, 2), "float32"), keep=lambda net, h: setattr(net, "h", Tensor(h.data)))
    copied = copy.copy(net)
    copied.note = 1
    assert copied.h is net.h and names(copied) == ["inner.weight"]


@pytest.mark.parametrize("keep, message", [
    (lambda net, h: setattr(net, "late", linear(numpy.random.default_rng(0))),
     "^Keeper.forward: late is a module, which no optimiser would know: make it in __init__$"),
    (lambda net, h: setattr(net, "inner", None),
     "inner is a part of the module, which forward cannot replace"),
    (lambda net, h: setattr(net, "scale", h), "^Keeper.forward: scale is a part of the module")])
def test_forward_neither_makes_nor_replaces_parts(rng, keep, message):
    net = Keeper(rng)
    net.scale = Tensor(1.0)
    with pytest.raises(TypeError, match=message):
        net(numpy.ones((1, 2), "float32"), keep=keep)
    assert names(net) == ["inner.weight", "scale"]
    net.inner = linear(rng)     # no longer in forward


@pytest.mark.parametrize("keep", [
    lambda net, h: net.list.append(h), lambda net, h: net.list.append(Tensor(h.data)),
    lambda net, h: net.dict.update(h=h), lambda net, h: net.dict["nested"].append(h),
    lambda net, h: net.list.append(nn.ReLU()), lambda net, h: net.dict["old"].__setitem__(0, h),
    lambda net, h: net.dict.pop("old")])
@pytest.mark.parametrize("context", [nullcontext, no_grad])
def test_forward_does_not_change_which_parts_a_list_holds(rng, keep, context):
    net, x = Keeper(rng), Tensor(numpy.ones((1, 2), "float32"))
    net.dict = {"nested": [], "old": [Tensor(1.0)]}
    with context(), pytest.raises(TypeError, match="^Keeper.forward: it put Tensors or modules into a list"):
        net(x, keep=keep)


def test_a_call_does_not_look_through_long_lists(rng):
    class Items(list):
        def __iter__(self):
            raise AssertionError("a long list was looked through")
    net = Keeper(rng)
    net.words = Items(range(1000))
    assert net(numpy.zeros((1, 2), "float32")).shape == (1, 2)


def test_forward_may_keep_arrays_in_a_list(rng):
    net, x = Keeper(rng), numpy.ones((1, 2), "float32")
    for _ in range(2):
        net(x, keep=lambda net, h: net.list.append(h.data))
    assert len(net.list) == 2 and names(net) == ["inner.weight"]
    net.list.append(nn.Linear(1, 1, rng=rng))       # no longer in forward
    net(x)
    assert names(net) == ["inner.weight", "list.2.weight", "list.2.bias"]


def test_a_parameter_is_a_leaf(rng):
    net = Keeper(rng)
    net.list = [net(numpy.ones((1, 2), "float32"))]
    for find in (net.parameters, net.state, lambda: net.load_state({})):
        with pytest.raises(ValueError, match="^Keeper: list.0 is a result of add, but a parameter is a leaf"):
            find()


def test_buffers_of_the_base_classes_are_in_the_state():
    class Counting(nn.Module):
        buffers = ("count",)

    class Both(nn.BatchNorm, Counting):
        buffers = ("own",)
    net = Both(1)
    net.count, net.own = numpy.array(3), numpy.array(4)
    assert sorted(net.state()) == ["bias", "count", "own", "running_mean", "running_var", "weight"]
    assert nn.BatchNorm.buffers == ("running_mean", "running_var") and Counting.buffers == ("count",)


def test_modes_return_the_module_as_in_pytorch(rng):
    net = nn.Sequential(nn.BatchNorm(2))
    assert net.eval() is net and net[0].training is False
    assert net.train() is net and net[0].training is True
    assert net.train(False) is net and net[0].training is False
    assert net.train(mode=numpy.True_) is net and net[0].training is True
    with pytest.raises(TypeError, match="^Sequential.train, which .*: True or False expected, 100 found$"):
        net.train(100)


def test_a_module_shows_its_layers_settings_shapes_and_counts(rng):
    net = nn.Sequential(nn.Conv2d(3, 4, 5, stride=2, padding=2, rng=rng), nn.BatchNorm(4), nn.LeakyReLU(0.2),
                        nn.ConvTranspose2d(4, 2, (3, 5), stride=2, output_padding=1, bias=False, rng=rng),
                        nn.Reshape(-1), nn.Sequential(nn.Linear(784, 392, rng=rng), ops.tanh))
    assert repr(net) == """Sequential(
  (0): Conv2d(3, 4, (5, 5), stride=2, padding=2), 304 parameters
  (1): BatchNorm(4, eps=1e-05, momentum=0.1), 8 parameters
  (2): LeakyReLU(0.2)
  (3): ConvTranspose2d(4, 2, (3, 5), stride=2, padding=0, output_padding=1, bias=False), 120 parameters
  (4): Reshape(-1)
  (5): Sequential(
    (0): Linear(784, 392), 307,720 parameters
    (1): <Op tanh(a) = the hyperbolic tangent of a>
  ), 307,720 parameters
), 308,152 parameters"""
    shared = Branches(rng)
    shared.b = nn.Sequential(shared.a, shared.a)
    assert repr(shared) == """Branches(
  (scale): float32 (1,)
  (b): Sequential(
    (0): Linear(2, 1), 3 parameters
    (1): Linear(2, 1), 3 parameters
  ), 3 parameters
  (a): Linear(2, 1), 3 parameters
), 4 parameters"""
    module = nn.Module()
    module.one = Tensor(1.0)
    assert repr(module) == "Module(\n  (one): float32 ()\n), 1 parameter" and repr(nn.Module()) == "Module()"


@pytest.mark.parametrize("value, kind, message", [
    (numpy.zeros(3, "float32"), ValueError,
     r"^BatchNorm: buffer running_mean: float32 \(2,\) expected, float32 \(3,\) found$"),
    (numpy.zeros(2), ValueError, r"float64 \(2,\) found"),
    (None, TypeError, "an array expected, NoneType found"),
    (Tensor([0.0, 0.0]), TypeError, "an array expected, Tensor found"),
    ([0.0, 0.0], TypeError, "list found")])
def test_a_buffer_keeps_its_shape_and_dtype(value, kind, message):
    layer = nn.BatchNorm(2)
    with pytest.raises(kind, match=message):
        layer.running_mean = value
    layer.running_mean = numpy.ones(2, "float32")
    assert layer.state()["running_mean"].tolist() == [1, 1]


def test_holds_finds_modules_of_a_kind_wherever_they_are(rng):
    def nested():
        return nn.BatchNorm(2)
    inner = nn.Sequential(ops.tanh, nn.Sequential(nn.ReLU(), nested()))
    assert inner.holds(nn.BatchNorm) and inner.holds(nn.Sequential) and nested().holds(nn.BatchNorm)
    plain = nn.Sequential(nn.Linear(2, 2, rng=rng), nn.ReLU())
    assert plain.holds(nn.Linear) and not plain.holds(nn.BatchNorm)
    plain.layers.append(nested())
    assert plain.holds(nn.BatchNorm)

    class Own(nn.Module):
        def __init__(self, held):
            self.held, self.me = held, self
    for held in (nested(), [[nested()]], {"a": (1, nested())}, [1, nested()]):
        assert Own(held).holds(nn.BatchNorm)
    assert not Own([1, {"a": plain[0]}]).holds(nn.BatchNorm)
