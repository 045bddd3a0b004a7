"""Try a GPU before any training: does it agree with the CPU, and how fast is it?

No score is looked at, only the agreement of objectives, and time.
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
from torch import Tensor

from card.capture import ENGINES, Advance
from card.choice import Choice, describe
from card.loop import Training
from card.stacked import Stack
from config import Config

# Allowed relative difference of the objective from the CPU's, over a few steps. For comparison, on
# a CPU a different summation order gives 2e-7, emulated TF32 4e-4, and different noise 2e-2.
AGREE = {"float32": 1e-3, "tf32": 5e-3}
COMPARED = 20  # number of steps compared
TIMEOUT = 60.0  # seconds for a trial, most of them for compilation
BLOCKS, BLOCK = 5, 20  # number of timed blocks, and steps per block
ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit)\b")
PRECISIONS = {"tf32": "high", "float32": "highest"}  # torch's names


class DisagreementError(Exception):
    """The device disagrees with the CPU, so nothing it computes can be used."""


def objectives(
    arms: list[Config], packed: Tensor, precision: str, rows: Tensor, noise: Tensor
) -> Tensor:
    """Objectives of a few steps on given images and noise, float64 on the CPU: (steps, arms).

    Args:
        arms: Settings of the arms.
        packed: The images, on the device that computes.
        precision: Precision of matrix products.
        rows: Rows of the images in each step, (steps, batch).
        noise: Noise in each step, (steps, batch, latents).
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
    """Compare float32 and TF32 on the device with the CPU, and choose the precision."""
    generator = torch.Generator().manual_seed(0)
    size = COMPARED, arms[0].batch_size
    rows = torch.randint(len(packed), size, generator=generator)
    noise = torch.randn(*size, arms[0].latents, generator=generator)
    used, index = rows.unique(return_inverse=True)
    few = packed[used]  # the CPU needs only these
    expected = objectives(arms, few, "float32", index, noise)
    on_device = few.to(device)
    for precision in ("float32", "tf32") if device.type == "cuda" else ("float32",):
        found = objectives(arms, on_device, precision, index, noise)
        difference = float(((found - expected) / expected).abs().max())
        choice.agreement[precision] = difference if math.isfinite(difference) else 1e9
    difference, allowed = choice.agreement["float32"], AGREE["float32"]
    if difference >= allowed:
        raise DisagreementError(
            f"within {COMPARED} steps the objective on {choice.device['card']} differs from the "
            f"CPU's by {difference:.1e}, more than the allowed {allowed:g}: no run is made"
        )
    good = choice.agreement.get("tf32", 1.0) < AGREE["tf32"]
    choice.precision = "tf32" if good else "float32"
    if not good and device.type == "cuda":
        choice.notes.append(f"tf32 differs by {choice.agreement['tf32']:.1e}: using float32")


def try_step(
    arms: list[Config], engine: str, precision: str, device: torch.device, total: int
) -> dict[str, float]:
    """Milliseconds per step of two seeds of the arms, and the difference from an eager step.

    The images are noise, in the same number as the real ones, so that the session can reuse the
    compiled code.
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
        take_steps(BLOCK, training, advance)
        wait()
        times.append((time.perf_counter() - began) / BLOCK)
    sums = []
    training.terms = training.stack.terms  # not compiled, for the eager steps below
    for step in (advance, training.step):
        training.reset((0, 1))
        training.stack.rows.copy_(rows)
        take_steps(COMPARED, training, step)
        sums.append(training.sums[0, training.names.index("objective")].double())
    difference = float(((sums[0] - sums[1]) / sums[1]).abs().max())
    return {"step_ms": 1e3 * median(times), "difference": difference}


def take_steps(steps: int, training: Training, advance: Advance) -> None:
    """Take some steps on the same images."""
    for _ in range(steps):
        training.stack.draw_noise()
        advance()


def trial(command: list[str], timeout: float = TIMEOUT) -> dict[str, Any]:
    """Run `try_step` in a process of its own, which may fail, hang or crash."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {timeout:g} s"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        errors = [line for line in lines if ERROR.match(line)] or lines
        return {"error": f"status {done.returncode}: {errors[-1]}"[:400]}
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {"error": f"unexpected output {done.stdout[-200:]!r}"}
    if not found["difference"] < AGREE["tf32"]:
        found = {"error": f"objective differs from the eager one by {found['difference']:.1e}"}
    return dict(found)


def probe(
    script: Path, flags: list[str], arms: list[Config], packed: Tensor, device: torch.device
) -> Choice:
    """Choose how to train, in less than a minute.

    Args:
        script: gpu_sweep.py, which runs each trial in a process of its own.
        flags: Flags of a trial.
        arms: Settings of the arms to try.
        packed: The images on the CPU, (N, bytes).
        device: The device to try.
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
    for engine in ("graph", "eager"):  # eager is slower: only if nothing else works
        if engine == "graph" or not fastest(choice.trials):
            choice.trials[engine] = tried(engine, choice.precision)
    choice.notes += [f"{k}: {t['error']}" for k, t in choice.trials.items() if "error" in t]
    engine = fastest(choice.trials)
    if engine is None:
        raise DisagreementError(f"no engine works on this device: {'; '.join(choice.notes)}")
    choice.engine, choice.step_ms = engine, choice.trials[engine]["step_ms"]
    return choice


def fastest(trials: dict[str, Any]) -> str | None:
    """Name of the successful trial with the shortest step."""
    times = {name: found["step_ms"] for name, found in trials.items() if "step_ms" in found}
    return min(times, key=lambda name: times[name]) if times else None
