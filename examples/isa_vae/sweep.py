"""Run an experiment with many trainings: `python examples/isa_vae/sweep.py --help`."""

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

# Idle threads must sleep: spinning makes training about twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import tyro

from card.collecting import collect
from config import UsageError, find_device, require
from data.sources import load_data
from running import checkpoint
from running.files import disk_full, lock_folder
from running.folders import require_folder
from running.process import as_ctrl_c, exit_status
from sweeps.engines import Outcome, gpu_slots, in_pool, in_ray
from sweeps.experiments import Run, experiments, overview
from sweeps.gather import finished_keys, missing_models, write_tables
from sweeps.rows import Row, write_row
from sweeps.worker import SweepBar, folder_of, run_in


@dataclass(frozen=True)
class Sweep:
    """Run all trainings of an experiment, several at a time.

    Each finished run is a file in OUT/EXPERIMENT/rows, so a sweep can be stopped at any time and
    resumes when started again with the same flags. Runs that diverge are recorded as such; a
    worker that dies is replaced and its run retried. At the end all rows are collected in a
    table. The experiment smoke tries all this in less than two minutes.
    """

    experiment: tyro.conf.Positional[str] = "list"
    """Name of the experiment; list: show all experiments and their number of runs; collect: merge
    FILES written by gpu_sweep.py into the tables in --publish."""
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """For collect: rows.jsonl, and parts of models, which are joined in --out."""
    out: Path = Path("runs/sweeps")
    """Output folder for all sweeps."""
    engine: Literal["auto", "ray", "pool"] = "auto"
    """ray: Ray on this machine, or on a cluster with --address; pool: processes on this machine;
    auto: ray with --address, or with --gpus if installed, else pool, which gives the same rows
    without the memory of a server."""
    workers: int | None = None
    """Number of parallel runs on this machine; by default one per core, or per share of a GPU."""
    threads: int = 1
    """CPU threads per run. With --workers 1 and all cores a single run of the paper's size
    finishes sooner; many runs together do not."""
    address: str | None = None
    """Address of a Ray cluster, e.g. auto or ray://host:10001. Its machines need this package,
    and --out, --data and --cache on a shared file system."""
    gpus: float = 0.0
    """Share of a GPU per run, e.g. 0.25 for four runs on each; 0: run on the CPU."""
    arms: tuple[str, ...] = ()
    """Run only these arms."""
    seeds: tuple[int, ...] = ()
    """Run only these seeds."""
    betas: tuple[float, ...] = ()
    """Run only these betas."""
    data: Path | None = None
    """Original files of the data set, as for train.py."""
    cache: Path | None = None
    """Cache folder for rendered images, as for train.py."""
    keep_models: bool = False
    """Keep the weights of each run, which the figures of appendix A.5 need: 5 MB for a quick run,
    57 MB for one of the paper's size."""
    publish: Path | None = None
    """Also add the rows to the table in this folder, e.g. examples/isa_vae/results. Runs already
    in it count as finished, so an interrupted experiment can resume here or elsewhere."""


def select_runs(sweep: Sweep) -> list[Run]:
    """Select the runs that match the flags, and set this machine's device and files."""
    table = experiments()
    if sweep.experiment not in table:
        raise UsageError(f"no experiment {sweep.experiment!r}; choose from {', '.join(table)}")
    if sweep.experiment.startswith("paper"):
        raise UsageError(
            f"{sweep.experiment} is run by gpu_sweep.py, which fixes its number of pairs; fig5a "
            "has the same configuration for any machine"
        )
    require(not sweep.files, "files", "left out unless the experiment is collect", sweep.files)
    runs = table[sweep.experiment]
    for flag, wanted, present in (
        ("--arms", sweep.arms, {run.arm for run in runs}),
        ("--betas", sweep.betas, {run.config.beta for run in runs}),
        ("--seeds", sweep.seeds, {run.config.seed for run in runs}),
    ):
        unknown = [value for value in wanted if value not in present]
        if unknown:
            raise UsageError(f"{flag}: {sweep.experiment} has {sorted(present)}, not {unknown}")
    require(sweep.workers is None or sweep.workers > 0, "workers", "1 or more", sweep.workers)
    require(sweep.threads > 0, "threads", "1 or more", sweep.threads)
    share = 0 <= sweep.gpus <= 1 or (sweep.gpus > 0 and float(sweep.gpus).is_integer())
    require(share, "gpus", "a share of one, or a whole number", sweep.gpus)
    device = "cuda" if sweep.gpus else str(find_device("cpu"))
    data, cache = (path and path.absolute() for path in (sweep.data, sweep.cache))
    found = [
        replace(run, config=replace(run.config, device=device, data=data, cache=cache))
        for run in runs
        if (not sweep.arms or run.arm in sweep.arms)
        and (not sweep.seeds or run.config.seed in sweep.seeds)
        and (not sweep.betas or run.config.beta in sweep.betas)
    ]
    if not found:
        raise UsageError(f"no run of {sweep.experiment} matches --arms, --betas and --seeds")
    return found


def engine_of(sweep: Sweep) -> str:
    """Resolve the engine: ray or pool."""
    installed = importlib.util.find_spec("ray") is not None
    if sweep.engine == "auto":
        return "ray" if sweep.address or (sweep.gpus and installed) else "pool"
    return sweep.engine


def outcomes(sweep: Sweep, runs: list[Run], folder: Path) -> Iterator[Outcome[Run, Row]]:
    """Yield each run with its row or its error, in the order in which they end."""
    function = partial(run_in, folder, sweep.keep_models, sweep.threads)
    local = not sweep.address or engine_of(sweep) == "pool"
    if local and sweep.gpus > torch.cuda.device_count():
        available = torch.cuda.device_count()
        raise UsageError(f"--gpus asks for {sweep.gpus:g} per run, but {available} are available")
    if engine_of(sweep) == "ray":
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "--engine ray and --address need the package ray: "
                "python -m pip install -c constraints.txt -e '.[sweeps]', or use --engine pool"
            ) from error
        return in_ray(runs, function, sweep.address, sweep.workers, sweep.threads, sweep.gpus)
    require(sweep.gpus <= 1, "gpus", "1 or less with the engine pool", sweep.gpus)
    gpus = gpu_slots(sweep.gpus) if sweep.gpus else []
    workers = sweep.workers or len(gpus) or max(1, (os.cpu_count() or 1) // sweep.threads)
    return in_pool(runs, function, min(workers, len(runs), len(gpus) or workers), gpus)


def run_all(sweep: Sweep) -> int:
    """Run the sweep, and return the number of runs that failed for good."""
    runs, folder = select_runs(sweep), (sweep.out / sweep.experiment).absolute()
    rows = folder / "rows"
    require_folder("--out", rows)
    if sweep.publish:
        require_folder("--publish", sweep.publish)
    rows.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        return run_remaining(sweep, runs, folder)


def run_remaining(sweep: Sweep, runs: list[Run], folder: Path) -> int:
    """Make the runs that have no row yet, and return the number of failures."""
    rows, finished = folder / "rows", finished_keys(runs, folder, sweep.publish, sweep.data)
    remaining = [run for run in runs if run.key not in finished]
    failed = []
    if sweep.keep_models and (warning := missing_models(runs, folder, finished)):
        print(warning, file=sys.stderr)
    if remaining:
        load_data(remaining[0].config)  # rendered once here, and cached for the workers
    folders = {run.key: folder_of(run, folder) for run in remaining}
    try:
        with SweepBar(sweep.experiment, len(runs), [*folders.values()]) as bar:
            for run, outcome in outcomes(sweep, remaining, folder) if remaining else ():
                if isinstance(outcome, BaseException):
                    failed.append((run, outcome))
                else:
                    write_row(outcome, rows / f"{run.key}.json")
                    (folders[run.key] / checkpoint.CHECKPOINT).unlink(missing_ok=True)
                bar.end(folders[run.key])
    finally:
        for run, error in failed:
            print(f"failed: {run.key}: {type(error).__name__}: {error}", file=sys.stderr)
        if any(disk_full(error) for _, error in failed):
            print("free some disk space; the same command resumes the sweep", file=sys.stderr)
        write_tables(runs, folder, sweep.publish, sweep.out / sweep.experiment)
    return len(failed)


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 success, 1 a run failed, 2 usage error, 130 Ctrl-C."""
    sweep = tyro.cli(Sweep, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    if sweep.experiment == "list":
        print(overview())
        return 0
    if sweep.experiment == "collect":
        return exit_status(
            lambda: print(collect(sweep.files, sweep.publish, sweep.out)), "nothing was written"
        )
    stopped = "stopped; the same command resumes the sweep"
    with as_ctrl_c(signal.SIGTERM, signal.SIGHUP):
        return exit_status(lambda: min(1, run_all(sweep)), stopped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
