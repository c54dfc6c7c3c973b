"""Divergences against closed forms and sums written in Python floats."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigen import Tensor
from minigen.metrics.divergences import chi_squared, d_phi, js, kl, total_variation, wasserstein_1

P, Q = [0.5, 0.25, 0.125, 0.125], [0.125, 0.125, 0.25, 0.5]


def kl_sum(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q) if a)


def js_sum(p, q):
    middle = [(a + b) / 2 for a, b in zip(p, q)]
    return (kl_sum(p, middle) + kl_sum(q, middle)) / 2


distributions = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=8).filter(
    lambda rows: sum(a for a, _ in rows) and sum(b for _, b in rows)).map(
    lambda rows: [[v / sum(column) for v in column] for column in zip(*rows)])


def test_two_points():
    """Bernoulli distributions of parameters 1/2 and 1/8, in closed form."""
    p, q = [0.5, 0.5], [0.125, 0.875]
    assert kl(p, q) == pytest.approx(math.log(2) + math.log(4 / 7) / 2, rel=1e-14)
    assert js(p, q) == pytest.approx(
        (0.5 * math.log(8 / 5) + 0.5 * math.log(8 / 11) + 0.125 * math.log(2 / 5) + 0.875 * math.log(14 / 11))
        / 2,
        rel=1e-13)
    assert total_variation(p, q) == pytest.approx(3 / 8, rel=1e-15)
    assert chi_squared(p, q) == pytest.approx(9 / 16, rel=1e-15)
    assert wasserstein_1(p, q, [-1.0, 3.0]) == pytest.approx(4 * 3 / 8, rel=1e-15)


@given(distributions)
def test_against_sums(pq):
    p, q = pq
    expected = kl_sum(p, q) if all(b or not a for a, b in zip(p, q)) else math.inf
    assert kl(p, q) == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert js(p, q) == pytest.approx(js_sum(p, q), rel=1e-12, abs=1e-14) == pytest.approx(
        js(q, p), rel=1e-12, abs=1e-14)
    assert total_variation(p, q) == pytest.approx(math.fsum(abs(a - b) for a, b in zip(p, q)) / 2, abs=1e-14)
    if all(a or not b for a, b in zip(p, q)):
        expected = math.fsum((a - b) ** 2 / a for a, b in zip(p, q) if a)
        assert chi_squared(p, q) == pytest.approx(expected, abs=1e-13)
    else:
        assert chi_squared(p, q) == math.inf


@given(distributions)
def test_every_divergence_is_least_at_q_equal_to_p(pq):
    p, q = pq
    for divergence in (kl, js, total_variation, chi_squared):
        assert divergence([1.0, 1e-320], [1.0, 1e-320]) == 0
        assert divergence(p, p) == pytest.approx(0, abs=1e-15)
        assert divergence(p, q) > 1e-6 or numpy.allclose(p, q)


def test_nearly_equal_distributions_are_never_at_a_negative_distance():
    near = [0.1 + 1e-12] + [0.1 - 1e-12 / 9] * 9
    assert 0 <= kl([0.1] * 10, near) < 1e-15 and 0 <= js([0.5, 0.5], [0.5 + 1e-9, 0.5 - 1e-9]) < 1e-15


def test_where_p_and_q_do_not_overlap():
    p, q = [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.25, 0.75]
    assert kl(p, q) == kl(q, p) == chi_squared(p, q) == math.inf
    assert js(p, q) == pytest.approx(math.log(2), rel=1e-15) and total_variation(p, q) == 1
    # As printed, q's mass outside p's support is free.
    assert d_phi(p, q, lambda t: abs(t - 1) / 2, 0.0) == 0.5
    tiny = [1 - 1e-320, 1e-320]
    assert js(tiny, [0.0, 1.0]) == pytest.approx(math.log(2))
    assert js([1.0, 1e-306], [0.0, 1.0]) == pytest.approx(math.log(2))
    assert chi_squared([1.0, 1e-200], [0.0, 1.0]) == math.inf
    assert kl([0.0, 1.0], tiny) == pytest.approx(320 * math.log(10), rel=1e-3)


def test_d_phi_with_another_phi():
    assert d_phi(P, Q, lambda t: (numpy.sqrt(t) - 1) ** 2, 1.0) == pytest.approx(
        math.fsum((a ** 0.5 - b ** 0.5) ** 2 for a, b in zip(P, Q)), rel=1e-14)


def test_wasserstein_of_normal_distributions_is_the_distance_of_their_means():
    x = numpy.linspace(-12, 12, 4001)

    def normal(mean):
        density = numpy.exp(-(x - mean) ** 2 / 2)
        return density / density.sum()
    for distance in (0.5, 3.0, 7.0):
        assert wasserstein_1(normal(-1), normal(distance - 1), x) == pytest.approx(distance, rel=1e-9)
        assert kl(normal(-1), normal(distance - 1)) == pytest.approx(distance ** 2 / 2, rel=1e-6)
    assert wasserstein_1([1, 0, 0], [0, 0.5, 0.5], [0, 1, 10]) == 5.5
    assert wasserstein_1([0, 0.5, 0.5], [1, 0, 0], [0, 1, 10]) == 5.5


@pytest.mark.parametrize("call, message", [
    (lambda: kl([0.5, 0.6], [0.5, 0.5]),
     r"p: probabilities \(N,\) that add up to 1 expected, shape \(2,\) with sum 1.1"),
    (lambda: js([0.5, 0.5], [1.5, -0.5]), "q: probabilities .* least -0.5 found"),
    (lambda: kl([[1.0]], [1.0]), r"p: .* shape \(1, 1\)"),
    (lambda: kl([math.nan, 1.0], [0.5, 0.5]), "p: "),
    (lambda: kl([], []), "p: "),
    (lambda: kl([1.0], [0.5, 0.5]), r"of one length expected, \(1,\) and \(2,\) found"),
    (lambda: wasserstein_1([1.0], [1.0], [0.0, 1.0]),
     r"of one length expected, \(1,\), \(1,\) and \(2,\) found"),
    (lambda: wasserstein_1([0.5, 0.5], [0.5, 0.5], [1.0, 0.0]), "ascending positions expected"),
])
def test_invalid_distributions_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_tensors_are_accepted():
    assert kl(Tensor(P), numpy.array(Q)) == pytest.approx(kl_sum(P, Q), rel=1e-6)


@pytest.mark.parametrize("f", [kl, js, total_variation, chi_squared, lambda p, q: d_phi(p, q, abs, 1.0),
                               lambda p, q: wasserstein_1(p, q, [0, 1])],
                         ids=["kl", "js", "total_variation", "chi_squared", "d_phi", "wasserstein_1"])
def test_what_are_no_numbers_is_refused_by_function_and_argument(f, request):
    name = request.node.callspec.id
    for argument, pair in (("p", ([0.5 + 0j, 0.5], [0.5, 0.5])), ("q", ([0.5, 0.5], ["0.5", "0.5"]))):
        with pytest.raises(ValueError, match=f"^{name}: {argument}: an array of real numbers expected"):
            f(*pair)
    with pytest.raises(ValueError, match=f"^{name}: p: probabilities"):
        f([0.5, 0.6], [0.5, 0.5])
    with pytest.raises(ValueError, match=f"^{name}: .* of one length expected"):
        f([1.0], [0.5, 0.5])


def test_a_slope_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="^d_phi: a number slope"):
        d_phi([0.5, 0.5], [0.5, 0.5], abs, None)
