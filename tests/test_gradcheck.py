"""The checks themselves: they pass what is right and refuse what is planted."""

import numpy
import pytest

from minigen import nn, ops
from minigen.core import Op, Tensor, grad
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
    check_subgradient(lambda a: ops.sum(ops.relu(a)), [0.0, 1.0])


def test_gradients_of_arrays_leave_the_arrays_alone(rng):
    a = rng.normal(size=3)
    kept = a.copy()
    check_grad(ops.exp, [a])
    assert (a == kept).all() and grad(ops.sum(Tensor(a)), Tensor(a)).tolist() == [0, 0, 0]
