"""Results as Markdown and as a figure: targets met, targets missed and by how much, all rows."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from peers import MODES, NORMAL, OURS
from targets import column, targets
from timing import Row

Results = dict[str, Any]
TITLES = {
    "log_prob": "log_prob",
    "threads": "Two threads",
    "memory": "Peak memory",
    "sample": "Sampling",
    "constructor": "Constructors",
    "import": "Import",
    "example": "The example",
}
NOT_KEYS = {"group", "times", "values", "errors", "rounds", "reference"}


def markdown(results: Results) -> str:
    """Format the whole file."""
    found = verdicts(results)
    parts = [heading(results)]
    header = ["", "measured", "target"]
    if found["met"]:
        parts += ["## Met", table(header, found["met"])]
    if found["missed"]:
        parts += ["## Missed", table([*header, "by"], found["missed"])]
    if found["not measured"]:
        parts += ["Not measured: " + "; ".join(line[0] for line in found["not measured"]) + "."]
    for group, title in TITLES.items():
        tables = section([row for row in results["rows"] if row["group"] == group])
        parts += [f"## {title}", *tables] if tables else []
    return "\n\n".join(parts + results["failed"]) + "\n"


def heading(results: Results) -> str:
    """Describe the machine, the date and the settings."""
    machine, which = results["machine"], column(results["machine"])
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    quick = " **Quick run: fewer cases, fewer rounds.**" if results["quick"] else ""
    stopped = "" if results["complete"] else " **Stopped before its end.**"
    limits = "has no targets in units of the normal" if which is None else "has its own targets"
    return (
        f"Measured on {results['date']} in {results['minutes']:.0f} minutes.{quick}{stopped} "
        f"log_prob ran on the **{machine['backends']['cpu']}**, which {limits}. {machine['cpu']}, "
        f"{machine['cores']} cores, torch with {machine['capability']}; {versions}; processes "
        f"running at the start: {machine['load']}.\n\n"
        "One thread, float32 and `validate_args=False` unless a row says otherwise; malloc is set "
        "to keep large temporaries. Numbers are medians over interleaved rounds, with quartiles "
        "in brackets, relative to the contender that is given as a time. Times are CPU times, "
        "except for two threads. At 501 nodes no peer is compiled, which would take more than ten "
        "minutes."
    )


def verdicts(results: Results) -> dict[str, list[list[str]]]:
    """Return lines of the targets met, missed and not measured."""
    found: dict[str, list[list[str]]] = {"met": [], "missed": [], "not measured": []}
    for target in targets(column(results["machine"])):
        limit = f"{'>=' if target.at_least else '<='} {number(target.limit)} {target.unit}"
        measured = target.find(results["rows"])
        if measured is None:
            found["not measured"].append([target.what, limit.strip()])
            continue
        value, detail = measured
        line = [target.what, f"{number(value)} {detail}".strip(), limit.strip()]
        met = target.met(value)
        found["met" if met else "missed"].append(line if met else [*line, target.by(value)])
    return found


def summary(results: Results) -> str:
    """Summarise the targets met and missed, for a terminal."""
    found = verdicts(results)
    counts = ", ".join(f"{len(lines)} {name}" for name, lines in found.items())
    lines = [f"  met     {what}: {value} ({limit})" for what, value, limit in found["met"]]
    for what, value, limit, by in found["missed"]:
        lines.append(f"  MISSED  {what}: {value} ({limit}), by {by}")
    backend = results["machine"]["backends"]["cpu"]
    return "\n".join([f"log_prob ran on the {backend}. Targets: {counts}.", *lines])


def section(rows: list[Row]) -> list[str]:
    """Format the tables of a group, one per kind of row, followed by failures."""
    alike: dict[str, list[Row]] = {}
    for row in rows:
        alike.setdefault("|".join(row.get("values", ())), []).append(row)
    failed = [
        f"Failed: {', '.join(words(row))}, {name}: `{error}`"
        for row in rows
        for name, error in row.get("errors", {}).items()
    ]
    return [columns(each) for each in alike.values()] + failed


def columns(rows: list[Row]) -> str:
    """Format a table with a column for each key and each contender."""
    names = dict.fromkeys(name for row in rows for name in row.get("times", row.get("values")))
    keys = [key for key in rows[0] if key not in NOT_KEYS]
    return table((*keys, *names), [words(row) + [cell(row, n) for n in names] for row in rows])


def words(row: Row) -> list[str]:
    """Return what distinguishes a row from the others of its group."""
    found = [row[key] for key in row if key not in NOT_KEYS]
    return [f"{key:,}" if isinstance(key, int) else str(key) for key in found]


def cell(row: Row, name: str) -> str:
    """Format the reference in seconds, others relative to it, and untimed values unchanged."""
    if name in row.get("values", ()):
        return spread(row["values"][name])
    if name not in row["times"]:
        return "-"
    found = row["times"][name]
    return duration(found["seconds"][0]) if name == row["reference"] else spread(found["ratio"])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table with right-aligned numbers."""
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def number(value: float) -> str:
    """Format three digits, without an exponent unless the value is tiny."""
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """Format a duration in a suitable unit."""
    factor, unit = next(
        (each for each in ((1, "s"), (1e3, "ms")) if seconds * each[0] >= 1), (1e6, "µs")
    )
    return f"{number(seconds * factor)} {unit}"


def spread(found: float | Sequence[float]) -> str:
    """Format a number, or a median with quartiles in brackets."""
    if isinstance(found, int | float):
        return number(found)
    median, q1, q3 = map(number, found)
    return f"{median} [{q1}, {q3}]"


def draw(rows: list[Row], path: Path) -> None:
    """Draw a panel for each mode: the contenders on each case, relative to the normal."""
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(MODES), figsize=(12, 3.8), sharey=True, layout="constrained"
    )
    names = dict.fromkeys(name for row in rows for name in row["times"] if name != NORMAL)
    for ax, mode in zip(axes, MODES, strict=True):
        for name in names:
            there = [r for r in rows[::-1] if r["mode"] == mode and name in r["times"]]
            medians = [row["times"][name]["ratio"][0] for row in there]
            ax.plot(medians, [row["case"] for row in there], "oD"[name == OURS], label=name)
        ax.axvline(1, color="0.5", lw=0.8)
        ax.set(xscale="log", title=mode, xlabel=f"time / {NORMAL}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    figure.savefig(path, dpi=130)
    plt.close(figure)
