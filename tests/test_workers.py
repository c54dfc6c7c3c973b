"""Work on several processes: its results, its failures, signals, and processes that are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
import types
from functools import partial
from pathlib import Path

import pytest

from minigen import threads, workers
from minigen.training import Interrupted, progress, signals


def square(x):
    """Fails for negative numbers, and kills its process for 0."""
    if x == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if x < 0:
        raise ValueError(f"{x} found")
    return x * x


def about_the_process(_):
    return os.getpid(), os.getppid(), threads.count(), threads.per_product()


def until_stopped(folder, name):
    """As training does: until a signal comes."""
    Path(folder, name).touch()
    with signals.received() as signalled:
        while not signalled:
            time.sleep(0.01)
    raise Interrupted(f"{name} stopped", signalled[0])


def outcomes(results):
    return [result if isinstance(result, int) else type(result) for result in results]


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_and_failures_are_in_the_order_of_the_tasks(jobs):
    found = workers.each(square, [3, -1, 2, 1, -2], jobs, None)
    assert outcomes(found) == [9, ValueError, 4, 1, ValueError] and str(found[1]) == "-1 found"


def test_a_killed_process_is_lost_and_the_others_go_on():
    found = workers.each(square, [1, 0, 2, 3, 0, 4], 2, None)
    assert outcomes(found) == [1, workers.Lost, 4, 9, workers.Lost, 16]
    assert str(found[1]) == "its process was killed"


def test_a_process_that_is_killed_while_it_has_nothing_to_do_is_replaced():
    worker = workers._Worker(workers._settings(None), progress.Overview(2, None, []), 0)
    pid = worker.do(about_the_process, None)[0]
    os.kill(pid, signal.SIGKILL)
    other = worker.do(about_the_process, None)
    while isinstance(other, workers.Lost):          # the pool had not seen it yet
        other = worker.do(about_the_process, None)
    worker.close()
    assert other[0] != pid


def test_a_pipe_is_not_closed_under_the_thread_that_sends():
    """Its number might be another file's by then."""
    worker = workers._Worker(workers._settings(None), progress.Overview(2, None, []), 0)
    worker.tell("stop")         # it has not begun
    worker.do(square, 2)
    pipe = worker.pipe
    worker.close()
    worker.tell("end")          # it has ended
    assert not pipe.closed


def test_with_one_job_there_is_no_other_process():
    assert workers.each(about_the_process, [0], 1, None)[0][:2] == (os.getpid(), os.getppid())


@pytest.mark.parametrize("asked", [None, 3])
def test_each_of_the_processes_has_the_threads_asked_for_or_a_share(asked):
    found = workers.each(about_the_process, range(2), 2, asked)
    assert {parent for _, parent, _, _ in found} == {os.getpid()}
    share = max(1, threads._blas_threads() // 2)
    assert [numbers for _, _, *numbers in found] == [[asked or share, asked or 1]] * 2


def blas_threads(task):
    return max(library["num_threads"] for library in threads._blas().info())


@pytest.mark.parametrize("asked, expected", [(None, 1), (2, 2)])
def test_products_outside_of_models_keep_to_the_worker_s_threads(asked, expected):
    assert workers.each(blas_threads, range(2), 2, asked) == [expected] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_and_nothing_else_begins(number, tmp_path, monkeypatch, capsys):
    wait = workers.wait

    def waiting(*arguments):
        if (tmp_path / "a").exists() and (tmp_path / "b").exists():
            signal.raise_signal(number)
            monkeypatch.setattr(workers, "wait", wait)
        return wait(*arguments)
    monkeypatch.setattr(workers, "wait", waiting)
    with pytest.raises(Interrupted, match="^stopped after 0 of 3 runs$") as stopped:
        workers.each(partial(until_stopped, tmp_path), "abc", 2, None)
    assert stopped.value.signal == number and not (tmp_path / "c").exists()
    assert capsys.readouterr().err == ""        # none is done


def interrupt_twice(name):
    """Ctrl-C, and once more when training does not end."""
    os.kill(os.getppid(), signal.SIGINT)
    with signals.received() as signalled:
        while not signalled:
            time.sleep(0.01)
    os.kill(os.getppid(), signal.SIGINT)
    while True:
        time.sleep(1)


def test_a_second_ctrl_c_ends_the_workers_at_once():
    with pytest.raises(KeyboardInterrupt) as interrupt:
        workers.each(interrupt_twice, [0, 1], 2, None)
    assert interrupt.type is KeyboardInterrupt
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


def square_unless_stopped(x):
    """For 0, its process gets a signal."""
    with signals.received() as signalled:
        if x == 0:
            signal.raise_signal(signal.SIGTERM)
        if signalled:
            raise Interrupted("stopped", signalled[0])
    return x * x


def test_a_signal_to_one_worker_stops_one_run():
    found = workers.each(square_unless_stopped, [0, 0, 3, 4], 2, None)
    assert outcomes(found) == [Interrupted, Interrupted, 9, 16]


def test_only_the_second_ctrl_c_breaks_off():
    """A third would break off what cleans up."""
    with signals.received() as signalled:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert signalled == [signal.SIGINT] * 3


def test_a_line_of_the_log_is_written_in_one_piece(monkeypatch):
    """Or those of several workers would get mixed up."""
    pieces = []
    monkeypatch.setattr(sys, "stderr", types.SimpleNamespace(write=pieces.append, isatty=lambda: False))
    with progress.overview(2, 2) as overview:
        overview.one_done()
    assert [piece for piece in pieces if piece] == ["1 of 2 runs done\n"]


PARENT = """
import sys
sys.path.insert(0, {tests!r})
import test_workers
from functools import partial
from minigen import workers
if __name__ == "__main__":
    workers.each(partial(test_workers.until_stopped, {folder!r}), "ab", 2, None)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = PARENT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,     # theirs, too
                              stderr=subprocess.DEVNULL)
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.01)
    parent.kill()
    assert parent.communicate()[0] == b""       # ends when all of them have


STARTING = """
import signal, sys
sys.path.insert(0, {tests!r})
import test_workers
from functools import partial
from minigen import workers
if __name__ == "__mp_main__":
    signal.raise_signal(signal.{name})
if __name__ == "__main__":
    print(*workers.each(partial(test_workers.until_stopped, {folder!r}), "ab", 2, None))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_that_comes_while_a_worker_starts_is_heard_later(tmp_path, name):
    """Not a traceback of the imports. It came to the workers alone here."""
    program = tmp_path / "program.py"
    program.write_text(STARTING.format(tests=str(Path(__file__).parent), folder=str(tmp_path), name=name))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("a stopped b stopped\n", "")


HUNG_UP = """
import sys
sys.path.insert(0, {tests!r})
import test_workers
from functools import partial
from minigen import workers
from minigen.training import Interrupted
if __name__ == "__main__":
    try:
        workers.each(partial(test_workers.hang_up, {folder!r}), "ab", 2, None)
    except Interrupted as interrupted:
        print(interrupted)
"""


def hang_up(folder, name):
    """As a terminal does that is closed."""
    os.killpg(0, signal.SIGHUP)
    until_stopped(folder, name)


def test_a_closed_terminal_stops_all_without_a_traceback(tmp_path):
    """Python's own process, which removes semaphores, goes on to its end."""
    code = HUNG_UP.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          start_new_session=True)
    assert (done.stdout, done.stderr) == ("stopped after 0 of 2 runs\n", "")


def test_bars_of_the_workers_are_lines_of_their_parent(monkeypatch):
    monkeypatch.setattr(progress, "_shows_bars", lambda: True)
    shown = []
    monkeypatch.setattr(progress.Overview, "show", lambda self, place, text: shown.append((place, text)))
    workers.each(with_a_bar, ["one", "two"], 2, None)
    for name in ("one", "two"):
        [place] = {place for place, text in shown if text.startswith(f"{name}: ")}
        lines = [text for there, text in shown if there == place]
        assert "5/10" in "".join(lines) and lines[-1] == ""         # the bar disappears at the end


def with_a_bar(name):
    with progress.progress(name, 5, 10, shown=True):
        pass


MPI_PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import test_workers
from minigen import workers
if __name__ == "__main__":
    found = workers.each(test_workers.about_the_rank, range(8), 1, None)
    print(sorted({{rank for rank, _ in found}}), {{numbers for _, numbers in found}})
    print(test_workers.outcomes(workers.each(test_workers.square, [3, -1, 2], 1, None)))
"""


def about_the_rank(_):
    from mpi4py import MPI
    time.sleep(0.05)        # so that each rank gets some
    return MPI.COMM_WORLD.rank, (threads.count(), threads.per_product())


@pytest.mark.mpi
def test_under_mpi_the_other_ranks_do_the_work(mpiexec, tmp_path):
    (tmp_path / "program.py").write_text(MPI_PROGRAM.format(tests=str(Path(__file__).parent)))
    done = mpiexec(3, "-m", "mpi4py.futures", tmp_path / "program.py")
    assert done.stdout == f"[1, 2] {{(1, 1)}}\n{[9, ValueError, 4]}\n", done.stderr
