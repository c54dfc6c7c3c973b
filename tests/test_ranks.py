"""One training over several ranks: what it computes, its record, signals, and ranks that are killed.

The programs below run on two ranks. Each prints what it found, on the first rank, as one line of JSON.
"""

import json
import os
import signal
from contextlib import nullcontext
from pathlib import Path

import numpy
import pytest
import short_runs

from minigen import ranks, training

TESTS = str(Path(__file__).parent)


@pytest.fixture
def two_ranks(mpiexec, tmp_path):
    """Run a program on two ranks, with ``folder`` and ``say`` defined in it, and return what it said."""
    def run(program, *arguments, status=0, ranks=2):
        path = tmp_path / "program.py"
        path.write_text(f"import json, sys\nsys.path.insert(0, {TESTS!r})\nfolder = {str(tmp_path)!r}\n"
                        "from minigen import ranks\n"
                        "say = lambda *found: ranks.rank() == 0 and print(json.dumps(found))\n" + program)
        done = mpiexec(ranks, "-m", "mpi4py", path, *arguments, cwd=tmp_path)
        assert (done.returncode == 0) == (status == 0), done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return run


def test_without_mpi_there_is_one_rank():
    array = numpy.arange(3)
    assert (ranks.rank(), ranks.size(), ranks.per_machine(), ranks.on_machine()) == (0, 1, 1, 0)
    assert ranks.total(array) is array and ranks.mean(array) is array and ranks.broadcast("x") == "x"
    ranks.barrier()
    for context in (nullcontext(), ranks.shared_step()):
        with context:
            assert ranks.sharers() == 1 and ranks.share(array) is array


@pytest.mark.mpi
def test_sums_and_shares(two_ranks):
    [found] = two_ranks("""
import numpy
array = numpy.array([[1., 2.], [3., 4.]], order="F") * (1 + ranks.rank())
with ranks.shared_step():
    say(ranks.size(), ranks.sharers(), ranks.total(array).tolist(), ranks.mean(array).tolist(),
        ranks.broadcast(ranks.rank()), ranks.share(numpy.arange(7)).tolist(), ranks.per_machine())
""")
    assert found == [2, 2, [[3, 6], [9, 12]], [[1.5, 3], [4.5, 6]], 0, [0, 2, 4, 6], 2]


@pytest.mark.mpi
def test_batch_norm_has_the_statistics_of_the_whole_batch_to_order_2(two_ranks):
    """With the mean over the ranks as loss, a rank's gradients are as many times the whole loss's."""
    [found] = two_ranks("""
import numpy
from minigen import ops, grad, Tensor
from minigen.core import all_mean
rng = numpy.random.default_rng(0)
x, c = rng.normal(size=(2, 12, 5, 3))
w, b = rng.normal(size=(2, 3))
def derivatives(x, c):
    leaves = X, W, B = Tensor(x), Tensor(w), Tensor(b)
    y, stats = ops.batch_norm(X, W, B, 1e-5)
    gradients = grad(ops.mean(ops.tanh(y) * c), leaves, create_graph=True)
    return y.data, stats, *(g.data for g in gradients), *grad(ops.mean(gradients[0] ** 2), [X, W])
whole = derivatives(x, c)
with ranks.shared_step():
    y, stats, gx, gw, gb, hx, hw = derivatives(ranks.share(x), ranks.share(c))
    found = [y, stats, gx / 2, all_mean(gw), all_mean(gb), hx / 8, all_mean(hw) / 4]
    expected = [a if a.shape[0] != 12 else ranks.share(a) for a in whole]
say(*(float(abs(a - b).max() / abs(b).max()) for a, b in zip(found, expected)))
""")
    assert len(found) == 7 and max(found) < 1e-13


@pytest.mark.mpi
def test_the_mean_over_ranks_is_its_own_adjoint(two_ranks):
    assert two_ranks("""
import numpy
from minigen.core import all_mean
from minigen.gradcheck import check_grad
with ranks.shared_step():
    check_grad(lambda a: all_mean(a * a) * a, [numpy.array([0.5, -1.5, 2.0])], order=2)
say("passed")
""") == [["passed"]]


@pytest.mark.mpi
def test_dual_ascent_moves_by_the_mean_violation(two_ranks):
    [found] = two_ranks("""
from minigen import Tensor, optim
dual, violation, found = optim.DualAscent(0.5), 1.0 + 2 * ranks.rank(), []
with ranks.shared_step():
    for given in (violation, Tensor(violation), -violation - 2):
        dual.ascend(given)
        found.append(dual.multiplier.item())
dual.ascend(violation)          # not shared
say(*found, dual.multiplier.item())
""")
    assert found == [1, 2, 0, 0.5]


TRAIN = """
import numpy, short_runs
from minigen import models, nn, training
import minigen.models.model
kind, out, iterations, precision = getattr(models, sys.argv[1], sys.argv[1]), *sys.argv[2:5]
if precision == "float64":
    nn._precision = lambda owner, dtype: "float64"
    minigen.models.model.to_device = lambda array: numpy.asarray(array, "float64")
model, images = short_runs.build(kind), short_runs.IMAGES
if kind is models.VAEGAN:       # with batch normalisation
    images = numpy.random.default_rng(0).random((32, 64, 64, 3), dtype="float32")
    model = kind(architecture="larsen", width=0.03, latent=3, outputs=1)
training.train(model, images.astype(precision), out=out, iterations=int(iterations), batch_size=8,
               log_every=5, checkpoint_every=5, resume="--resume" in sys.argv)
numpy.savez(f"{out}-{ranks.rank()}.npz", **model.state())
"""


def state(tmp_path, name):
    with numpy.load(tmp_path / f"{name}.npz") as file:
        return dict(file)


def distance(one, other):
    """The relative distance of all parameters."""
    first, second = (numpy.concatenate([array.ravel().astype("float64") for name, array in found.items()
                                        if name.startswith("networks")]) for found in (one, other))
    return numpy.linalg.norm(first - second) / numpy.linalg.norm(first)


@pytest.mark.mpi
@pytest.mark.parametrize("kind, iterations, precision, limit", [
    ("GAN", 100, "float32", 1e-5), ("WGAN", 100, "float32", 1e-5), ("VAE", 100, "float64", 1e-12),
    ("VAEGAN", 10, "float64", 1e-12), ("penalty", 30, "float64", 1e-12), ("dual", 30, "float32", 1e-5)])
def test_two_ranks_equal_one_process_up_to_the_order_of_sums(two_ranks, tmp_path, kind, iterations, precision,
                                                             limit):
    two_ranks(TRAIN, kind, "one", iterations, precision, ranks=1)
    two_ranks(TRAIN, kind, "two", iterations, precision)
    first, second = state(tmp_path, "two-0"), state(tmp_path, "two-1")
    assert all((first[key] == second[key]).all() for key in first)
    assert 0 < distance(state(tmp_path, "one-0"), first) < limit
    one, two = (training.Run(tmp_path / name).metrics() for name in ("one", "two"))
    assert [record["iteration"] for record in one] == [record["iteration"] for record in two]
    for name, value in one[-1].items():
        assert two[-1][name] == pytest.approx(value, rel=1e-4)


@pytest.mark.mpi
@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_a_checkpoint_can_be_resumed_with_another_number_of_ranks(two_ranks, tmp_path, before, after):
    two_ranks(TRAIN, "GAN", "straight", 40, "float32", ranks=1)
    two_ranks(TRAIN, "GAN", "other", 20, "float32", ranks=before)
    two_ranks(TRAIN, "GAN", "other", 40, "float32", "--resume", ranks=after)
    assert distance(state(tmp_path, "straight-0"), state(tmp_path, "other-0")) < 1e-5


ENDING = """
import os, signal
from minigen import models
step, count = models.GAN.step, iter(range(10_000))
def ending(self, *arguments):
    if next(count) == 20 and ranks.rank() == int(sys.argv[5]) and "--resume" not in sys.argv:
        os.kill(os.getpid(), int(sys.argv[6]))
    return step(self, *arguments)
models.GAN.step = ending
"""


@pytest.mark.mpi
@pytest.mark.parametrize("rank, number", [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGTERM)])
def test_a_rank_that_ends_ends_all_and_resumed_they_end_the_same(two_ranks, tmp_path, rank, number):
    two_ranks(TRAIN, "GAN", "straight", 40, "float32")
    flags = "GAN", "ended", 40, "float32", rank, int(number)
    two_ranks(ENDING + TRAIN, *flags, status=1)
    assert not (tmp_path / "ended-0.npz").exists()
    if number == signal.SIGTERM:        # finished its iteration; three steps are the rehearsal's
        assert short_runs.newest(tmp_path / "ended") == 18
    two_ranks(ENDING + TRAIN, *flags, "--resume")
    one, other = state(tmp_path, "straight-0"), state(tmp_path, "ended-0")
    assert all((one[key] == other[key]).all() for key in one)
    one, other = (tmp_path / name / "metrics.jsonl" for name in ("straight", "ended"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.mpi
def test_an_example_on_two_ranks(mpiexec, tmp_path, small_mnist):
    example = Path(TESTS).parent / "examples" / "mnist_gan_vs_wgan.py"
    flags = ["-m", "mpi4py", example, "--data", small_mnist, "--iterations", 2, "--out", tmp_path / "o"]
    environment = {**os.environ, "MINIGEN_CACHE": str(tmp_path / "cache"), "PYTHONWARNINGS": "error"}
    done = mpiexec(2, *flags, "--batch-size", 16, env=environment)
    assert done.returncode == 0 and done.stdout.count("classifier: ") == 1, done.stderr
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "gan", "wgan", "figure2.png", "figure3.png", "summary.json", "command.json"}
    done = mpiexec(2, *flags, "--batch-size", 15, "--overwrite", env=environment)
    message = "train: batch_size: a multiple of 2 expected, the number of ranks that share a batch, 15 found"
    assert done.returncode != 0 and "Traceback" not in done.stderr and message in done.stderr
