"""torch.compile(fullgraph=True): no graph break, the same numbers as eager, and its speed."""

import time
from functools import partial
from typing import Any

import torch
from densities import MODES, NORMAL, OURS, Problem, ours, step
from layouts import BY_NAME
from peers import independent
from plan import Case, Setting, settings, sync_of
from timing import QUICK, Budget, interleave
from torch import Tensor
from torch.distributions import Normal


def plan(quick: bool) -> list[Setting]:
    """One and two threads: compiled kernels have been wrong with two alone."""
    return [Setting()] if quick else settings(1, 2)


def cases(setting: Setting, quick: bool) -> list[Case]:
    """Full: three layouts and one larger N; quick: one case."""
    chosen = [(name, 2048, mode) for name in list(BY_NAME)[:3] for mode in MODES]
    chosen += [("5 x 4", 65_536, mode) for mode in MODES]
    return [
        Case(
            {"layout": name, "N": count, "mode": mode},
            partial(measure, Problem(BY_NAME[name], count, mode, setting.device), quick),
        )
        for name, count, mode in (chosen[1:2] if quick else chosen)
    ]


def measure(problem: Problem, quick: bool) -> dict[str, Any]:
    """Eager and compiled, ours and the normal, and how far compiled is from eager."""
    torch._dynamo.reset()
    z, (p0, p) = problem.value(), problem.exponents()
    eager = ours(problem, p0, p)
    normal = independent(Normal, problem.layout.tree.dim, problem.device).log_prob
    compiled, compiled_normal = (
        torch.compile(density, fullgraph=True, dynamic=False) for density in (eager, normal)
    )
    contenders = {
        OURS: step(eager, z, (p0, p)),
        f"{OURS}, compiled": step(compiled, z, (p0, p)),
        NORMAL: step(normal, z),
        f"{NORMAL}, compiled": step(compiled_normal, z),
    }
    began = time.perf_counter()
    try:  # fullgraph=True makes a graph break an error
        outcome = contenders[f"{OURS}, compiled"]()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    seconds = time.perf_counter() - began
    difference = largest_difference(contenders[OURS](), outcome)
    timed = interleave(
        contenders, NORMAL, QUICK if quick else Budget(seconds=2.0), sync=sync_of(problem.device)
    )
    return timed | {"difference": difference, "compile_seconds": seconds}


def largest_difference(eager: Any, compiled: Any) -> float:
    """Between values or gradients, each relative to the largest of its tensor."""
    pairs = [(eager, compiled)] if isinstance(eager, Tensor) else zip(eager, compiled, strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
