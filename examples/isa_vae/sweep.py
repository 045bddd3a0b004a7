"""Run an experiment of many trainings: `python examples/isa_vae/sweep.py --help`."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

# Waiting threads sleep: spinning ones make training some twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import checkpoint
import torch
import train
import tyro
from config import Config, UsageError, find_device
from data import Pictures
from engines import Outcome, in_pool, in_ray
from experiments import OF_THE_PAPER, Run, experiments
from memory import keep_freed_memory
from report import score
from runs_read import read_rows as read_runs
from sources import load_data
from table import Row, as_csv, key_of, make_row, read_rows, write_row, write_text
from tqdm import tqdm


@dataclass(frozen=True)
class Sweep:
    """Run all trainings of an experiment, several at a time.

    A finished run is a file under OUT/EXPERIMENT/rows: stop this at any moment and start it again
    with the same flags, and it goes on. A run that diverges is recorded as such; a worker that
    dies is replaced, and its run tried again. At the end all rows are a table.
    """

    experiment: tyro.conf.Positional[str] = "list"
    """Name of the experiment; list: show them all, with the number of runs."""
    out: Path = Path("runs/sweeps")
    """Folder of all sweeps."""
    engine: Literal["auto", "ray", "pool"] = "auto"
    """ray: on this machine, or on a cluster with --address; pool: processes of this machine;
    auto: ray if it is installed and --address or --gpus are given, else pool."""
    workers: int | None = None
    """Runs at a time on this machine; by default one for each core."""
    address: str | None = None
    """Of a Ray cluster, e.g. auto or ray://host:10001."""
    gpus: float = 0.0
    """Share of a GPU for a run, e.g. 0.25 for four runs on each; 0: on the CPU."""
    arms: tuple[str, ...] = ()
    """Only these arms."""
    seeds: tuple[int, ...] = ()
    """Only these seeds."""
    betas: tuple[float, ...] = ()
    """Only these betas."""
    data: Path | None = None
    """The real files of the data set, as for train.py."""
    cache: Path | None = None
    """Folder of the drawn data sets, as for train.py."""
    keep_models: bool = False
    """Keep the weights of each run, which the figures of appendix A.5 need: 5 MB for a quick one,
    57 MB for one of the paper's."""
    publish: Path | None = None
    """Add to the table in this folder too, e.g. examples/isa_vae/results: the runs that are in it
    already count as finished, so that several sittings or machines can share an experiment."""


@cache
def pictures_of(config: Config) -> tuple[Pictures, torch.Tensor]:
    """The data set of a process, and the same on its device."""
    pictures = load_data(config, progress=False)
    return pictures, torch.from_numpy(pictures.packed).to(config.device)


def data_config(config: Config) -> Config:
    """What of the settings matters to the data, so that a worker loads them once."""
    names = ("data_set", "data", "cache", "device")
    return Config(**{name: getattr(config, name) for name in names})


def execute(run: Run, folder: Path, keep_model: bool) -> Row:
    """Train and score one run, from where it was left; in a worker."""
    torch.set_num_threads(1)
    keep_freed_memory()
    pictures, packed = pictures_of(data_config(run.config))
    content = None
    if (folder / checkpoint.CHECKPOINT).exists():
        try:
            content = checkpoint.read_checkpoint(folder)
        except UsageError as error:
            print(f"{error}; starting that run anew", file=sys.stderr)
    label = f"{run.config.data_set} ({pictures.source})"
    try:
        state = train.fit(run.config, pictures, packed, folder, content, progress=False)
    except train.StoppedError as stop:
        if stop.status != train.DIVERGED:
            raise
        return make_row(run, None, label)
    if keep_model:
        checkpoint.save_model(state, folder)
    return make_row(run, score(run.config, state, packed, pictures, progress=False), label)


def chosen(sweep: Sweep) -> list[Run]:
    """The runs that the flags ask for, with this machine's device and files."""
    table = experiments()
    if sweep.experiment not in table:
        raise UsageError(f"no experiment {sweep.experiment!r}; there are {', '.join(table)}")
    runs = table[sweep.experiment]
    for flag, wanted, present in (
        ("--arms", sweep.arms, {run.arm for run in runs}),
        ("--betas", sweep.betas, {run.config.beta for run in runs}),
        ("--seeds", sweep.seeds, {run.config.seed for run in runs}),
    ):
        unknown = [value for value in wanted if value not in present]
        if unknown:
            raise UsageError(f"{flag}: {sweep.experiment} has {sorted(present)}, not {unknown}")
    device = "cuda" if sweep.gpus else str(find_device("cpu"))
    return [
        replace(run, config=replace(run.config, device=device, data=sweep.data, cache=sweep.cache))
        for run in runs
        if (not sweep.arms or run.arm in sweep.arms)
        and (not sweep.seeds or run.config.seed in sweep.seeds)
        and (not sweep.betas or run.config.beta in sweep.betas)
    ]


def outcomes(sweep: Sweep, runs: list[Run], folder: Path) -> Iterator[Outcome[Run, Row]]:
    """Each run with its row or its error, as they end."""
    function = partial(run_in, folder, sweep.keep_models)
    engine = sweep.engine
    if engine == "auto":
        engine = "ray" if sweep.address or sweep.gpus else "pool"
    workers = sweep.workers or os.cpu_count() or 1
    if engine == "pool":
        return in_pool(runs, function, min(workers, len(runs)))
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--engine ray needs the package ray: "
            "python -m pip install -c constraints.txt -e '.[sweeps]', or use --engine pool"
        ) from error
    return in_ray(runs, function, sweep.address, sweep.workers, sweep.gpus)


def run_in(folder: Path, keep_model: bool, run: Run) -> Row:
    """`execute` in the run's own folder."""
    return execute(run, folder / "runs" / run.key, keep_model)


def run_all(sweep: Sweep) -> int:
    """The sweep; returns the number of runs that failed for good."""
    runs, folder = chosen(sweep), (sweep.out / sweep.experiment).absolute()
    rows = folder / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    published = {key_of(row) for row in published_rows(sweep)}
    there = {path.stem for path in rows.glob("*.json")} | published
    left = [run for run in runs if run.key not in there]
    failed = []
    if left:
        load_data(left[0].config)  # drawn once, here, and cached for the workers
    bar = tqdm(total=len(runs), initial=len(runs) - len(left), desc=sweep.experiment, unit="run")
    try:
        with bar:
            for run, outcome in outcomes(sweep, left, folder) if left else ():
                if isinstance(outcome, BaseException):
                    failed.append((run, outcome))
                else:
                    write_row(outcome, rows / f"{run.key}.json")
                    (folder / "runs" / run.key / checkpoint.CHECKPOINT).unlink(missing_ok=True)
                bar.update()
    finally:
        finish(sweep, runs, folder)
    for run, error in failed:
        print(f"failed: {run.key}: {error!r}", file=sys.stderr)
    return len(failed)


def published_rows(sweep: Sweep) -> list[Row]:
    """The rows of the published table, if there is one."""
    path = sweep.publish / f"{sweep.experiment}.csv" if sweep.publish else None
    return read_runs(path, sweep.experiment) if path and path.exists() else []


def finish(sweep: Sweep, runs: list[Run], folder: Path) -> None:
    """Make the table of the rows there are, and say where it is."""
    rows = read_rows(folder / "rows")
    here = {key_of(row) for row in rows}
    rows += [row for row in published_rows(sweep) if key_of(row) not in here]
    table = folder / f"{sweep.experiment}.csv"
    tables = [table, *([sweep.publish / table.name] if sweep.publish else [])]
    for path in tables:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(as_csv(rows), path)
    status = Counter(row["status"] for row in rows)
    finished = {key_of(row) for row in rows}
    there = sum(run.key in finished for run in runs)
    written = "".join(f"  {path}  the table\n" for path in tables)
    print(
        f"""
{sweep.experiment}: {len(rows)} rows ({status["done"]} done, {status["diverged"]} diverged);
{there} of the {len(runs)} runs asked for are finished.
Written:
  {folder / "rows"}  a row for each run, with its settings and its history
{written}Next: python examples/isa_vae/figures.py --help""",
        flush=True,
    )


def overview() -> str:
    """All experiments, and how many runs each is."""
    lines = ["experiment      runs  rung    arms x betas x seeds"]
    for name, runs in experiments().items():
        counts = [len({run.arm for run in runs}), len({run.config.beta for run in runs})]
        seeds = max(run.config.seed for run in runs) + 1
        lines.append(
            f"{name:<15}{len(runs):>5}  {runs[0].rung:<7} {counts[0]} x {counts[1]} x {seeds}"
        )
    total = sum(len(experiments()[name]) for name in OF_THE_PAPER)
    lines.append(f"{' + '.join(OF_THE_PAPER)}: {total} runs (the paper: 1280, undivided)")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 a run failed, 2 wrong use, 130 Ctrl-C."""
    sweep = tyro.cli(Sweep, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    if sweep.experiment == "list":
        print(overview())
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 1 if run_all(sweep) else 0
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
