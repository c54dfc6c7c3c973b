"""Measure what more cores gain: runs side by side, and one training over several ranks.

Runs per hour are those of 4,000 iterations, beside those of one process whose BLAS has an equal number of
threads. Where MPI is installed (``pip install -e '.[mpi]'``, and mpiexec), the ranks share each step; where
PyTorch is, its DistributedDataParallel (gloo) trains the same networks. A cost model, from the times of
smaller batches and of sums over two ranks, projects a step to 64 ranks.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import one_rank
from benchmark import BATCH, MODELS, check_writable, minigen_mnist

from minigen import backend, cli, figures, threads, workers

ITERATIONS = 4000       # of a run
MOST = 64               # ranks to project to
TITLES = {"Larsen": "VAE-GAN, convolutional"}


def steps_per_second(step, begin, seconds):
    """The steps per second of ``seconds`` from the time ``begin`` on; until then they are not counted."""
    while time.time() < begin:
        one_rank.wait(step())
    count, end = 0, time.time() + seconds
    while time.time() < end:
        one_rank.wait(step())
        count += 1
    return count / seconds


def train(task):
    """The steps per second of a run; see ``steps_per_second``."""
    name, begin, seconds = task
    return steps_per_second(minigen_mnist()(name), begin, seconds)


def side_by_side(name, jobs, seconds, start):
    """The runs per hour of ``jobs`` workers, which have ``start`` seconds to start."""
    tasks = [(name, time.time() + start, seconds)] * jobs
    return 3600 / ITERATIONS * sum(workers.each(train, tasks, jobs, None))


def threaded(name, number, seconds, start):
    """The runs per hour of one process in which BLAS has ``number`` threads."""
    threads.use(number)
    try:
        return 3600 / ITERATIONS * train((name, time.time() + start, seconds))
    finally:
        threads.use(None)


def mpiexec():
    """The path of mpiexec, if it and mpi4py are there."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    return found if find_spec("mpi4py") else None


def program(command, *arguments):
    """What a program that ``one_rank`` is part of prints as JSON."""
    whole = [*command, str(Path(one_rank.__file__)), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(whole, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(whole)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def over_ranks(mpi, names, counts, seconds):
    """The steps per second of each model, by number of ranks: minigen's, and PyTorch's if it is there."""
    result = {}
    for name in names:
        result[name] = {"minigen": {}, "torch": {}}
        for count in counts:
            result[name]["minigen"][count] = program([mpi, "-n", str(count), sys.executable, "-m", "mpi4py"],
                                                     "minigen", name, seconds)
            if find_spec("torch") and name in MODELS:
                torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
                result[name]["torch"][count] = program(torchrun, "torch", name, seconds)
    return result


def projection(mpi, name, counts, seconds):
    """The milliseconds per step by number of ranks, from what one rank computes and what two send.

    Computing takes a time for each step and one for each image, fitted to a batch and a quarter of it. A sum
    of b bytes over n ranks takes 2 log2 n latencies and sends 2 (n - 1) / n b (Rabenseifner, 2004); latency
    and bandwidth are fitted to sums over two ranks on this machine.
    """
    latency, per_byte, sums = program([mpi, "-n", "2", sys.executable, "-m", "mpi4py"], "sums", name, seconds)
    whole, part = (program([sys.executable], "share", name, size, seconds) for size in (BATCH, BATCH // 4))
    each = (whole - part) / (BATCH - BATCH // 4)
    found = {}
    for count in counts:
        compute = whole - each * (BATCH - BATCH / count)
        send = [2 * math.log2(count) * latency + 2 * (count - 1) / count * per_byte * size for size in sums]
        found[count] = compute + 1e3 * sum(send)
    return found


def report(title, rows, form):
    """Print a table: a row per name, a column per number."""
    numbers = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':28}" + "".join(f"{number:>9}" for number in numbers))
    for name, row in rows.items():
        print(f"{name:28}" + "".join(f"{row[number]:{form}}" for number in numbers))


def draw(path, result):
    """Draw the steps per second of ranks, and those projected, into a PNG."""
    measured, projected = ({TITLES.get(name, name): row for name, row in rows.items()} for rows in (
        {name: result["steps_per_second"][f"{name}, minigen"] for name in result["projected_ms"]},
        {name: {count: 1e3 / ms for count, ms in row.items()}
         for name, row in result["projected_ms"].items()}))
    figures.scaling(path, measured, projected, "One training step shared by several ranks")


def parse(arguments=None):
    flags = cli.Parser(description=__doc__.splitlines()[0])
    flags.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    flags.add_argument("--figure", type=Path, metavar="FILE",
                       help="draw what ranks gain into this PNG, where there is MPI")
    flags.add_argument("--seconds", type=cli.positive_float, default=8, metavar="S",
                       help="time for each measurement (default: 8)")
    flags.add_argument("--start", type=cli.positive_float, default=10, metavar="S",
                       help="time for worker processes to start, and to train before they are timed "
                       "(default: 10)")
    flags.add_argument("--models", nargs="+", choices=[*MODELS, "Larsen"], default=["GAN", "VAE", "Larsen"],
                       help="the models, Larsen's at width 0.25 (default: GAN VAE Larsen)")
    flags.add_argument("--gpu", action="store_true", help="compute with CuPy on CUDA devices")
    args = flags.parse_args(arguments)
    if args.gpu:
        os.environ["MINIGEN_BACKEND"] = "cupy"      # for the programs that are started
        try:
            backend.use("cupy")
        except backend.BackendError as error:
            flags.error(f"argument --gpu: {error}")
    for name, path in (("--json", args.json), ("--figure", args.figure)):
        if path:
            check_writable(flags, name, path)
    return args


def main():
    args = parse()
    cores = threads.cores()
    counts = [2 ** i for i in range(int(math.log2(cores)) + 1)]
    small, result = [name for name in args.models if name in MODELS], {}
    if small:
        rows = {}
        for name in small:
            times = args.seconds, args.start
            rows[f"{name}, processes"] = {n: side_by_side(name, n, *times) for n in counts}
            rows[f"{name}, threads of BLAS"] = {n: threaded(name, n, *times) for n in counts}
        report(f"runs per hour ({ITERATIONS:,} iterations), by processes and by threads", rows, "9.0f")
        result["runs_per_hour"] = rows
    mpi = mpiexec()
    if mpi is None:
        print("\nmpi4py or mpiexec is missing (pip install -e '.[mpi]'): no ranks")
    else:
        found = over_ranks(mpi, args.models, counts, args.seconds)
        rows = {f"{name}, {library}": row for name, both in found.items()
                for library, row in both.items() if row}
        for name in args.models:
            rows[f"{name}, threads"] = {
                n: program([sys.executable], "threads", name, n, args.seconds) for n in counts}
        report("steps per second, by ranks and by threads of one process", rows, "9.2f")
        result["steps_per_second"] = rows
        numbers = [2 ** i for i in range(int(math.log2(MOST)) + 1)]
        rows = {name: projection(mpi, name, numbers, args.seconds / 4) for name in args.models}
        report("milliseconds per step by ranks, PROJECTED from shares and sums timed here", rows, "9.2f")
        result["projected_ms"] = rows
        if args.figure:
            draw(args.figure, result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
