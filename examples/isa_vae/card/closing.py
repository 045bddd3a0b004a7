"""The end of a session: the last rows, figures and models of representative runs, a summary."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from card.session import Session
from models import Fixed, make_prior
from plots.appendix import draw_model
from plots.factors import representative
from running.checkpoint import State, make_vae
from sweeps.experiments import PRIMARY, Run
from sweeps.rows import Row, key_of
from turning.gains import measure_rotation
from turning.turned_figure import summarise

LEAST = 5.0  # seconds that must remain to start another task
RESERVED = 0.4  # fraction of the remaining time reserved for figures and models
ROTATED = 5_000  # images whose codes are rotated


def close(session: Session, before: Sequence[Row], deadline: float, signal: int) -> int:
    """Write the remaining outputs, and return the exit status.

    Args:
        session: The session, after training.
        before: Rows from before the session.
        deadline: Time by which to end, as given by time.monotonic.
        signal: Signal that ended the session, or 0.
    """
    session.prepared = None
    torch.set_float32_matmul_precision("highest")
    now = time.monotonic()
    turned = {} if signal else rotate_codes(session, deadline - RESERVED * (deadline - now))
    if session.pending:
        session.output.log(f"waiting for the gaps of {len(session.pending)} runs")
    session.collect(wait=True)
    for arm in PRIMARY:
        runs = [row for row in session.rows if row["arm"] == arm and row["experiment"] == "paper"]
        runs = [row for row in runs if row["status"] == "done"]
        if runs:
            write_representative(session, arm, runs, turned, deadline)
    session.output.log(summary(session, before))
    return 128 + signal if signal else 0


def rotate_codes(session: Session, until: float) -> dict[str, list[Row]]:
    """Measure the gain of each prior under rotation, by run, while the last gaps are computed."""
    began, found = time.monotonic(), dict[str, list[Row]]()
    for run, weights in session.models.values():
        if time.monotonic() > until:
            break
        session.collect()
        try:
            state = state_of(session, run, weights)
            rows = measure_rotation(
                *(state.vae, state.prior(), run.config, session.packed, session.pictures, run.key),
                images=min(ROTATED, len(session.pictures) // 10),
            )
            session.output.add("rotation", {"key": run.key, "means": summarise(rows)})
            found[run.key] = rows
        except Exception as error:  # no error here may cost a row
            session.output.log(f"{run.key}, rotation: {type(error).__name__}: {error}")
    seconds = time.monotonic() - began
    session.output.log(f"rotated the codes of {len(found)} runs in {seconds:.0f} s")
    return found


def state_of(session: Session, run: Run, weights: dict[str, Tensor]) -> State:
    """State of a trained model of the session, on its device."""
    vae = make_vae(run.config, channels=1).to(session.packed.device)
    vae.load_state_dict(weights)
    prior = Fixed(make_prior(run.config)())
    return State(vae.eval(), prior, torch.optim.Adam(vae.parameters()))


def write_representative(
    session: Session,
    arm: str,
    runs: Sequence[Row],
    turned: dict[str, list[Row]],
    deadline: float,
) -> None:
    """Write the figures, curves and weights of the representative run of an arm."""
    key = key_of(representative(runs))
    run, weights = session.models[key]
    curves = {"key": key, "rows": turned.get(key, [])}
    tasks: list[tuple[str, Callable[[], object]]] = [
        ("curves", lambda: session.output.add("curves", curves)),
        ("model", lambda: session.output.model(arm, run, weights)),
        ("pictures", lambda: draw(session, arm, run, weights, len(runs))),
    ]
    for name, task in tasks:
        if time.monotonic() > deadline - LEAST:
            session.output.log(f"{arm}: no time left for {name}")
            continue
        try:
            task()
        except Exception as error:  # a failure must not affect the other tasks
            session.output.log(f"{arm}, {name}: {type(error).__name__}: {error}")


def draw(session: Session, arm: str, run: Run, weights: dict[str, Tensor], count: int) -> Path:
    """Draw latents against factors, a traversal and reconstructions, as one picture."""
    state = state_of(session, run, weights)
    title = f"{arm}, seed {run.config.seed}, chosen of {count} runs"  # no score before a look
    with TemporaryDirectory() as folder:
        parts = draw_model(run.config, state, session.pictures, title, Path(folder), run.key)
        return session.output.picture(arm, parts)


def summary(session: Session, before: Sequence[Row]) -> str:
    """Summarise the runs made, the state of the primary comparison, the files and next steps."""
    made = session.rows
    diverged = sum(row["status"] == "diverged" for row in made)
    seeds = [{row["seed"] for row in [*before, *made] if is_primary(row, arm)} for arm in PRIMARY]
    pairs = len(set.intersection(*seeds))
    notes = "".join(f"\n  fell back: {note}" for note in session.choice.notes)
    files = sorted(path for path in session.output.folder.iterdir() if path.is_file())
    sizes = "".join(
        f"\n  {path.name:<28} {path.stat().st_size / 2**20:6.1f} MiB" for path in files
    )
    return f"""
{len(made)} runs made ({diverged} diverged) on {session.choice.device["card"]}: \
{session.choice.engine}, {session.choice.precision}, {session.choice.step_ms:.2f} ms a step{notes}
The primary comparison has {pairs} of {session.planned} pairs.

Written to {session.output.folder}:{sizes}

Next: python examples/isa_vae/sweep.py collect {session.output.folder}/* \
--publish examples/isa_vae/results
"""


def is_primary(row: Row, arm: str) -> bool:
    """Whether a row belongs to the primary comparison."""
    return (row["experiment"], row["arm"], float(row["beta"])) == ("paper", arm, 1.0)
