"""Everything in the paper, reproduced: runs each experiment, and sets the results beside the paper's on one
page.

Each example runs with its defaults or, with --quick, for a few seconds. What has ended with the same flags is
not run again, and what was interrupted goes on. To run an example anew, delete its folder. The page is one
file that needs no network. It has a section per figure, table, equation and open question, and an explorer of
the latent space.
"""

from contextlib import suppress

if __name__ == "__main__":
    with suppress(ImportError):     # a copy of this file may stand alone
        import interrupts           # noqa: F401, first: from here on, Ctrl-C is no traceback

import shlex
import subprocess
import sys
from pathlib import Path

from minigen import cli, datasets, report, storage, training, workers
from minigen.comparison import trained_judge
from minigen.training.signals import Interrupted, received

EXAMPLES = Path(__file__).parent
# All examples, short ones first, and the flags with which each of them is quick.
QUICK = {
    "manifold_distances": ["--iterations", "1000"],
    "mnist_gan_vs_wgan": ["--iterations", "400"],
    "mnist_compare_models": ["--iterations", "1000", "--seeds", "1"],
    "mnist_constrained_vaegan": ["--iterations", "400", "--seeds", "2"],
    "mode_coverage": ["--iterations", "300", "--seeds", "1"],
    "celeba_vaegan": ["--iterations", "40"],
    "mnist_constraint_frontier": ["--iterations", "100", "--seeds", "2", "--set", "d=4"],
    "mnist_stronger_models": ["--iterations", "60", "--seeds", "2",
                              "--models", "wgan,wgan_penalty,vae,vae_conv"]}
WITHOUT_RUNS = {"manifold_distances"}       # it trains within seconds and has no --resume
EXPLORED = {"mnist_compare_models": ("vae", "vaegan"), "mnist_constrained_vaegan": ("constrained",)}
INTERVAL = 0.2          # seconds from look to look at an example


def run(name, flags):
    """Run the example in a process of its own; return its exit status. A signal is passed on to it."""
    with received() as signalled:
        # In a session of its own, it does not get the terminal's Ctrl-C as well.
        child = subprocess.Popen([sys.executable, EXAMPLES / f"{name}.py", *flags], start_new_session=True)
        try:
            while not signalled:
                with suppress(subprocess.TimeoutExpired):
                    return child.wait(INTERVAL)
            child.send_signal(signalled[0])
            child.wait()
        except KeyboardInterrupt:       # a second Ctrl-C
            child.kill()
            child.wait()
            raise
    print(f"{name} was stopped: the same command goes on", file=sys.stderr)
    raise Interrupted("", signalled[0])


def explorer(folder, outcomes):
    """The models for the latent explorer, of those that were trained; None if there are none."""
    found = [training.load(folder / name / f"{model}_seed0")
             for name, names in EXPLORED.items() if outcomes[name] for model in names]
    data = datasets.mnist()
    return report.export(found, trained_judge(data), data) if found else None


def main():
    flags = cli.Parser(description="Run all experiments, and set the results beside the paper's on one page.")
    flags.add_argument("--quick", action="store_true",
                       help="short trainings, below the folder quick: to see that everything works")
    flags.add_argument("--out", type=cli.path, default=Path("runs/report"), metavar="FOLDER",
                       help="folder that everything is written to (default: runs/report)")
    args = flags.parse_args()
    cli.make_output(flags, args.out)
    folder = args.out / "quick" if args.quick else args.out

    # Run each example that has not ended with the same flags.
    outcomes, failed = {}, []
    for number, name in enumerate(QUICK, 1):
        asked = [*(QUICK[name] if args.quick else []), "--figures", "svg"]
        outcome = report.read(folder / name)
        if outcome is not None and outcome.flags == asked:
            print(f"{number} of {len(QUICK)}: {name} is there already", flush=True)
        else:
            resume = [] if name in WITHOUT_RUNS else ["--resume"]
            command = [*asked, "--out", str(folder / name), *resume]
            print(f"\n{number} of {len(QUICK)}: {name}.py {shlex.join(command)}", flush=True)
            status = run(name, command)
            outcome = None if status else report.read(folder / name)
            if status:
                failed.append(f"{name}, exit status {status}")
        outcomes[name] = outcome

    # The page.
    page = args.out / "index.html"
    storage.write_text(page, report.render(outcomes, explorer(folder, outcomes), args.quick))
    print(f"\n{page}: {page.stat().st_size / 1e6:.1f} MB")
    if failed:
        raise workers.Failed(f"{len(failed)} of {len(QUICK)} examples failed, which the page says: "
                             f"{'; '.join(failed)}")


if __name__ == "__main__":
    cli.run(main)
