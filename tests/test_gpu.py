"""NumPy against CuPy on a CUDA device: every op, every model, every optimiser. Skipped, with the reason,
where there is none."""

import numpy
import pytest
from cases import CASES, assert_close, assert_same_steps, every_model, every_op, steps, value_and_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from minigen import backend, optim
from minigen.backend import to_device, to_host
from minigen.core import Tensor

pytestmark = pytest.mark.gpu
try:
    backend.use("cupy")
except backend.BackendError as error:
    pytest.skip(str(error), allow_module_level=True)
finally:
    backend.use("numpy")


def on_both(compute):
    """What ``compute`` returns with NumPy and with CuPy."""
    results = [compute()]
    backend.use("cupy")
    try:
        results.append(compute())
    finally:
        backend.use("numpy")
    return results


@every_op
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-3), ("float64", 1e-12)])
@settings(max_examples=5)
@given(data=st.data())
def test_every_op_and_its_gradients(op, dtype, tolerance, data):
    args, options = data.draw(CASES[op][0]())

    def computed():
        return list(map(to_host, value_and_gradients(op, args, options, dtype)))
    for one, other in zip(*on_both(computed), strict=True):
        assert_close(one, other, tolerance)


@every_model
def test_a_step(model, monkeypatch):
    # Adam and RMSProp would blow the rounding errors of tiny gradients up to whole steps.
    monkeypatch.setattr("minigen.models.gan.Adam", lambda parameters, lr, beta1: optim.SGD(parameters, 0.01))
    monkeypatch.setattr("minigen.models.wgan.RMSProp", lambda parameters, lr: optim.SGD(parameters, 0.01))
    monkeypatch.setattr("minigen.models.wgan.Adam", lambda parameters, lr, **_: optim.SGD(parameters, 0.01))
    monkeypatch.setitem(optim.OPTIMIZERS, "Adam", lambda parameters, lr: optim.SGD(parameters, 0.01))
    assert_same_steps(*on_both(lambda: steps(model, 1)), rounded=True)


@pytest.mark.parametrize("kind", optim.OPTIMIZERS.values())
def test_optimisers(kind):
    def optimised():
        rng = numpy.random.default_rng(0)
        parameters = [Tensor(to_device(rng.normal(size=shape).astype("float32")))
                      for shape in ((300, 400), (7,))]
        optimizer = kind(parameters, 0.1)
        for _ in range(3):
            optimizer.step([to_device(rng.normal(size=p.shape).astype("float32")) for p in parameters])
        return [*(to_host(p.data) for p in parameters), *optimizer.state().values()]
    for one, other in zip(*on_both(optimised), strict=True):
        assert_close(one, other, 1e-5)


def test_dual_ascent():
    def ascended():
        dual = optim.DualAscent(0.5, most=3.0)
        found = []
        for violation in (1.0, 8.0, -0.5, -99.0, 0.3):
            dual.ascend(to_device(numpy.array(violation, "float32")))
            found.append(to_host(dual.multiplier.data))
        return [*found, *dual.state().values()]
    for one, other in zip(*on_both(ascended), strict=True):
        assert_close(one, other, 1e-6)
