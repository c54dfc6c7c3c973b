"""What the checks let pass, what they refuse, and in which words."""

import math
from collections import deque
from fractions import Fraction

import numpy
import pytest

from minigen import checks
from minigen.core import Tensor


@pytest.mark.parametrize("value", [3, numpy.int64(3), numpy.uint8(3), numpy.array(3)], ids=repr)
def test_a_whole_number_becomes_an_int(value):
    found = checks.whole("f", "n", value)
    assert type(found) is int and found == 3


@pytest.mark.parametrize("value, kind, message", [
    (0, ValueError, "^Linear: an integer n_in of at least 1 expected, 0 found$"),
    (numpy.int8(-5), ValueError, r"at least 1 expected, np.int8\(-5\) found"),
    (2 ** 31, ValueError, "at most 2147483647 expected, 2147483648 found"),
    (10 ** 200, ValueError, r"expected, 1000\d+\.\.\.0+ found"),
    (2.0, TypeError, "^Linear: an integer n_in of at least 1 expected, 2.0 found$"),
    (True, TypeError, "True found"), (numpy.True_, TypeError, "np.True_ found"),
    (None, TypeError, "None found"), ("3", TypeError, "'3' found"), (math.nan, TypeError, "nan found"),
    ((2, 2), TypeError, r"\(2, 2\) found"),
    (numpy.array([3]), TypeError, "array")], ids=str)
def test_what_is_no_size_is_refused(value, kind, message):
    with pytest.raises(kind, match=message):
        checks.whole("Linear", "n_in", value)


@pytest.mark.parametrize("value", [0.5, numpy.float32(0.5), numpy.float64(0.5), Fraction(1, 2)], ids=repr)
def test_a_number_becomes_a_float(value):
    found = checks.real("f", "x", value, "[0, 1)")
    assert type(found) is float and found == 0.5


@pytest.mark.parametrize("interval, inside, outside", [
    ("[0, 1)", (0, 1e-300, 0.999), (-1e-300, 1, 2)), ("(0, 1]", (1e-300, 1), (0, 1.001)),
    ("(0, inf)", (5e-324, 1e308), (0, math.inf, 10 ** 400)),
    ("(-inf, inf)", (-1e308, 0), (-math.inf, math.inf))])
def test_intervals_have_the_ends_that_are_written(interval, inside, outside):
    for value in inside:
        assert checks.real("f", "x", value, interval) == value
    for value in (*outside, math.nan):
        with pytest.raises(ValueError, match="^f: a number x in "):
            checks.real("f", "x", value, interval)


@pytest.mark.parametrize("value", [True, numpy.True_, None, "0.5", 0.5j, [0.5], numpy.array(0.5)], ids=repr)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match=r"^Adam: a number lr in \(0, inf\) expected, .* found$"):
        checks.real("Adam", "lr", value, "(0, inf)")


@pytest.mark.parametrize("value", [(4, 2), [4, numpy.int8(2)], deque((4, 2)), range(4, 1, -2)], ids=str)
def test_sizes_become_a_tuple(value):
    found = checks.sizes("f", "sizes", value, 2)
    assert found == (4, 2) and all(type(size) is int for size in found)


@pytest.mark.parametrize("value, message", [
    ((), r"^f: a sequence sizes of 2 or more integers expected, \(\) found"), ((4,), r"\(4,\) found"),
    ("42", "'42' found"), (b"42", "b'42' found"), (42, "42 found"), ({4, 2}, "{2, 4} found"),
    (numpy.array([4, 2]), "array"),
    ((4, 0), r"an integer sizes\[1\] of at least 1 expected, 0 found"), ((2.5, 4), r"integer sizes\[0\]"),
    ((4, "2"), r"integer sizes\[1\]")], ids=str)
def test_what_are_no_sizes_is_refused(value, message):
    with pytest.raises((TypeError, ValueError), match=message):
        checks.sizes("f", "sizes", value, 2)


F32, F64 = numpy.ones(2, "float32"), numpy.ones(2)


@pytest.mark.parametrize("arrays", [{"a": F32}, {"a": F64, "b": F64}, {"a": F64[0]},
                                    {"a": F32, "b": Tensor(F32)}])
def test_floats_of_one_dtype_pass(arrays):
    checks.floats("f", **arrays)


@pytest.mark.parametrize("arrays, found", [
    ({"a": F32, "b": F64}, "float32, float64"), ({"a": F32, "b": Tensor(F64)}, "float32, float64"),
    ({"a": F32.astype("float16")}, "float16"), ({"a": F32.astype(">f4")}, ">f4"), ({"a": F32 > 0}, "bool"),
    ({"a": F32, "b": [1.0, 1.0]}, "float32, list"), ({"a": 1.0}, "float"),
    ({"a": F64, "b": 1.0}, "float64, float found"), ({"a": None, "b": None}, "NoneType, NoneType")])
def test_what_are_not_floats_of_one_dtype_is_refused(arrays, found):
    names = ", ".join(arrays)
    with pytest.raises(TypeError, match=f"^f: {names} of one dtype, float32 or float64, expected, {found}"):
        checks.floats("f", **arrays)


def test_values_are_shown_on_one_short_line():
    assert checks.shown(10 ** 5000) == "a huge number"
    assert checks.shown(numpy.eye(2)[:, :1]) == "array([[1.], [0.]])" and checks.shown(None) == "None"
    assert len(checks.shown(list(range(10_000)))) < 60 and len(checks.shown("x" * 1000)) < 60


@pytest.mark.parametrize("found", [
    numpy.array([[1e9, -1e-9], [0, 0.5]]), numpy.full((300, 2), 3e38, "float32"), numpy.zeros((0, 2)),
    numpy.ones((3, 2), ">f4"), numpy.ones((2, 6))[:, ::3]], ids=str)
def test_points_pass_wherever_they_lie(found):
    checks.points("f", found, 2)


@pytest.mark.parametrize("found, message", [
    (numpy.ones((3, 1)), r"float64 \(3, 1\)"), (numpy.ones((3, 2, 1)), r"float64 \(3, 2, 1\)"),
    (numpy.ones(2, "float32"), r"float32 \(2,\)"), (numpy.float64(1), r"float64 \(\)"),
    (numpy.ones((3, 2), int), r"int64 \(3, 2\)"), (numpy.ones((3, 2), "float16"), r"float16 \(3, 2\)"),
    (numpy.ones((3, 2)) > 0, r"bool \(3, 2\)"), (numpy.ones((3, 2), complex), r"complex128 \(3, 2\)"),
    ([[1.0, 2.0]], "list"), (None, "NoneType"), (Tensor(numpy.ones((3, 2))), "Tensor"),
    (numpy.ma.masked_array(numpy.ones((3, 2))), "MaskedArray"),
    (numpy.array([[0, math.nan], [1, 2]]), r"NaN or more than 3.403e\+38"),
    (numpy.array([[0, 1], [1e39, 0]]), r"NaN or more than 3.403e\+38"),
    (numpy.array([[0, 1], [math.inf, -math.inf]], "float32"), r"NaN or more than 3.403e\+38")],
    ids=str)
def test_what_are_no_points_is_refused(found, message):
    with pytest.raises(ValueError, match=rf"^f: points \(N, 2\) of finite floats expected, {message} found$"):
        checks.points("f", found, 2)


MINE = {"a": numpy.zeros(2, "float32"), "n": numpy.array(1)}


def test_a_state_that_fits_passes():
    checks.state("f", MINE, {"n": numpy.int64(7), "a": numpy.ones(2, "float32")})


@pytest.mark.parametrize("change, message", [
    ({"b": 1}, r"^f: the state of something else found, missing: \[\], unknown: \['b'\]$"),
    ({"a": [0.0, 0.0]}, "^f: a is no NumPy array, but list$"),
    ({"a": numpy.zeros(3, "float32")}, r"^f: a of float32 \(2,\) expected, float32 \(3,\) found$"),
    ({"a": numpy.zeros(2)}, r"float64 \(2,\) found"), ({"n": numpy.array(1.0)}, r"float64 \(\) found"),
    ({"a": numpy.array([0, math.nan], "float32")}, "^f: a is not finite$"),
    ({"a": numpy.array([0, -math.inf], "float32")}, "^f: a is not finite$")], ids=str)
def test_a_state_that_does_not_fit_is_refused(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        checks.state("f", MINE, {**MINE, **change})


def test_a_state_without_a_name_or_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"missing: \['n'\], unknown: \[\]"):
        checks.state("f", MINE, {"a": MINE["a"]})
    with pytest.raises(TypeError, match="^f: a dict of arrays by name expected, str found$"):
        checks.state("f", MINE, "run.npz")
