"""Tries a card before anything is made on it: does it compute the same, and how fast?

No score is looked at: only whether objectives agree, and time.
"""

import json
import math
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from card.capture import ENGINES, Advance
from card.choice import Choice, describe
from card.loop import Training
from card.stacked import Stack
from config import Config
from torch import Tensor

# Largest relative difference of the objective from the CPU's, over a few steps. On a CPU another
# order of sums makes one of 2e-7, TF32 emulated 4e-4, and another draw of the noise 2e-2.
AGREE = {"float32": 1e-3, "tf32": 5e-3}
COMPARED = 20  # steps
PATIENCE = 60.0  # seconds until a trial is given up: compiling takes most of them
BLOCKS, BLOCK = 5, 20  # of steps that are timed
ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit)\b")
PRECISIONS = {"tf32": "high", "float32": "highest"}  # as torch calls them


class DisagreementError(Exception):
    """The device computes something else than the CPU: nothing it makes can be used."""


def objectives(
    arms: list[Config], packed: Tensor, precision: str, rows: Tensor, noise: Tensor
) -> Tensor:
    """Those of a few steps on given pictures with given noise, float64 on the CPU: (steps, arms).

    Args:
        arms: Settings.
        packed: The pictures, on the device that computes.
        precision: Of products there.
        rows: Of the pictures in each step, (steps, batch).
        noise: Of each step, (steps, batch, latents).
    """
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    arms = [replace(config, device=str(packed.device)) for config in arms]
    training = Training(Stack(arms, (0,), packed), len(rows))
    found = []
    for step_rows, step_noise in zip(rows, noise, strict=True):
        training.stack.rows.copy_(step_rows[None])
        training.stack.noise.copy_(step_noise[None])
        with torch.no_grad():
            found.append(training.stack.terms()["objective"][0])
        training.step()
    return torch.stack(found).double().cpu()


def compare(arms: list[Config], packed: Tensor, device: torch.device, choice: Choice) -> None:
    """Float32 on the device against the CPU, and TF32 against float32: chooses the precision."""
    generator = torch.Generator().manual_seed(0)
    size = COMPARED, arms[0].batch_size
    rows = torch.randint(len(packed), size, generator=generator)
    noise = torch.randn(*size, arms[0].latents, generator=generator)
    used, places = rows.unique(return_inverse=True)
    few = packed[used]  # the CPU needs no others
    expected = objectives(arms, few, "float32", places, noise)
    there = few.to(device)
    for precision in ("float32", "tf32") if device.type == "cuda" else ("float32",):
        found = objectives(arms, there, precision, places, noise)
        difference = float(((found - expected) / expected).abs().max())
        choice.agreement[precision] = difference if math.isfinite(difference) else 1e9
    difference, allowed = choice.agreement["float32"], AGREE["float32"]
    if difference >= allowed:
        raise DisagreementError(
            f"in {COMPARED} steps the objective on {choice.device['card']} differs from that on "
            f"the CPU by {difference:.1e}, where {allowed:g} is allowed: no run is made"
        )
    good = choice.agreement.get("tf32", 1.0) < AGREE["tf32"]
    choice.precision = "tf32" if good else "float32"
    if not good and device.type == "cuda":
        choice.notes.append(f"tf32 differs by {choice.agreement['tf32']:.1e}: float32 is used")


def try_step(
    arms: list[Config], engine: str, precision: str, device: torch.device, total: int
) -> dict[str, float]:
    """Milliseconds of a step of two seeds of the arms, and how far it is from an eager one.

    The pictures are noise, as many as there are, so that what is compiled serves the session.
    """
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    torch.manual_seed(0)
    pictures = torch.randint(256, (total, 512), dtype=torch.uint8, device=device)
    arms = [replace(config, device=str(device)) for config in arms]
    training = Training(Stack(arms, (0, 1), pictures), BLOCKS * BLOCK)
    rows = torch.randint(total, training.stack.rows.shape)
    training.stack.rows.copy_(rows)
    advance = ENGINES[engine](training)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for _ in range(BLOCKS):
        wait()
        began = time.perf_counter()
        take(BLOCK, training, advance)
        wait()
        times.append((time.perf_counter() - began) / BLOCK)
    sums = []
    training.terms = training.stack.terms  # the second time as they are, not compiled
    for way in (advance, training.step):
        training.begin((0, 1))
        training.stack.rows.copy_(rows)
        take(COMPARED, training, way)
        sums.append(training.sums[0, training.names.index("objective")].double())
    difference = float(((sums[0] - sums[1]) / sums[1]).abs().max())
    return {"step_ms": 1e3 * median(times), "difference": difference}


def take(steps: int, training: Training, advance: Advance) -> None:
    """Some steps on the same pictures."""
    for _ in range(steps):
        training.stack.draw_noise()
        advance()


def trial(command: list[str], patience: float = PATIENCE) -> dict[str, Any]:
    """What `try_step` says in a process of its own, which may fail, hang or crash alone."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {patience:g} s"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        told = [line for line in lines if ERROR.match(line)] or lines
        return {"error": f"status {done.returncode}: {told[-1]}"[:400]}
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {"error": f"it said {done.stdout[-200:]!r}"}
    if not found["difference"] < AGREE["tf32"]:
        found = {"error": f"its objective differs from the eager one by {found['difference']:.1e}"}
    return dict(found)


def probe(
    script: Path, flags: list[str], arms: list[Config], packed: Tensor, device: torch.device
) -> Choice:
    """Everything there is to choose, in less than a minute.

    Args:
        script: gpu_sweep.py, which a trial is made by in a process of its own.
        flags: That a trial needs.
        arms: Settings of those to try.
        packed: The pictures on the CPU, (N, bytes).
        device: To try.
    """
    choice = Choice(device=describe(device))
    likely = "tf32" if device.type == "cuda" else "float32"

    def tried(engine: str, precision: str) -> dict[str, Any]:
        command = [sys.executable, str(script), "--precision", precision, "--trial", engine]
        return trial([*command, *flags])

    with ThreadPoolExecutor(1) as aside:
        compiling = aside.submit(tried, "compiled graph", likely)
        compare(arms, packed, device, choice)
        if choice.precision == likely:
            choice.trials["compiled graph"] = compiling.result()
    for engine in ("graph", "eager"):  # the last is slower: it is for where nothing else works
        if engine == "graph" or not fastest(choice.trials):
            choice.trials[engine] = tried(engine, choice.precision)
    choice.notes += [f"{k}: {t['error']}" for k, t in choice.trials.items() if "error" in t]
    engine = fastest(choice.trials)
    if engine is None:
        raise DisagreementError(f"no way to take a step works here: {'; '.join(choice.notes)}")
    choice.engine, choice.step_ms = engine, choice.trials[engine]["step_ms"]
    return choice


def fastest(trials: dict[str, Any]) -> str | None:
    """Name of the trial with the shortest step, of those that worked."""
    times = {name: found["step_ms"] for name, found in trials.items() if "step_ms" in found}
    return min(times, key=lambda name: times[name]) if times else None
