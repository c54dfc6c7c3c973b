"""Tensor: its value, its operators, and what it refuses."""

import copy
import inspect
import pickle
import subprocess
import sys

import numpy
import pytest

from minigen import nn, ops, optim
from minigen.core import Tensor, grad, no_grad, to_host


def test_a_result_gets_no_new_value():
    """A graph through it would end there, with gradient 0."""
    x = Tensor(3.0)
    m = x * x
    late = m * m
    with pytest.raises(TypeError, match="^Tensor.data: only a leaf gets .* this is a result of mul: make"):
        m.data = 100.0
    assert m.item() == 9 and grad(late, x) == 4 * 3 ** 3
    with no_grad():
        leaf = x * x
    leaf.data = 5.0
    assert grad(leaf * 2, leaf) == 2


@pytest.mark.parametrize("value, message",
                         [([1.0, 2.0, 3.0], r"a value of shape \(2,\) expected, \(3,\) found"),
                          (1.0, r"\(\) found")])
def test_a_value_of_another_shape_is_refused(value, message):
    p = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        p.data = value
    p.data = [5, 6]
    assert p.dtype == "float32" and p.data.tolist() == [5, 6]


@pytest.mark.parametrize("data, dtype, expected", [
    ([1, 2], None, "float32"),
    (3, None, "float32"),
    (numpy.arange(3), None, "float32"),
    (numpy.ones(2), None, "float64"),
    (numpy.float64(1), None, "float64"),
    ([True], None, "float32"),
    ([1.5], "float64", "float64"),
    (numpy.ones(2, "float16"), "float32", "float32"),
    (numpy.ones(2, ">f4"), None, "float32"),
    (numpy.ones(2, ">f8"), None, "float64"),
    (numpy.ones(2), "float32", "float32"),
])
def test_leaf_dtypes(data, dtype, expected):
    assert Tensor(data, dtype).dtype == expected


def test_a_tensor_of_a_tensor_is_an_independent_leaf():
    x = Tensor([1.0])
    assert Tensor(x * 2.0).op is None and not numpy.shares_memory(Tensor(x).data, x.data)


@pytest.mark.parametrize("data, dtype", [(numpy.ones(2, complex), None), ("abc", None), ([[1], [2, 3]], None),
                                         ([1], "int64"), (numpy.array(["a"]), None), (None, "object"),
                                         (numpy.ones(2, "float16"), None), ([1.0], "float16"),
                                         ([1.0], "real"), ("1.5", None),
                                         (numpy.ma.masked_array([1.0, 2.0], [True, False]), None)])
def test_what_is_no_array_of_real_numbers_is_refused(data, dtype):
    with pytest.raises(TypeError, match="^Tensor: "):
        Tensor(data, dtype)


def test_numpy_leaves_tensors_alone():
    x = Tensor([1.0, 2.0])
    assert isinstance(numpy.ones(2, "float32") * x, Tensor)
    with pytest.raises(TypeError):
        numpy.exp(x)
    with pytest.raises(TypeError, match="minigen.ops"):
        numpy.asarray(x)


def test_reads_like_a_number_and_a_sequence():
    x = Tensor([1.0, 2.0, 3.0])
    assert len(x) == 3 and x.size == 3 and x.ndim == 1 and [t.item() for t in x] == [1, 2, 3]
    assert float(x[1]) == 2.0 and bool(x[0]) and len({x, x}) == 1
    assert isinstance(to_host(x), numpy.ndarray) and isinstance(to_host(x.data), numpy.ndarray)
    assert type(ops.sum(x).data) is numpy.ndarray       # where NumPy itself would return a scalar


def test_prints_value_dtype_shape_and_origin():
    x = Tensor([[1.0, 2.0]])
    assert repr(x) == "Tensor([[1., 2.]], float32 (1, 2))"
    assert repr(x * 2) == "Tensor([[2., 4.]], float32 (1, 2), from mul)"
    assert "..." in repr(Tensor(numpy.zeros((100, 100)))) and len(repr(Tensor(numpy.zeros((100, 100))))) < 200
    assert repr(ops.mul) == "<Op mul(a, b) = a b, elementwise>"


def test_comparisons_are_those_of_the_values():
    x = Tensor([1.0, 2.0, 3.0])
    for two in (2, numpy.float64(2), numpy.array([2]), Tensor([2.0])):
        found = [x < two, x <= two, x > two, x >= two, x == two, x != two]
        assert [f.tolist() for f in found] == [
            [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 0, 1]]
        assert all(f.dtype == bool and type(f) is numpy.ndarray for f in found)
    assert (2 < x).tolist() == [False, False, True] and (2 >= x).tolist() == [True, True, False]


def test_operators_come_with_the_class():
    """Not with an import of ops, and for help() and editors."""
    code = ("from minigen import Tensor, grad; x = Tensor(3.0); y = x * x; "
            "print(y.item(), grad(y, x), x == x.data)")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "9.0 6.0 True\n"
    for name in ("__add__", "__rmatmul__", "__getitem__", "sum", "mean", "max", "reshape", "transpose"):
        assert inspect.isfunction(vars(Tensor)[name])
    assert str(inspect.signature(Tensor.sum)).startswith("(self, axis")


def test_a_folder_named_minigen_does_not_hide_the_package(tmp_path):
    """As in the folder into which minigen was cloned."""
    (tmp_path / "minigen" / "minigen").mkdir(parents=True)
    found = subprocess.run([sys.executable, "-c", "import minigen; print(minigen.Tensor(2.0) ** 2)"],
                           cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout == "Tensor(4., float32 (), from power)\n", found.stderr


def test_the_callers_array_is_copied():
    a = numpy.array([1.0, 2.0])
    x, y = Tensor(a), Tensor([0.0, 0.0], "float64")
    y.data = a
    z = ops.sum(x * x + y * y)
    a[:] = 100
    assert x.data.tolist() == y.data.tolist() == [1, 2] and grad(z, x).tolist() == [2, 4]


def test_a_value_cannot_change_in_place():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    view = x.T
    y = ops.sum(view * view)
    with pytest.raises(ValueError, match="read-only"):
        x.data -= 0.5
    with pytest.raises(ValueError, match="read-only"):
        x.data[0, 0] = 7
    with pytest.raises(ValueError, match="read-only"):
        to_host(view)[0, 0] = 7
    assert grad(y, x).tolist() == [[2, 4], [6, 8]]


@pytest.mark.parametrize("value", [numpy.ones(2), numpy.ones(2, ">f8"), numpy.ones(2, "float16")])
def test_an_array_of_another_dtype_is_not_assigned(value):
    p = Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"Tensor.data: float32 expected.*astype\('float32'\)"):
        p.data = value
    for fits in (numpy.ones(2, ">f4"), numpy.array([1, 1]), [numpy.float64(1), 1]):
        p.data = fits
        assert p.dtype == "float32" and p.data.dtype.isnative and p.data.tolist() == [1, 1]


def test_a_float64_leaf_keeps_the_digits_of_an_assigned_list():
    p = Tensor([0.0], "float64")
    p.data = [0.1]
    assert p.data[0] == 0.1


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["copy", "deepcopy", "pickle"])
def test_a_copy_of_a_leaf_is_another_leaf(twin):
    x = Tensor([1.0, 2.0], "float64")
    other = twin(x)
    other.data = other.data + 1
    assert x.data.tolist() == [1, 2] and other.data.tolist() == [2, 3] and other.dtype == "float64"
    with pytest.raises(TypeError, match=r"from an op, here mul, cannot be copied.*use Tensor\(x.data\)"):
        twin(x * 2)


def test_copied_and_pickled_networks_train_on(rng):
    """Also in a new process, where the count of Tensors starts again."""
    network = nn.Sequential(nn.Linear(2, 1, rng=rng), ops.neg)
    x = numpy.ones((3, 2), "float32")
    code = ("import pickle, sys; from minigen import ops, grad; network, x = pickle.load(sys.stdin.buffer); "
            "print(grad(ops.sum(network(x)), network[0].weight).tolist())")
    found = subprocess.run([sys.executable, "-c", code], input=pickle.dumps((network, x)),
                           capture_output=True, check=True)
    assert found.stdout == b"[[-3.0], [-3.0]]\n"
    twin = copy.deepcopy(network)
    optim.SGD(twin.parameters(), lr=1.0).minimize(ops.sum(twin(x)))
    assert (twin[0].weight.data == network[0].weight.data + 3).all() and (network[0].bias.data == 0).all()


def test_a_model_and_its_optimiser_are_copied_together(rng):
    network = nn.Linear(2, 1, rng=rng)
    twin, optimizer = copy.deepcopy((network, optim.Adam(network.parameters())))
    before = twin.weight.data.copy()
    optimizer.minimize(ops.sum(twin(numpy.ones((3, 2), "float32"))))
    assert (twin.weight.data != before).all() and (network.weight.data == before).all()


def test_formats_like_a_number():
    assert f"{Tensor(2.0):.4f}" == "2.0000" and f"{Tensor(2.0)}" == str(Tensor(2.0))
    with pytest.raises(TypeError):
        f"{Tensor([1.0, 2.0]):.4f}"


@pytest.mark.parametrize("function", [numpy.mean, numpy.sum, numpy.concatenate, numpy.linalg.norm])
def test_functions_of_numpy_refuse_tensors(function):
    args = ([Tensor([1.0])],) if function is numpy.concatenate else (Tensor([1.0]),)
    with pytest.raises(TypeError, match=f"{function.__name__}: a Tensor is not an array: use minigen.ops"):
        function(*args)


def test_there_are_no_subclasses():
    with pytest.raises(TypeError, match="Parameter: Tensor cannot have subclasses.*hold a Tensor"):
        class Parameter(Tensor):
            pass


def test_axes_in_a_list_and_a_plus_sign():
    x = Tensor(numpy.arange(6.0).reshape(1, 2, 3))
    assert x.transpose([2, 0, 1]).shape == (3, 1, 2) and x.transpose(-1, 0, 1).shape == (3, 1, 2)
    assert (+x).data.tolist() == x.data.tolist() and Tensor([1.0]).transpose(0).shape == (1,)


@pytest.mark.parametrize("transposed", [
    lambda x: x.transpose(numpy.array([2, 0, 1])), lambda x: ops.transpose(x, numpy.array([2, 0, 1])),
    lambda x: x.transpose(numpy.int64(2), 0, 1), lambda x: ops.transpose(x, axes=numpy.array([-1, 0, 1]))])
def test_axes_may_be_numpys(transposed):
    x, weights = Tensor(numpy.arange(6.0).reshape(1, 2, 3)), numpy.arange(6.0).reshape(3, 1, 2)
    y = transposed(x)
    assert y.shape == (3, 1, 2)
    assert grad(ops.sum(y * weights), x).tolist() == [[[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]]


def test_no_axes_are_not_all_axes():
    x = Tensor(numpy.ones((2, 3)))
    assert x.transpose().shape == x.transpose(None).shape == (3, 2)
    assert Tensor(1.0).transpose(()).shape == ()
    for axes in ((), []):
        with pytest.raises(ValueError, match=r"^transpose\(float64 \(2, 3\), .*axes don't match"):
            x.transpose(axes)


def test_a_value_lies_in_one_order():
    """Products of the same numbers in another order differ in their last bits, also after a resume."""
    x = Tensor(numpy.asfortranarray(numpy.ones((3, 4))))
    assert x.data.flags.c_contiguous
    x.data = numpy.ones((4, 3)).T
    assert x.data.flags.c_contiguous
