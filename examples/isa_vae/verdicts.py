"""What the runs of a sweep say about the paper's two claims, by a rule fixed beforehand.

**Claim 4.1**, a higher MIG at beta = 1: the mean MIG of each ISA arm against the normal prior, and
of the released ISA prior against the normal one of its variance (normal-0.495).

**Claim 4.2**, a better trade-off: at each beta the mean MIG and the mean log p(x|z) of an ISA arm
against the same objective with a normal prior (isa-beta-tcvae against beta-tcvae, isa-beta-vae
against beta-vae; isa-learned against either normal arm); and one number for the whole curve,
"trade-off": the best mean MIG with log p(x|z) >= t, averaged over t (`compare.attained`), over the
betas that both arms have.

Of each difference the mean, a 95 % bootstrap interval and a permutation p are given. Arms with 3
seeds or more in common are compared by pairs of runs with one seed, others as independent samples.
A run that diverged or is missing drops out of its pair and is counted. The p values of an
experiment are adjusted by Holm's method, in families: those of the claims, those of "4.2, parts",
which explain the second claim and decide nothing on it, and those of the controls.

The verdict is the first of these that holds (PROTOCOL.md has the same rule):

- **reproduced**: the interval lies above 0, and Holm's p < 0.05. (The difference may still be
  small: it stands beside the verdict.)
- **not reproduced**: the interval lies below the smallest effect of interest, 0.05 for a MIG and 1
  nat for log p(x|z). This includes every interval below 0.
- **undecided**: neither. The runs are too few, or vary too much; the detectable difference, the
  one with 80 % power at the two-sided 5 % level, says how large an effect they could have found.

With n pairs p is at least 2 / 2^n, so that fewer than 6 can reproduce nothing; and with fewer than
5 the interval is too narrow (`compare.expanded_level`). So fewer than 6 decide nothing. Nor does a
sweep that was cut off: as long as runs of the two arms that experiments.py has are still to be
made, the comparison is undecided, for a sweep that ends when its numbers please finds too much.

The verdict on claim 4.2 is that of the trade-off; the lines at each beta, "4.2, parts", say where
it comes from.

**Controls** are comparisons of the experiment and not of the paper, a family of their own, with
the same words: normal-0.495 against normal says what a smaller variance alone does to the MIG;
and the trade-off of the TCVAE's objective against that of the VAE with the same prior, which
should be better (Chen et al. 2018), whether an effect of that size can be seen. Claim 4.2 is
tested with the priors as released: there variance and shape are not told apart.

A verdict on a STAND-IN data set or on a smaller rung is one on that experiment, not on the paper.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import compare
import numpy as np
from config import UsageError
from files import write_text
from outcomes import arms, betas, curves, planned, scores, unmade
from table import Row
from tqdm import tqdm
from verdict_table import markdown

FEWEST = 6  # pairs, or runs of an arm, from which anything is decided
SMALLEST = {"mig": 0.05, "log_px": 1.0, "trade-off": 0.05}


def dropped(rows: Sequence[Row], pair: tuple[str, str], shared: Sequence[float], n: int) -> int:
    """Runs of two arms that are not among the n compared ones: diverged, missing, or unpaired."""
    seeds = {(arm, seed) for arm, beta, seed in planned(rows) if arm in pair and beta in shared}
    return len(seeds) - n


def to_make(rows: Sequence[Row], pair: tuple[str, str], at: float | None = None) -> int:
    """Runs of two arms, at one beta or at all, that are planned and have no row yet."""
    return sum(arm in pair and at in (None, beta) for arm, beta, _ in unmade(rows))


@dataclass(frozen=True)
class Comparison:
    """One line of the table: a difference, and what follows."""

    claim: str
    arm: str
    against: str
    beta: float | None  # None for a whole curve
    measure: str
    paired: bool
    n: int  # pairs, or runs of the smaller arm
    dropped: int  # runs of either arm that are not compared
    to_make: int  # those of them that are still to be made
    means: tuple[float, float] | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    medians: tuple[float, float] | None = None
    median_interval: tuple[float, float] | None = None
    unpaired_p: float | None = None
    p: float | None = None
    holm: float | None = None
    detectable: float | None = None
    smallest: float = 0.0
    verdict: str = "undecided"


def decide(
    interval: tuple[float, float] | None,
    p: float | None,
    smallest: float,
    n: int = FEWEST,
    to_make: int = 0,
) -> str:
    """The rule in the text above, with p adjusted already."""
    if interval is None or p is None or n < FEWEST or to_make > 0:
        return "undecided"
    if interval[0] > 0 and p < 0.05:
        return "reproduced"
    return "not reproduced" if interval[1] < smallest else "undecided"


def match(a: dict[int, Any], b: dict[int, Any]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Scores of both arms, in pairs if they have 3 seeds in common."""
    shared = sorted(a.keys() & b.keys())
    if len(shared) >= 3:
        return np.array([a[s] for s in shared]), np.array([b[s] for s in shared]), True
    return np.array(list(a.values())), np.array(list(b.values())), False


def compare_arms(
    rows: Sequence[Row], claim: str, arm: str, against: str, beta: float, measure: str
) -> Comparison:
    """One score at one beta."""
    a, b, paired = match(*(scores(rows, name, beta, measure) for name in (arm, against)))
    left = dropped(rows, (arm, against), [beta], len(a) + len(b))
    later, n = to_make(rows, (arm, against), beta), min(len(a), len(b))
    found = Comparison(claim, arm, against, beta, measure, paired, n, left, later)
    if found.n < 2:
        return found
    if paired:
        enough = compare.detectable(float((a - b).std(ddof=1)), len(a))
    else:
        squares = ((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()
        pooled = math.sqrt(squares / (len(a) + len(b) - 2))
        enough = compare.detectable(pooled, len(a), len(b))
    more = {
        "means": (float(a.mean()), float(b.mean())),
        "difference": float(a.mean() - b.mean()),
        "interval": compare.difference_interval(a, b, paired),
        "medians": (float(np.median(a)), float(np.median(b))),
        "median_interval": compare.difference_interval(a, b, paired, np.median),
        "unpaired_p": compare.permutation_p(a, b, False),
        "p": compare.permutation_p(a, b, paired),
        "detectable": enough,
    }
    return replace(found, **more)


def compare_curves(
    rows: Sequence[Row], claim: str, arm: str, against: str, resamples: int = 9_999
) -> Comparison:
    """The trade-off curves of two arms: seeds are resampled and swapped whole, with all betas."""
    shared = sorted(set(betas(rows, arm)) & set(betas(rows, against)))
    a, b, paired = match(curves(rows, arm, shared), curves(rows, against, shared))
    n, left = min(len(a), len(b)), dropped(rows, (arm, against), shared, len(a) + len(b))
    later = to_make(rows, (arm, against))
    found = Comparison(claim, arm, against, None, "trade-off", paired, n, left, later)
    if n < 2:
        return found
    both, generator = np.concatenate([a, b]), np.random.default_rng(0)
    places = np.concatenate([a.mean(0), b.mean(0)])[:, 1]
    low, high = float(places.min()), float(places.max())

    def area(picked: np.ndarray, axis: int = -1) -> np.ndarray:
        """Of the mean curve of the picked seeds, (..., seeds) -> (...)."""
        mig, log_px = np.moveaxis(both[picked.astype(int)].mean(axis - 2), -1, 0)
        return compare.attained(mig, log_px, low, high)

    first, second = np.arange(len(a)), np.arange(len(b)) + len(a)
    means = float(area(first)), float(area(second))
    drawn = compare.resampled_differences(
        first, second, paired, lambda x, axis: area(x), resamples
    )
    interval = compare.expanded_interval(drawn, len(a), len(b), paired)
    sizes = (len(a),) if paired else (len(a), len(b))
    error = float(drawn.std()) * math.sqrt(n / (n - 1))  # a bootstrap distribution is too narrow
    sd = error / math.sqrt(sum(1 / size for size in sizes))
    if paired:
        swap = n * (generator.random((resamples, n)) < 0.5)
        null = np.abs(area(first + swap) - area(second - swap))
    else:
        order = generator.permuted(np.tile(np.arange(len(both)), (resamples, 1)), axis=1)
        null = np.abs(area(order[:, : len(a)]) - area(order[:, len(a) :]))
    count = int((null >= abs(means[0] - means[1]) - 1e-12).sum())
    more = {
        "means": means,
        "difference": means[0] - means[1],
        "interval": interval,
        "p": (1 + count) / (1 + resamples),
        "detectable": compare.detectable(sd, *sizes),
    }
    return replace(found, **more)


def pairs(names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """For either claim, and the controls, the arms, each with what it is compared with."""
    isa = [name for name in names if name.startswith("isa")]
    priors = [(name, "normal") for name in isa] + [("isa-released", "normal-0.495")]
    objectives = [(name, name.removeprefix("isa-").removesuffix("-learned")) for name in isa]
    objectives += [("isa-learned", "beta-vae"), ("isa-learned", "beta-tcvae")]
    known = [("beta-tcvae", "beta-vae"), ("isa-beta-tcvae", "isa-beta-vae")]
    known += [("normal-0.495", "normal")]
    return {
        claim: [pair for pair in dict.fromkeys(found) if set(pair) <= set(names)]
        for claim, found in (("4.1", priors), ("4.2", objectives), ("control", known))
    }


FAMILIES = (("4.1", "4.2"), ("4.2, parts",), ("control",))  # claims that are tested together


def judge(rows: Sequence[Row]) -> list[Comparison]:
    """Every comparison of one experiment, with Holm's p and the verdict: claims first."""
    found = [*tqdm(comparisons(rows), desc="comparing", unit="difference", leave=False)]
    return [c for family in FAMILIES for c in decided([c for c in found if c.claim in family])]


def comparisons(rows: Sequence[Row]) -> Iterator[Comparison]:
    """Those that the arms and betas of an experiment allow, without verdicts."""
    chosen = pairs(arms(rows))
    if 1.0 in betas(rows):
        for pair in chosen["4.1"]:
            yield compare_arms(rows, "4.1", *pair, 1.0, "mig")
    for pair in chosen["4.2"]:
        shared = sorted(set(betas(rows, pair[0])) & set(betas(rows, pair[1])))
        for measure in ("mig", "log_px"):
            for beta in shared:
                yield compare_arms(rows, "4.2, parts", *pair, beta, measure)
        if len(shared) > 1:
            yield compare_curves(rows, "4.2", *pair)
    for pair in chosen["control"]:
        shared = sorted(set(betas(rows, pair[0])) & set(betas(rows, pair[1])))
        if len(shared) > 1:
            yield compare_curves(rows, "control", *pair)
        elif shared == [1.0]:
            yield compare_arms(rows, "control", *pair, 1.0, "mig")


def decided(family: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons that are tested together, with Holm's p and the verdict."""
    found = []
    for c, p in zip(family, compare.holm([c.p for c in family]), strict=True):
        least = SMALLEST[c.measure]
        verdict = decide(c.interval, p, least, c.n, c.to_make)
        found.append(replace(c, holm=p, smallest=least, verdict=verdict))
    return found


def write_verdicts(rows: Sequence[Row], folder: Path) -> list[Path]:
    """The comparisons as EXPERIMENT-verdicts.json and EXPERIMENT-verdicts.md."""
    found, name = judge(rows), rows[0]["experiment"]
    if not found:
        raise UsageError(f"{name} has no arms to compare, but {', '.join(arms(rows))}")
    values = {
        "experiment": name,
        "rung": sorted({row["rung"] for row in rows}),
        "data": sorted({row["data"] for row in rows}),
        "smallest_effects_of_interest": SMALLEST,
        "comparisons": [asdict(c) for c in found],
    }
    texts = {"json": json.dumps(values, indent=2, allow_nan=False) + "\n", "md": markdown(found)}
    paths = [folder / f"{name}-verdicts.{ending}" for ending in texts]
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(text, path)
    return paths
