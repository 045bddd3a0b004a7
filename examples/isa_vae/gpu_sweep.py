"""Run the paper's own configuration on one GPU: `python examples/isa_vae/gpu_sweep.py --help`."""

import argparse
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a bare checkout has lpnested there

import torch

from card.choice import Choice, load_choice
from card.closing import close
from card.leave import PROTOCOL, REHEARSED, OutputFolder
from card.mig_pool import gap_workers
from card.probe import DisagreementError, probe, try_step
from card.schedule import Schedule
from card.session import Session
from card.waves import identity_of, pairs_that_fit, phases, planned_of
from config import Config, UsageError, find_device
from data.pictures import SIZES, Pictures, default_cache, draw_dsprites
from running.process import exit_status
from sweeps.experiments import PRIMARY, experiments
from sweeps.rows import Row, read_rows

PUBLISHED = Path(__file__).resolve().parent / "results"
CLOSING = 75.0  # seconds reserved for the last gaps, the figures and the models
CLOSING_REHEARSAL = 30.0
COMPILING = 20.0  # seconds before the first wave
PER_RUN = 2.0  # seconds per run beside its steps: initialisation and scoring on the GPU
REHEARSAL = {"hidden": 16, "batch_size": 64, "steps": 120}
STRIDE = 499  # a rehearsal uses every 499th image
HELP = """\
Trains the experiment `paper` on one GPU: the paper's own configuration, four runs side by side as
one CUDA graph. Needs only torch, numpy, tqdm and matplotlib; nothing has to be installed.

A trial (about a minute) comes first: does the GPU agree with a CPU, which features work on it, and
how long does a step take? The step time alone then determines how many pairs the first verdict
will have. Waves of two seeds follow, in the order of PROTOCOL.md, until the time is up; each run
is scored at once and recorded in OUT/rows.jsonl. Runs that are already recorded there, or
published, are skipped, so the same command resumes in this session or another.

examples:
  python examples/isa_vae/gpu_sweep.py --smoke           # only the trial
  python examples/isa_vae/gpu_sweep.py --minutes 8       # one session
  python examples/isa_vae/sweep.py collect runs/gpu/* --publish examples/isa_vae/results
  python examples/isa_vae/gpu_sweep.py --rehearse --device cpu --minutes 3 --out runs/rehearsal

Ctrl-C or a kill loses only the wave in training; recorded runs are safe.
"""


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse and check the flags."""
    parser = argparse.ArgumentParser(
        prog="gpu_sweep.py",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="total time of the session (8)")
    add("--out", type=Path, default=Path("runs/gpu"), help="folder of the results (runs/gpu)")
    add("--smoke", action="store_true", help="only try the GPU, and report how many waves fit")
    add("--device", default="cuda", help="cuda, cuda:1, ...; cpu with --rehearse (cuda)")
    add("--rehearse", action="store_true", help="tiny models on few images: meaningless scores")
    add("--waves", type=int, help="maximum number of waves (as many as fit)")
    add("--workers", type=int, help="processes that compute the gaps (number of cores minus two)")
    add("--trial", help=argparse.SUPPRESS)
    add("--precision", default="float32", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not args.minutes > 0:
        raise UsageError(f"--minutes must be positive, but got {args.minutes}")
    if args.waves is not None and args.waves < 1:
        raise UsageError(f"--waves must be 1 or more, but got {args.waves}")
    if args.workers is not None and args.workers < 0:
        raise UsageError(f"--workers must be 0 or more, but got {args.workers}")
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out must be a folder, but {args.out} is a file")
    args.device = find_device(args.device)
    if args.device.type == "cuda":
        torch.cuda.set_device(args.device)
    if args.device.type == "cpu" and not args.rehearse:
        raise UsageError(
            "a run of the paper's size takes hours on a CPU: add --rehearse to try it out"
        )
    return args


def primary_arms(args: argparse.Namespace) -> list[Config]:
    """Settings of the two arms of the primary comparison."""
    table = {run.arm: run.config for run in experiments()["paper"] if run.arm in PRIMARY}
    smaller = REHEARSAL if args.rehearse else {}
    return [replace(table[arm], device=str(args.device), **smaller) for arm in PRIMARY]


def load(args: argparse.Namespace) -> Pictures:
    """Render all images, or a few for a rehearsal; uncached, since it takes a second or two."""
    pictures = draw_dsprites(cache=None, progress=True)
    if not args.rehearse:
        return pictures
    part = slice(None, None, STRIDE)
    return Pictures(pictures.packed[part].copy(), pictures.classes[part].copy(), "drawn")


def try_card(args: argparse.Namespace, pictures: Pictures, output: OutputFolder) -> Choice:
    """Run the trial, or reuse the result of an earlier one on this GPU."""
    place = default_cache() / f"trial{'-of-a-rehearsal' * args.rehearse}.json"
    choice = None if args.smoke else load_choice(place, args.device)
    if choice is None:
        flags = ["--device", str(args.device), *(["--rehearse"] if args.rehearse else [])]
        packed = torch.from_numpy(pictures.packed)
        choice = probe(Path(__file__), flags, primary_arms(args), packed, args.device)
        with contextlib.suppress(OSError):  # the file only saves time later
            choice.save(place)
    cores = os.cpu_count() or 1
    choice.workers = max(0, cores - 2) if args.workers is None else args.workers
    output.add("smoke", choice.to_json())
    output.log(
        f"{choice.device['card']}, driver {choice.device['driver']}, torch {torch.__version__}: "
        f"{choice.engine}, {choice.precision}, {choice.step_ms:.2f} ms a step of four runs"
    )
    for note in choice.notes:
        output.log(f"fell back: {note}")
    return choice


def finished_rows(args: argparse.Namespace, output: OutputFolder) -> list[Row]:
    """Read the rows in --out, and the published ones."""
    here = [{k: v for k, v in row.items() if k != "kind"} for row in output.lines("run")]
    wanted = REHEARSED if args.rehearse else PROTOCOL
    if other := [row for row in here if row["protocol"] != wanted]:
        raise UsageError(f"{args.out} has rows of {other[0]['protocol']}: choose another --out")
    if args.rehearse:
        return here
    names = {phase.experiment for phase in phases(2, 2)}
    paths = [PUBLISHED / f"{name}.csv" for name in sorted(names)]
    published = [row for path in paths if path.is_file() for row in read_rows(path)]
    known = {identity_of(row) for row in here}
    return here + [row for row in published if identity_of(row) not in known]


def sweep(args: argparse.Namespace) -> int:
    """Run the trial and, unless --smoke, the session."""
    deadline = time.monotonic() + 60 * args.minutes
    output = OutputFolder(args.out)
    rows = finished_rows(args, output)
    pictures = load(args)
    choice = try_card(args, pictures, output)
    steps = primary_arms(args)[0].num_steps(len(pictures))
    per_wave = steps * choice.step_ms / 1e3 + 4 * PER_RUN
    until = deadline - (CLOSING_REHEARSAL if args.rehearse else CLOSING)
    left = until - time.monotonic() - COMPILING * ("compiled" in choice.engine)
    planned = planned_of(rows) or pairs_that_fit(left, per_wave, choice.width)
    output.log(
        f"a wave takes {per_wave:.0f} s: {max(0, int(left // per_wave))} fit into "
        f"{args.minutes:g} minutes; the first look is at {planned} pairs"
    )
    if args.smoke:
        return 0
    with gap_workers(choice.workers, STRIDE if args.rehearse else 1) as gaps:
        packed = torch.from_numpy(pictures.packed).to(args.device)
        smaller = REHEARSAL if args.rehearse else {}
        finished = frozenset(map(identity_of, rows))
        session = Session(packed, pictures, choice, planned, output, gaps, smaller, finished)
        stopped = Schedule(session, until, per_wave, args.waves).run()
        return close(session, rows, deadline, stopped)


def run(argv: Sequence[str]) -> int:
    """Parse the flags, and run a single trial step or the sweep."""
    args = parse_args(argv)
    if args.trial:
        total = len(range(0, math.prod(SIZES), STRIDE if args.rehearse else 1))
        way = args.trial, args.precision, args.device
        print(json.dumps(try_step(primary_arms(args), *way, total)))
        return 0
    try:
        return sweep(args)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 success, 1 the GPU is wrong, 2 usage error, 130 Ctrl-C."""
    return exit_status(lambda: run(argv), "stopped; the same command resumes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
