r"""How strong is the prior's force? `python examples/toys/force.py [--help]`.

Two latents encode independent uniform factors of variance 1. The gain measures how much the ISA
prior prefers them along its axes over the diagonals:

.. math:: E \log p(\ldots, u_1, u_2, \ldots)
    - E \log p(\ldots, \tfrac{u_1 - u_2}{\sqrt 2}, \tfrac{u_1 + u_2}{\sqrt 2}, \ldots)

in nats, which is the gain of the evidence lower bound by the rotation. The two latents share a
subspace (within) or not (across). All other latents follow the prior, which has variance 1 in
each coordinate; subspaces are independent, so only those of the two latents matter.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.quasirandom import SobolEngine
from tqdm import tqdm

from lpnested import ISA
from records import Row, command, require, versions, write_csv, write_json

TABLE, FILE = "force.csv", "force.json"


@dataclass(frozen=True)
class Config:
    """Measure how much an ISA prior prefers aligned over diagonal codes. Takes about a minute."""

    exponents: tuple[float, ...] = (1.0, 1.5, 1.9, 2.0, 2.1, 2.2, 2.5, 3.0, 4.0)
    """Grid of values for both p0 and p."""
    size: int = 4
    """Number of latents per subspace."""
    replicates: int = 32
    """Number of independent repetitions, from which standard errors are computed."""
    samples: int = 4096
    """Samples per repetition, preferably a power of 2."""
    seed: int = 0
    """Random seed of the samples."""
    out: Path = Path("runs/toys")
    """Output folder."""


def unit_prior(sizes: Sequence[int], p0: float, p: float) -> ISA:
    """The ISA prior with variance 1, in float64."""
    p0, p = torch.tensor([p0, p], dtype=torch.float64)
    return ISA.unit_variance(sizes, p0, p, validate_args=False)


def uniform_factors(replicates: int, samples: int, seed: int) -> Tensor:
    """Scrambled Sobol points on the square of variance 1, (replicates, samples, 2)."""
    engines = [SobolEngine(2, scramble=True, seed=seed + r) for r in range(replicates)]
    draws = torch.stack([engine.draw(samples, dtype=torch.float64) for engine in engines])
    return (2 * draws - 1) * 3**0.5


def rotated(factors: Tensor) -> Tensor:
    """The factors, rotated by 45 degrees."""
    first, second = factors.unbind(-1)
    return torch.stack([first - second, first + second], -1) / 2**0.5


def with_code(rest: Tensor, code: Tensor, positions: tuple[int, int]) -> Tensor:
    """Insert the code at two positions of the latents."""
    z = rest.clone()
    z[..., list(positions)] = code
    return z


def expected_log_density(
    prior: ISA, rest: Tensor, code: Tensor, positions: tuple[int, int]
) -> Tensor:
    """Mean log density over the samples of each repetition, (replicates,)."""
    return prior.log_prob(with_code(rest, code, positions)).mean(-1)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean over the repetitions, and its standard error."""
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


def gain(p0: float, p: float, config: Config, factors: Tensor) -> Row:
    """Compute a row of the table: both gains of one prior, with common random numbers."""
    prior, size = unit_prior([config.size] * 2, p0, p), config.size
    torch.manual_seed(config.seed)
    rest = prior.sample(factors.shape[:-1])
    line: Row = {"p0": p0, "p": p}
    for name, positions in (("within", (0, 1)), ("across", (0, size))):
        codes = (factors, rotated(factors))
        aligned, diagonal = (expected_log_density(prior, rest, c, positions) for c in codes)
        line[name], line[f"{name}_error"] = mean_and_error(aligned - diagonal)
    return line


def plane(p: float, factors: Tensor) -> Row:
    """Figure 3: expected log densities of both codes and the gain, for two latents and p0 = p."""
    prior, rest = unit_prior([2], p, p), torch.zeros_like(factors)
    codes = (factors, rotated(factors))
    aligned, diagonal = (expected_log_density(prior, rest, c, (0, 1)) for c in codes)
    line: Row = {"p": p, "aligned": aligned.mean().item(), "diagonal": diagonal.mean().item()}
    line["gain"], line["gain_error"] = mean_and_error(aligned - diagonal)
    return line


def check(config: Config) -> None:
    """Raise a UsageError that names the first invalid flag."""
    low = min(config.exponents, default=0.0)
    require(low > 0, "--exponents", "positive", config.exponents)
    for key, least in (("size", 2), ("replicates", 2), ("samples", 1)):
        value = getattr(config, key)
        require(value >= least, f"--{key}", f"{least} or more", value)


def summary(rows: Sequence[Row], config: Config, seconds: float) -> str:
    """Format the grids as text."""
    text = ["", f"Gain of aligned over diagonal codes in nats, subspaces of {config.size}"]
    for name in ("within", "across"):
        worst = max(float(row[f"{name}_error"]) for row in rows)
        text += ["", f"{name} subspaces (standard errors to {worst:.1g}); p0 down, p across"]
        text.append("      " + "".join(f"{p:8g}" for p in config.exponents))
        for p0 in config.exponents:
            line = [float(row[name]) for row in rows if row["p0"] == p0]
            text.append(f"{p0:6g}" + "".join(f"{value:8.3f}" for value in line))
    return "\n".join([*text, "", f"{seconds:.0f} s. Written to {config.out}: {TABLE}, {FILE}"])


def run(argv: Sequence[str]) -> str:
    """Parse the flags, measure the gains, and return the summary."""
    config = tyro.cli(Config, args=argv)
    check(config)
    began = time.monotonic()
    factors = uniform_factors(config.replicates, config.samples, config.seed)
    pairs = [(p0, p) for p0 in config.exponents for p in config.exponents]
    rows = [gain(p0, p, config, factors) for p0, p in tqdm(pairs, desc="measuring", unit="prior")]
    planes = [plane(p, factors) for p in config.exponents]
    settings = dataclasses.asdict(config)
    del settings["out"]
    write_csv(rows, config.out / TABLE)
    results = {"config": settings, "versions": versions(), "plane": planes}
    write_json(results, config.out / FILE)
    return summary(rows, config, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(command(run, sys.argv[1:]))
