"""The runs of the paper's own size on one GPU: `python examples/isa_vae/gpu_sweep.py --help`."""

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
from card.choice import Choice, remembered
from card.closing import close
from card.leave import PROTOCOL, REHEARSED, Leave
from card.mig_pool import processes
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
CLOSING = 75.0  # seconds kept for the last gaps, the pictures and the models
CLOSING_REHEARSAL = 30.0
COMPILING = 20.0  # seconds before the first wave
PER_RUN = 2.0  # seconds that a run takes beside its steps: its weights, and its scores here
REHEARSAL = {"hidden": 16, "batch_size": 64, "steps": 120}
STRIDE = 499  # of the pictures of a rehearsal
HELP = """\
Trains the experiment `paper` on one GPU: the paper's own configuration, four runs side by side as
one CUDA graph. Needs torch, numpy, tqdm and matplotlib, nothing else, and nothing installed.

A trial comes first (about a minute): does the card compute what a CPU does, what works on it, how
long does a step take? Time alone then says how many pairs the first verdict will have. Waves of
two seeds follow, in the order of PROTOCOL.md, until time is up; each run is scored and has its row
at once, in OUT/rows.jsonl. Rows that are there, or published, are not made again: the same command
goes on, in this session or another.

examples:
  python examples/isa_vae/gpu_sweep.py --smoke           # the trial alone
  python examples/isa_vae/gpu_sweep.py --minutes 8       # one session
  python examples/isa_vae/sweep.py collect runs/gpu/* --publish examples/isa_vae/results
  python examples/isa_vae/gpu_sweep.py --rehearse --device cpu --minutes 3 --out runs/rehearsal

Ctrl-C, or being killed, loses the wave that is training, and nothing that has its row.
"""


def options(argv: Sequence[str]) -> argparse.Namespace:
    """Flags."""
    parser = argparse.ArgumentParser(
        prog="gpu_sweep.py",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="for everything, from start to end (8)")
    add("--out", type=Path, default=Path("runs/gpu"), help="folder of the results (runs/gpu)")
    add("--smoke", action="store_true", help="try the card, say how many waves fit, and end")
    add("--device", default="cuda", help="cuda, cuda:1, ...; cpu with --rehearse (cuda)")
    add(
        "--rehearse", action="store_true", help="tiny models on few pictures: numbers mean nothing"
    )
    add("--waves", type=int, help="end after that many of them (as many as fit)")
    add("--workers", type=int, help="processes for the gaps (two fewer than there are cores)")
    add("--trial", help=argparse.SUPPRESS)
    add("--precision", default="float32", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if not chosen.minutes > 0:
        raise UsageError(f"--minutes must be positive, but got {chosen.minutes}")
    if chosen.waves is not None and chosen.waves < 1:
        raise UsageError(f"--waves must be 1 or more, but got {chosen.waves}")
    if chosen.workers is not None and chosen.workers < 0:
        raise UsageError(f"--workers must be 0 or more, but got {chosen.workers}")
    if chosen.out.exists() and not chosen.out.is_dir():
        raise UsageError(f"--out must be a folder, but {chosen.out} is a file")
    chosen.device = find_device(chosen.device)
    if chosen.device.type == "cuda":
        torch.cuda.set_device(chosen.device)
    if chosen.device.type == "cpu" and not chosen.rehearse:
        raise UsageError(
            "a run of the paper's size takes hours on a CPU: add --rehearse to try it"
        )
    return chosen


def primary_arms(chosen: argparse.Namespace) -> list[Config]:
    """Settings of the arms of the primary comparison, for a trial."""
    table = {run.arm: run.config for run in experiments()["paper"] if run.arm in PRIMARY}
    smaller = REHEARSAL if chosen.rehearse else {}
    return [replace(table[arm], device=str(chosen.device), **smaller) for arm in PRIMARY]


def load(chosen: argparse.Namespace) -> Pictures:
    """All pictures, or few for a rehearsal; no cache, for drawing takes a second or two."""
    pictures = draw_dsprites(cache=None, progress=True)
    if not chosen.rehearse:
        return pictures
    part = slice(None, None, STRIDE)
    return Pictures(pictures.packed[part].copy(), pictures.classes[part].copy(), "drawn")


def try_card(chosen: argparse.Namespace, pictures: Pictures, leave: Leave) -> Choice:
    """The trial, or what an earlier one on this card has found."""
    place = default_cache() / f"trial{'-of-a-rehearsal' * chosen.rehearse}.json"
    choice = None if chosen.smoke else remembered(place, chosen.device)
    if choice is None:
        flags = ["--device", str(chosen.device), *(["--rehearse"] if chosen.rehearse else [])]
        packed = torch.from_numpy(pictures.packed)
        choice = probe(Path(__file__), flags, primary_arms(chosen), packed, chosen.device)
        with contextlib.suppress(OSError):  # it only saves the next one some time
            choice.remember(place)
    cores = os.cpu_count() or 1
    choice.workers = max(0, cores - 2) if chosen.workers is None else chosen.workers
    leave.add("smoke", choice.to_json())
    leave.log(
        f"{choice.device['card']}, driver {choice.device['driver']}, torch {torch.__version__}: "
        f"{choice.engine}, {choice.precision}, {choice.step_ms:.2f} ms a step of four runs"
    )
    for note in choice.notes:
        leave.log(f"fell back: {note}")
    return choice


def finished_rows(chosen: argparse.Namespace, leave: Leave) -> list[Row]:
    """Rows that are here, or published."""
    here = [{k: v for k, v in row.items() if k != "kind"} for row in leave.lines("run")]
    wanted = REHEARSED if chosen.rehearse else PROTOCOL
    if other := [row for row in here if row["protocol"] != wanted]:
        raise UsageError(f"{chosen.out} has rows of {other[0]['protocol']}: give another --out")
    if chosen.rehearse:
        return here
    names = {phase.experiment for phase in phases(2, 2)}
    paths = [PUBLISHED / f"{name}.csv" for name in sorted(names)]
    published = [row for path in paths if path.is_file() for row in read_rows(path)]
    there = {identity_of(row) for row in here}
    return here + [row for row in published if identity_of(row) not in there]


def sweep(chosen: argparse.Namespace) -> int:
    """The trial and, unless it is all that was asked for, the session."""
    deadline = time.monotonic() + 60 * chosen.minutes
    leave = Leave(chosen.out)
    rows = finished_rows(chosen, leave)
    pictures = load(chosen)
    choice = try_card(chosen, pictures, leave)
    steps = primary_arms(chosen)[0].num_steps(len(pictures))
    per_wave = steps * choice.step_ms / 1e3 + 4 * PER_RUN
    until = deadline - (CLOSING_REHEARSAL if chosen.rehearse else CLOSING)
    left = until - time.monotonic() - COMPILING * ("compiled" in choice.engine)
    planned = planned_of(rows) or pairs_that_fit(left, per_wave, choice.width)
    leave.log(
        f"a wave takes {per_wave:.0f} s: {max(0, int(left // per_wave))} fit into "
        f"{chosen.minutes:g} minutes; the first look is at {planned} pairs"
    )
    if chosen.smoke:
        return 0
    with processes(choice.workers, STRIDE if chosen.rehearse else 1) as gaps:
        packed = torch.from_numpy(pictures.packed).to(chosen.device)
        smaller = REHEARSAL if chosen.rehearse else {}
        finished = frozenset(map(identity_of, rows))
        session = Session(packed, pictures, choice, planned, leave, gaps, smaller, finished)
        stopped = Schedule(session, until, per_wave, chosen.waves).go()
        return close(session, rows, deadline, stopped)


def run(argv: Sequence[str]) -> int:
    """Everything."""
    chosen = options(argv)
    if chosen.trial:
        total = len(range(0, math.prod(SIZES), STRIDE if chosen.rehearse else 1))
        way = chosen.trial, chosen.precision, chosen.device
        print(json.dumps(try_step(primary_arms(chosen), *way, total)))
        return 0
    try:
        return sweep(chosen)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 the card does not compute what it should, 2 wrong use, 130 Ctrl-C."""
    return exit_status(lambda: run(argv), "stopped; the same command goes on")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
