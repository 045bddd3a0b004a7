"""The runs of every experiment: explicit tables of settings and seeds.

A rung is the compute budget of a run: ``smoke`` takes seconds on one core, to try the machinery;
``quick`` about a minute; ``medium`` about twenty minutes; ``paper`` is the configuration of the
paper. PROTOCOL.md records what was fixed before each was run.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from config import PRESETS, Config

# The root of 0.495, the variance of one latent under the ISA prior as released: exponents 2.1 and
# 2.2, four latents to a subspace, scale 1.
RELEASED_DEVIATION = 0.7036

# The priors compared at beta = 1.
ARMS: dict[str, dict[str, Any]] = {
    "normal": {"prior": "normal", "scale": "unit-variance"},
    "normal-0.495": {"prior": "normal", "scale": RELEASED_DEVIATION},
    "isa-released": {"prior": "isa", "p0": 2.1, "p": (2.2,), "scale": 1.0},
    "isa-unit": {"prior": "isa", "p0": 2.1, "p": (2.2,), "scale": "unit-variance"},
    "isa-4-4": {"prior": "isa", "p0": 4.0, "p": (4.0,), "scale": "unit-variance"},
    "isa-2.5-3": {"prior": "isa", "p0": 2.5, "p": (3.0,), "scale": "unit-variance"},
    "isa-learned": {
        "prior": "isa",
        "p0": 2.1,
        "p": (2.2,),
        "scale": "unit-variance",
        "learn_exponents": True,
    },
}
MATTER = ("normal", "normal-0.495", "isa-released", "isa-4-4")

# The methods compared over beta. ISA has the released exponents unless others are given.
METHODS: dict[str, dict[str, Any]] = {
    "beta-vae": ARMS["normal"],
    "beta-tcvae": ARMS["normal"] | {"objective": "tcvae"},
    "isa-beta-vae": {"prior": "isa", "scale": 1.0},
    "isa-beta-tcvae": {"prior": "isa", "scale": 1.0, "objective": "tcvae"},
    "factorvae": ARMS["normal"] | {"objective": "factorvae"},
}
LEARNED = {"isa-beta-tcvae-learned": METHODS["isa-beta-tcvae"] | {"learn_exponents": True}}
TRADE_OFF = tuple(name for name in METHODS if name != "factorvae")

# The experiment `paper`, on one GPU (gpu_sweep.py), in the order in which its arms are run.
PRIMARY = ("normal", "isa-released")
SECONDARY = ("normal-0.495", "isa-4-4")
WEIGHTED = ("beta-tcvae", "isa-beta-tcvae")  # at beta 1 these equal the two of PRIMARY
WEIGHTED_BETAS = (2.0, 4.0)
# Bounds on the pairs of the primary comparison; the number is determined by the time of a step on
# the first GPU and nothing else. A second look follows with 1.5 times as many.
FEWEST_PAIRS, MOST_PAIRS = 18, 34


def second_look(pairs: int) -> int:
    """Number of pairs at the second look, given that of the first."""
    return math.ceil(1.5 * pairs)


BETAS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)  # table 1 of the paper
FACTORVAE_BETAS = tuple(float(beta) for beta in range(1, 11))
FACES_BETAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # table 2
CARS_BETAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)  # not stated in the paper

PAPER = replace(PRESETS["dsprites-paper"], scores="all")
PAPER_ON_GPU = replace(PAPER, scores="mig")
QUICK = replace(
    PRESETS["small"],
    hidden=128,
    batch_size=32,
    steps=3000,
    learning_rate=2e-3,
    eval_images=73_728,
    checkpoint_seconds=300.0,
)
MEDIUM = replace(
    PRESETS["small"],
    hidden=256,
    batch_size=128,
    steps=30_000,
    scores="all",
    checkpoint_seconds=60.0,
)
SMOKE = replace(PRESETS["smoke"], sizes=(2, 2, 2), checkpoint_seconds=300.0)
CONV: dict[str, Any] = {"model": "conv", "decay": 0.0, "batch_size": 2048}
FACES = replace(PAPER, data_set="faces", sizes=(2,) * 5, p0=2.1, p=(1.9,), epochs=1500, **CONV)
CARS = replace(PAPER, data_set="cars3d", sizes=(4,) * 3, p0=2.0, p=(2.1,), epochs=2000, **CONV)
SHORT: dict[str, Any] = {
    "batch_size": 32,
    "steps": 600,
    "eval_images": 10_000,
    "decay": 0.3,
    "scores": "light",
}
# Appendix A.2 on a data set that is quick to train on.
A2 = replace(QUICK, sizes=(4,) * 3, p0=2.0, p=(2.1,))


@dataclass(frozen=True)
class Run:
    """One training of an experiment, with everything that determines its results."""

    experiment: str
    rung: str
    arm: str
    config: Config

    @property
    def key(self) -> str:
        """Name of the run's files within the experiment."""
        return f"{self.arm}-beta{self.config.beta:g}-seed{self.config.seed}"


def grid(
    experiment: str,
    rung: str,
    base: Config,
    arms: dict[str, dict[str, Any]],
    betas: Iterable[float] = (1.0,),
    seeds: int = 1,
    first: int = 0,
) -> list[Run]:
    """Arms x betas x seeds, with seeds outermost so that an interrupted sweep is balanced."""
    betas = tuple(betas)
    return [
        Run(experiment, rung, arm, replace(base, **settings, beta=beta, seed=seed))
        for seed in range(first, first + seeds)
        for beta in betas
        for arm, settings in arms.items()
    ]


def subset(names: Iterable[str], table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Select arms of a table by name."""
    return {name: table[name] for name in names}


def by_seed(*tables: list[Run]) -> list[Run]:
    """Merge several tables, ordered by seed."""
    return sorted((run for table in tables for run in table), key=lambda run: run.config.seed)


def experiments() -> dict[str, list[Run]]:
    """All experiments by name."""
    four, factor = subset(TRADE_OFF, METHODS), subset(["factorvae"], METHODS)
    unlearned = subset(["beta-vae", "beta-tcvae", "isa-beta-vae", "isa-beta-tcvae"], METHODS)
    faces_arms, cars_arms = unlearned | LEARNED, subset(["beta-tcvae"], METHODS) | LEARNED
    learned = {"isa-beta-vae-learned": METHODS["isa-beta-vae"] | {"learn_exponents": True}}
    priors, weighted = subset(PRIMARY + SECONDARY, ARMS), subset(WEIGHTED, METHODS)
    most = second_look(MOST_PAIRS)
    return {
        "paper": by_seed(  # seed 0 was run earlier, on a CPU, as part of fig5a
            grid("paper", "paper", PAPER_ON_GPU, priors, seeds=most, first=1),
            grid("paper", "paper", PAPER_ON_GPU, weighted, WEIGHTED_BETAS, seeds=most, first=1),
        ),
        "paper-float32": grid(  # a check of TF32, which the other runs use
            "paper-float32", "paper", PAPER_ON_GPU, subset(PRIMARY, ARMS), seeds=2, first=1
        ),
        "fig5a": grid("fig5a", "paper", PAPER, ARMS, seeds=50),
        "fig5b": by_seed(
            grid("fig5b", "paper", PAPER, four, BETAS, seeds=10),
            grid("fig5b", "paper", PAPER, factor, FACTORVAE_BETAS, seeds=10),
        ),
        "fig5c": by_seed(
            grid("fig5c", "paper", FACES, unlearned, FACES_BETAS, seeds=10),
            grid("fig5c", "paper", FACES, LEARNED, FACES_BETAS, seeds=15),
        ),
        "fig6": grid("fig6", "paper", CARS, cars_arms, CARS_BETAS, seeds=35),
        "fig7": grid("fig7", "paper", CARS, learned, seeds=35),
        "fig5a-medium": grid("fig5a-medium", "medium", MEDIUM, subset(MATTER, ARMS), seeds=10),
        "fig5a-quick": grid("fig5a-quick", "quick", QUICK, ARMS, seeds=30),
        "fig5b-quick": by_seed(
            grid("fig5b-quick", "quick", QUICK, four, BETAS, seeds=8),
            grid("fig5b-quick", "quick", QUICK, factor, (1.0, 4.0, 10.0), seeds=3),
        ),
        "fig5c-quick": grid(
            "fig5c-quick", "quick", replace(FACES, **SHORT), faces_arms, (1.0, 4.0), seeds=2
        ),
        "fig6-quick": grid(
            "fig6-quick", "quick", replace(CARS, **SHORT), cars_arms, (1.0, 4.0), seeds=3
        ),
        "smoke": grid("smoke", "smoke", SMOKE, subset(PRIMARY, ARMS), seeds=3),
        "fig7-quick": grid("fig7-quick", "quick", A2, learned, seeds=15),
    }


# The experiments that add up to the paper's 1280 runs: one reading, since it gives no breakdown.
OF_THE_PAPER = ("fig5b", "fig5c", "fig6")


def overview() -> str:
    """A table of all experiments and their number of runs."""
    lines = ["experiment      runs  rung    arms x betas x seeds"]
    for name, runs in experiments().items():
        counts = [len({run.arm for run in runs}), len({run.config.beta for run in runs})]
        seeds = len({run.config.seed for run in runs})
        lines.append(
            f"{name:<15}{len(runs):>5}  {runs[0].rung:<7} {counts[0]} x {counts[1]} x {seeds}"
        )
    total = sum(len(experiments()[name]) for name in OF_THE_PAPER)
    names = " + ".join(OF_THE_PAPER)
    lines.append(f"{names}: {total} runs (the paper gives 1280 for all three together)")
    return "\n".join(lines)
