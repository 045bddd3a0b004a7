"""What the project has promised itself, and whether a run kept it."""

from dataclasses import dataclass

from densities import FORWARD, IN_BOTH, IN_VALUE, OURS
from lookup import (
    RAGGED,
    SMALL,
    SQUARE,
    WIDE,
    Finder,
    Measured,
    deep_level,
    field,
    graph_breaks,
    kernels,
    least_lead,
    log_prob,
    quotient,
    slope,
    statistic,
    training,
    training_lead,
    unpacking,
    wide_over_small,
    wide_per_number,
    worst_difference,
)


@dataclass(frozen=True)
class Target:
    """A promise: what `measure` finds in the rows is at most (or at least) the limit."""

    what: str
    limit: float
    measure: Finder
    unit: str = "x"
    at_least: bool = False

    def met(self, measured: Measured) -> bool:
        """By the median alone."""
        if self.at_least:
            return measured.value >= self.limit
        return measured.value <= self.limit


MIG = {"group": "example", "what": "MIG time", "threads": 2}
QUADRATURE = field("quadrature", "seconds", **MIG)
ERROR = {"group": "example", "what": "MIG error", "threads": 2}
LARGE = 65_536
NORMAL = "in units of Independent(Normal)"

TARGETS = (
    Target(f"log_prob, {SMALL}, N = 2048, {NORMAL}", 2.0, log_prob(FORWARD, 2048)),
    Target("... and backward in z", 2.0, log_prob(IN_VALUE, 2048)),
    Target("... and backward in z and exponents", 2.0, log_prob(IN_BOTH, 2048)),
    Target(f"log_prob, {SMALL}, N = 65,536", 1.8, log_prob(FORWARD, LARGE)),
    Target("... and backward in z", 2.0, log_prob(IN_VALUE, LARGE)),
    Target(
        f"log_prob and backward in z and exponents, {SMALL}, N = 1,000,000",
        1.0,
        log_prob(IN_BOTH, 1_000_000),
    ),
    Target(f"log_prob, {RAGGED}, N = 65,536", 2.2, log_prob(FORWARD, LARGE, RAGGED)),
    Target("... and backward in z", 2.5, log_prob(IN_VALUE, LARGE, RAGGED)),
    Target(f"log_prob, {SQUARE}, N = 2048", 2.0, log_prob(FORWARD, 2048, SQUARE)),
    Target("lead over the plain recursion in torch, least", 2.0, least_lead(), at_least=True),
    Target("... of 501 nodes", 5.0, least_lead(WIDE), at_least=True),
    Target(
        f"peak memory of log_prob and backward in z, {SMALL}, N = 1,000,000",
        2.1,
        statistic(OURS, "value", quantity="peak memory", N=1_000_000, layout=SMALL, mode=IN_VALUE),
        "sizes of z",
    ),
    Target(f"kernels of log_prob, {SMALL}", 20, kernels(FORWARD), ""),
    Target("... and backward in z", 40, kernels(IN_VALUE), ""),
    Target("kernels of 501 nodes over those of 6", 1.0, wide_over_small),
    Target(
        "time per number of 501 nodes, n = 2000, over that of n = 256, N = 65,536",
        2.0,
        wide_per_number,
    ),
    Target(
        f"sample, {SMALL}, N = 65,536, in units of Gamma(1/p).sample of that shape",
        0.40,
        statistic(OURS, "ratio", group="sample", layout=SMALL, N=LARGE),
    ),
    Target("time grows as N to the power", 1.1, slope("N"), ""),
    Target("time grows as n to the power", 1.1, slope("n"), ""),
    Target("a level of a deep tree (8 to 32) over one of a shallow (2 to 8)", 1.5, deep_level),
    Target("cases that torch.compile(fullgraph=True) refuses", 0, graph_breaks, ""),
    Target("compiled against eager, largest relative difference", 1e-5, worst_difference, ""),
    Target("training step with ISA over one with the analytic KL", 1.02, training("ISA")),
    Target("... with learned p", 1.04, training("ISA, learned p")),
    Target("training step of the example over the plainest loop", 0.85, training_lead),
    Target("unpacking a batch, of a training step", 2.0, unpacking, "%"),
    Target(
        "import lpnested, after torch",
        30.0,
        statistic("lpnested, after torch", "seconds", 1e3, group="import", malloc=None),
        "ms",
    ),
    Target(
        "drawing dSprites, one core",
        3.0,
        statistic("drawing", "seconds", group="example"),
        "s",
    ),
    Target("MIG of all 737,280 images, two cores", 90.0, QUADRATURE, "s"),
    Target(
        "... faster than sampling (10,000 samples, its time extrapolated)",
        100.0,
        quotient(field("sampled", "seconds_extrapolated", **MIG), QUADRATURE),
        at_least=True,
    ),
    Target(
        "... its error over that of sampling (extrapolated to 10,000 samples)",
        1.0,
        quotient(
            field("quadrature", "error", **ERROR), field("sampled", "error_extrapolated", **ERROR)
        ),
    ),
)
