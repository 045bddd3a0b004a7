"""Common style of the figures of sweeps: colours and lines of the arms, and headings."""

from collections.abc import Sequence

from sweeps.rows import Row

COLORS = {
    "normal": "#5f6b76",
    "normal-0.495": "#a8794b",
    "isa-released": "#0072b2",
    "isa-unit": "#4ba3d4",
    "isa-4-4": "#d55e00",
    "isa-2.5-3": "#e69f00",
    "isa-learned": "#8a4fa3",
    "beta-vae": "#5f6b76",
    "beta-tcvae": "#a8794b",
    "isa-beta-vae": "#0072b2",
    "isa-beta-tcvae": "#d55e00",
    "factorvae": "#3f9b62",
    "isa-beta-vae-learned": "#4ba3d4",
    "isa-beta-tcvae-learned": "#8a4fa3",
}
NAMES = {"mig": "MIG", "log_px": "log p(x|z), nats", "kl": "KL, nats", "objective": "objective"}


def heading(rows: Sequence[Row], what: str) -> str:
    """Title of a figure, with the experiment, the data and any warnings."""
    labels = sorted({row["data"] for row in rows})
    warning = "STAND-IN DATA. " * any("stand-in" in label.lower() for label in labels)
    rungs = ", ".join(sorted({row["rung"] for row in rows}))
    diverged = sum(row["status"] == "diverged" for row in rows)
    lost = f"; {diverged} diverged (no score)" if diverged else ""
    runs = f"{len(rows)} runs{lost}"
    return f"{warning}{what}\n{rows[0]['experiment']}: {', '.join(labels)}; {rungs} rung; {runs}"


def color(arm: str) -> str:
    """Colour of an arm, the same in every figure."""
    return COLORS.get(arm, "#222222")


def lines(arm: str) -> str:
    """Line style of an arm: dashed for a normal prior."""
    return "-" if arm.startswith("isa") else "--"
