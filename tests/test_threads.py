"""Work shared among threads, its blocks, and BLAS's threads meanwhile."""

import os
import subprocess
import sys
import threading
import time

import numpy
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

from minigen import models, ops, threads
from minigen.core import Tensor, grad


@pytest.fixture
def small_blocks(three_threads, monkeypatch):
    """Three threads, and arrays of a few numbers are large."""
    monkeypatch.setattr(threads, "_NUMBERS_PER_THREAD", 4)
    monkeypatch.setattr(threads, "block_numbers", lambda: 16)
    monkeypatch.setattr(threads, "row_blocks", lambda shape: [slice(i, i + 2) for i in range(0, shape[0], 2)])


@pytest.mark.parametrize("jobs", [0, 1, 2, 3, 7, 100])
def test_every_job_is_done_once(jobs, three_threads):
    done = []
    threads.parallel(done.append, range(jobs))
    assert sorted(done) == list(range(jobs))


def test_threads_that_have_not_begun_are_not_waited_for(three_threads):
    busy, done = threading.Event(), []
    others = [threads._pool().submit(busy.wait) for _ in range(2)]
    threads.parallel(done.append, range(9))
    waited_for = any(other.done() for other in others)
    busy.set()
    assert sorted(done) == list(range(9)) and not waited_for


def test_work_is_shared(three_threads):
    meeting = threading.Barrier(3)          # passed only if three threads come
    threads.parallel(lambda job: meeting.wait(), range(3))


def test_a_thread_that_is_done_helps_the_others(three_threads):
    rest, done = threading.Event(), []

    def work(job):
        if job == 0:
            rest.wait()         # the rest of the first thread's part is done by the others meanwhile
        done.append(job)
        if len(done) == 8:
            rest.set()
    threads.parallel(work, range(9))
    assert sorted(done) == list(range(9)) and done[-1] == 0


@pytest.mark.parametrize("wrong", [0, 5, 8])
def test_a_failure_in_any_thread_is_raised(wrong, three_threads):
    def work(job):
        if job == wrong:
            raise ArithmeticError(f"job {job}")
    with pytest.raises(ArithmeticError, match=f"job {wrong}"):
        threads.parallel(work, range(9))


def test_nothing_runs_on_after_a_failure(three_threads):
    begun, ended, other = [], [], threading.Event()

    def work(job):
        if job == 0:
            assert other.wait(60)
            raise ArithmeticError("job 0")
        begun.append(job)
        other.set()
        time.sleep(0.1)
        ended.append(job)
    with pytest.raises(ArithmeticError, match="job 0"):
        threads.parallel(work, range(9))
    assert begun and sorted(begun) == sorted(ended)


def blas_threads():
    return {library["num_threads"] for library in threads._blas().info()}


def test_products_run_on_one_thread_where_the_others_are_used(three_threads):
    threads._blas_threads()             # counted, and kept, before there are two
    found = []
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert blas_threads() == {2}
        threads.parallel(lambda job: found.append(blas_threads()), range(6))
        assert blas_threads() == {2}
        with threads.large_arrays():
            found.append(blas_threads())
            threads.parallel(lambda job: found.append(blas_threads()), range(6))
            found.append(blas_threads())
        assert found == [{1}] * 14 and blas_threads() == {2}


def test_two_threads_that_limit_blas_leave_it_as_it_was():
    """The first that enters is the first that leaves."""
    threads._blas_threads()
    entered, leave = threading.Event(), threading.Event()

    def first():
        with threads.large_arrays():
            entered.set()
            leave.wait()
    before = threadpoolctl.threadpool_limits(2, user_api="blas")
    other = threading.Thread(target=first)
    other.start()
    entered.wait()
    with threads.large_arrays():
        leave.set()
        other.join()
        within = blas_threads()
    after = blas_threads()
    before.restore_original_limits()
    assert within == {1} and after == {2}


def test_a_product_takes_one_thread_in_models_unless_more_are_asked_for(rng):
    threads._blas_threads()
    found = []

    class Look(models.Model):
        def update(self, images, rng):
            found.append(blas_threads())
            return {}
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        Look().step(numpy.zeros((4, 3)), rng)
        with threads.limited_blas():
            found.append(blas_threads())
            with threads.limited_blas():
                found.append(blas_threads())
            found.append(blas_threads())
        threads.use(2)
        Look().step(numpy.zeros((4, 3)), rng)
        with threads.limited_blas():
            with threads.large_arrays():
                found.append(blas_threads())
            found.append(blas_threads())
        threads.use(None)
        assert blas_threads() == {2}
    assert found == [{1}, {1}, {1}, {1}, {2}, {1}, {2}]


def test_use_sets_the_threads_that_share_large_arrays(monkeypatch):
    threads.use(5)
    assert threads.count() == 5 and threads._pool()._max_workers == 4
    threads.use(None)
    assert threads.count() == threads._blas_threads()
    for beside, expected in ((2, 4), (3, 2), (20, 1)):
        monkeypatch.setattr(threads, "_blas_threads", lambda: 8)
        threads.use(None, beside)
        assert (threads.count(), threads.per_product()) == (expected, 1)
        threads.use(5, beside)
        assert threads.count() == 5
    threads.use(None)
    assert threads.count() == 8
    for wrong in (0, 2.5, "2"):
        with pytest.raises((TypeError, ValueError), match="^threads.use: "):
            threads.use(wrong)


def test_the_name_of_blas():
    assert threads.blas_name().startswith(threads._blas().info()[0]["internal_api"])
    assert threads._blas().info()[0]["version"] in threads.blas_name()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_cores_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [min(allowed)])
        assert threads.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert threads.cores() == len(allowed)


FORK = """
import os, signal, threading
from concurrent.futures import ThreadPoolExecutor
from minigen import threads

threads.count = lambda: 2
busy, entered = threading.Event(), threading.Event()

def work(job):
    entered.set()
    busy.wait()

other = threading.Thread(target=threads.parallel, args=(work, range(2)))
other.start()
entered.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)        # ends a child that waits for ever
    done = []
    threads.parallel(done.append, range(4))
    os._exit(0 if sorted(done) == [0, 1, 2, 3] and not threads._limits.active else 1)
_, status = os.waitpid(child, 0)
busy.set()
other.join()
print("status", status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is a POSIX call")
def test_a_forked_process_does_not_wait_for_threads_that_it_does_not_have():
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True)
    assert found.stdout == "status 0\n", found.stderr


FORK_WITHIN = """
import os, signal
from minigen import threads

def blas():
    return [library.num_threads for library in threads._blas().lib_controllers]
before = blas()
with threads.large_arrays():
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        found = [blas()]
if child == 0:
    found.append(blas())
    with threads.large_arrays():
        found.append(blas())
    found.append(blas())
    os._exit(0 if found == [before, before, [1] * len(before), before] else 1)
_, status = os.waitpid(child, 0)
print("status", status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is a POSIX call")
def test_a_process_forked_within_large_arrays_may_leave_it():
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK_WITHIN], capture_output=True,
                           text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "2"})
    assert found.stdout == "status 0\n", found.stderr


def test_a_system_without_another_thread_does_the_work_with_one(three_threads, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    threads.parallel(done.append, range(9))
    assert sorted(done) == list(range(9))


@given(rows=st.integers(1, 5000), columns=st.integers(1, 5000), numbers=st.integers(1, 10000))
def test_blocks_are_all_rows_once(rows, columns, numbers):
    times = threads.fold_rows(columns, rows, numbers)
    assert rows % times == 0 and (times == 1 or times * columns < 2 * numbers)
    assert threads.fold_rows(columns, 1 << 14, numbers) * columns >= numbers
    blocks = threads.row_blocks((rows, columns))
    found = [numpy.arange(rows)[block] for block in blocks]
    assert (numpy.concatenate(found) == numpy.arange(rows)).all()
    assert max(map(len, found)) * columns <= max(columns, threads.block_numbers())


@given(numbers=st.integers(1, 2 * 10 ** 6))
def test_a_product_of_some_rows_has_at_most_a_million_multiplications(numbers):
    rows = threads.gemm_rows(numbers)
    assert rows * numbers <= 10 ** 6 < 2 * (rows or 1) * numbers and rows & (rows - 1) == 0


def test_blocks_of_several_arrays_fit_into_the_cache_together():
    assert threads.row_blocks(()) == threads.row_blocks((3,)) == [...]
    blocks = threads.row_blocks((3000, 1000), arrays=8)
    assert all(8 * 1000 * (block.stop - block.start) <= threads.block_numbers() for block in blocks)
    assert [block.start for block in blocks[1:]] == [block.stop for block in blocks[:-1]]


def test_every_thread_has_a_block_if_that_gains_more_than_it_costs(three_threads):
    assert len(threads.row_blocks((3000, 400))) == 3 and threads.row_blocks((600, 400)) == [...]


def test_work_is_shared_within_large_arrays_only(three_threads, monkeypatch):
    calls, shared = [], threads.parallel
    monkeypatch.setattr(threads, "parallel", lambda work, jobs: (calls.append(jobs), shared(work, jobs)))

    def workers():
        found = set()
        meeting = threading.Barrier(3 if threads.sharing() else 1)
        threads.share(lambda job: (meeting.wait(), found.add(threading.current_thread())), range(3))
        return len(found)
    assert workers() == 1 and calls == []
    with threads.large_arrays():
        assert workers() == 3 and len(calls) == 1
    assert workers() == 1 and len(calls) == 1


@pytest.mark.parametrize("function, arguments", [(ops.relu, "x"), (ops.sigmoid, "x"), (ops.tanh, "x"),
                                                 (lambda *args: ops.batch_norm(*args, 0.1)[0], "xcc")])
@pytest.mark.parametrize("shape", [(9, 5), (2, 3, 4, 3), (66, 2)])
def test_large_arrays_are_what_small_ones_are(function, arguments, shape, rng, small_blocks, monkeypatch):
    arrays = [rng.normal(size={"x": shape, "c": shape[-1:]}[kind]) for kind in arguments]

    def everything():
        calls.clear()
        leaves = [Tensor(numpy.asfortranarray(a)) for a in arrays]
        y = function(*leaves)
        return [y.data, *grad(ops.sum(y * y), leaves)]
    calls = []
    shared = threads.parallel
    monkeypatch.setattr(threads, "parallel", lambda work, jobs:
                        (calls.append(len(list(jobs))), shared(work, jobs)))
    large = everything()
    assert max(calls) > 1
    monkeypatch.setattr(threads, "_NUMBERS_PER_THREAD", 10 ** 9)
    monkeypatch.setattr(threads, "row_blocks", lambda shape: [slice(0, shape[0])])
    for one, other in zip(large, everything()):
        assert one.shape == other.shape
        numpy.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows, inner, columns", [(5, 7, 9), (3, 4, 2), (1, 1, 1)])
def test_products_of_large_arrays_are_shared_out(rows, inner, columns, rng, small_blocks, monkeypatch):
    monkeypatch.setattr(ops, "_SHARED_MULTIPLICATIONS", 1)
    a, b = rng.normal(size=(inner, rows)).T, rng.normal(size=(inner, columns))
    calls, shared = [], threads.parallel
    monkeypatch.setattr(threads, "parallel", lambda work, jobs:
                        (calls.append(len(list(jobs))), shared(work, jobs)))
    alone = ops.matmul(a, b)
    assert calls == []
    with threads.large_arrays():
        together = ops.matmul(a, b)
        assert calls == [min(3, columns)] and ops.matmul(a[None], b).shape == (1, rows, columns)
        assert len(calls) == 1
    numpy.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-12)
    ops.matmul(a, b)
    assert len(calls) == 1


def test_a_decorated_function_takes_the_threads_asked_for_when_it_is_called():
    @threads.limited_blas()
    def allowed():
        return {library.num_threads for library in threads._blas().lib_controllers}
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        try:
            found = []
            for number in (1, 2, None):
                threads.use(number)
                found.append(allowed())
        finally:
            threads.use(None)
    assert found == [{1}, {2}, {1}]


def test_threads_in_one_decorated_function_leave_their_own_limits():
    inside, leave, seen = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()], []

    @threads.limited_blas()
    def work(i):
        inside[i].set()
        leave[i].wait(60)
        seen.append({library.num_threads for library in threads._blas().lib_controllers})
    with threadpoolctl.threadpool_limits(4, user_api="blas"):
        both = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        try:
            for i, number in enumerate((3, 1)):
                threads.use(number)
                both[i].start()
                inside[i].wait(60)
        finally:
            threads.use(None)
        for i in range(2):
            leave[i].set()
            both[i].join()
    assert seen == [{1}, {1}]


@pytest.mark.parametrize("told, expected", [
    ("processor: 0\nmodel name\t: Abacus 2000\nmodel name\t: B\n", "Abacus 2000"),
    ("Hardware: an Arm\n", "arm64"), (None, "arm64")])
@pytest.mark.parametrize("cores, ending", [(1, ", 1 core"), (16, ", 16 cores")])
def test_the_machine_has_a_name(monkeypatch, told, expected, cores, ending):
    def read(path):
        if told is None:
            raise FileNotFoundError(path)
        return told
    monkeypatch.setattr(threads.Path, "read_text", read)
    monkeypatch.setattr(threads.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(threads, "cores", lambda: cores)
    assert threads.machine() == expected + ending
