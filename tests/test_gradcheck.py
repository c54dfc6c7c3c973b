"""The checks themselves: they pass what is right and refuse what is planted."""

import subprocess
import sys

import numpy
import pytest

from minigen import nn, ops
from minigen.core import Op, Tensor, grad, no_grad
from minigen.gradcheck import check_grad, check_subgradient


def planted(entry):
    """a * b, with one wrong entry in the second partial."""
    def wrong(g, y, a, b):
        mask = numpy.zeros(a.shape)
        mask[entry] = 0.01
        return g * (a + mask)
    return Op("planted(a, b)", lambda a, b: a * b, lambda g, y, a, b: g * b, wrong)


@pytest.mark.parametrize("shape", [(3, 4), (30, 40)])
def test_a_wrong_entry_is_named(rng, shape):
    args = [rng.normal(size=shape), rng.normal(size=shape)]
    check_grad(ops.mul, args, order=2)
    message = r"order 1, argument 1 .*entry \(2, 1\)" if shape == (3, 4) else "order 1, argument 1"
    with pytest.raises(AssertionError, match=message):
        check_grad(planted((2, 1)), args)


def test_a_large_input_names_its_worst_entry(rng):
    args = [rng.normal(size=(20, 20)), rng.normal(size=(20, 20))]
    with pytest.raises(AssertionError, match=r"argument 1 \(20, 20\), entry \(7, 3\), output 0: grad gives"):
        check_grad(planted((7, 3)), args)


def test_a_wrong_second_derivative_is_found(rng):
    # The value and the first derivative are right; the first derivative, as a function, is recorded wrongly.
    slope = Op("slope(a) = 2 a", lambda a: 2 * a, lambda g, y, a: 3 * g)
    square = Op("square(a) = a^2", lambda a: a * a, lambda g, y, a: g * slope(a))
    check_grad(square, [rng.normal(size=3)])
    with pytest.raises(AssertionError, match="order 2, argument 0"):
        check_grad(square, [rng.normal(size=3)], order=2)


def test_a_derivative_that_is_not_a_number_is_found():
    with pytest.raises(AssertionError, match="grad gives nan"):
        check_grad(Op("f(a)", lambda a: a * 1.0, lambda g, y, a: g * numpy.nan), [numpy.ones(2)])


def test_parameters_are_varied_in_place_in_float64_and_restored(rng):
    layer = nn.Linear(3, 2, rng=rng)
    before = layer.state()
    x = rng.normal(size=(4, 3))
    seen = []

    def loss(*parameters):
        seen.append(layer.weight.dtype)
        return ops.sum(ops.tanh(layer(x)))
    check_grad(loss, layer.parameters(), order=2)
    assert set(seen) == {numpy.dtype("float64")}
    assert all((layer.state()[name] == before[name]).all() and layer.state()[name].dtype == "float32"
               for name in before)


@pytest.mark.parametrize("scale, offset", [(1e-10, 0), (1e-4, 1.0), (1e6, 0)])
def test_small_and_large_functions(scale, offset):
    for factor in (1, 1.05):
        f = Op("f(a)", lambda a: scale * a + offset, lambda g, y, a: g * (scale * factor))
        if factor == 1:
            check_grad(f, [numpy.ones(2)])
        else:
            with pytest.raises(AssertionError, match="argument 0"):
                check_grad(f, [numpy.ones(2)])


def test_float32_inside_is_refused():
    with pytest.raises(AssertionError, match="returns float32"):
        check_grad(lambda a: Tensor(numpy.ones(2, "float32")) * 2.0, [numpy.ones(2)])


def test_subgradient_of_a_wrong_rule_is_refused():
    up = Op("f(a) = max(a, 0)", lambda a: numpy.maximum(a, 0), lambda g, y, a: g * 1.5 * (a >= 0))
    with pytest.raises(AssertionError, match="below its supporting line"):
        check_subgradient(lambda a: ops.sum(up(a)), [0.0, 1.0])
    for x in ([0.0, 1.0], numpy.zeros(2, "float32"), Tensor([0.0, 1.0])):
        check_subgradient(lambda a: ops.sum(ops.relu(a)), x)


def test_gradients_of_arrays_leave_the_arrays_alone(rng):
    a = rng.normal(size=3)
    kept = a.copy()
    check_grad(ops.exp, [a])
    assert (a == kept).all() and grad(ops.sum(Tensor(a)), Tensor(a)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("f, args, settings, kind, message", [
    (ops.exp, Tensor([1.0]), {}, TypeError, "check_grad: a list of 1 or more arguments expected, Tensor"),
    (ops.exp, numpy.ones(2), {}, TypeError, r"array\(\[1., 1.\]\) found"),
    (ops.exp, [], {}, TypeError, r"\[\] found"),
    (ops.exp, [numpy.arange(3)], {}, TypeError, "check_grad: argument 0: floats expected, int64 found"),
    (ops.mul, [1.0, "x"], {}, TypeError, "argument 1: floats expected, <U1 found"),
    (ops.mul, [1.0, None], {}, TypeError, "argument 1: floats expected, object found"),
    (ops.exp, [2 * Tensor([1.0])], {}, ValueError, "argument 0 is a result of mul, but a leaf expected"),
    (ops.exp, [1.0], {"order": 0}, ValueError, "check_grad: an integer order of at least 1 .* 0 found"),
    (ops.exp, [1.0], {"order": 1.5}, TypeError, "order of at least 1 expected, 1.5 found"),
    (ops.exp, [1.0], {"tolerance": 0}, ValueError, r"a number tolerance in \(0, inf\) .* 0 found"),
    (ops.exp, [1.0], {"tolerance": numpy.nan}, ValueError, "nan found"),
    (1.0, [1.0], {}, TypeError, "check_grad: a function f expected, float found"),
    (lambda a: 1.0, [1.0], {}, TypeError, "check_grad: a Tensor expected from f, float found"),
    (lambda a: a.data, [[1.0]], {}, TypeError, "a Tensor expected from f, ndarray found"),
    (lambda a, b: a * a, [1.0, 2.0], {}, ValueError, "check_grad: f does not depend on argument 1: no op"),
    (lambda a: Tensor(a.data) * 2, [[1.0]], {}, ValueError, "f does not depend on argument 0"),
    (no_grad()(lambda a: a * 2), [[1.0]], {}, ValueError, "f does not depend on argument 0")])
def test_what_cannot_be_checked_is_refused(f, args, settings, kind, message):
    with pytest.raises(kind, match=message):
        check_grad(f, args, **settings)


@pytest.mark.parametrize("f, x, kind, message", [
    (ops.sum, [1, 2], TypeError, "check_subgradient: x: floats expected, int64 found"),
    (lambda x: 0.0, [1.0], TypeError, "check_subgradient: a Tensor expected from f, float found"),
    (lambda x: Tensor(1.0, "float64") * 2, [1.0], ValueError, "check_subgradient: f does not depend on"),
    (None, [1.0], TypeError, "check_subgradient: a function f expected, NoneType found")])
def test_what_has_no_subgradient_is_refused(f, x, kind, message):
    with pytest.raises(kind, match=message):
        check_subgradient(f, x)


def test_a_refused_check_gives_the_parameters_back(rng):
    layer = nn.Linear(3, 2, rng=rng)
    before = layer.state()
    with pytest.raises(ValueError, match="does not depend on argument 1"):
        check_grad(lambda w, b: ops.sum(w), layer.parameters())
    assert all((layer.state()[name] == before[name]).all() and layer.state()[name].dtype == "float32"
               for name in before)


def test_checks_hold_without_assertions():
    """python -O drops assert statements."""
    code = """
import numpy
from minigen import Op, Tensor, ops
from minigen.gradcheck import check_grad, check_subgradient
wrong = Op("wrong(a) = a", lambda a: a * 1.0, lambda g, y, a: g * 3.0)
for check in (lambda: check_grad(wrong, [1.0]), lambda: check_subgradient(lambda a: ops.sum(wrong(a)), [1.0]),
              lambda: check_grad(lambda a: Tensor(1.0) * 2, [1.0])):
    try:
        check()
    except AssertionError:
        print("found")
"""
    found = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["found"] * 3
