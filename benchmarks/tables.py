"""The results as Markdown: what was promised, then every case."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lookup import Measured, Row
from measure_scaling import AT
from targets import TARGETS, Target

SKIPPED = "-"
Results = dict[str, Any]


def markdown(results: Results) -> str:
    """The whole file."""
    parts = [heading(results), targets(results)]
    for title, section in SECTIONS:
        text = section(results["rows"])
        if text:
            parts.append(f"## {title}\n\n{text}")
    return "\n\n".join([*parts, omitted(results)]).rstrip() + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    rows = list(rows)
    if not rows:
        return ""
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *rows))


def number(value: float) -> str:
    """Three digits, without an exponent unless it is tiny."""
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{number(seconds * factor)} {unit}"
    return f"{number(seconds * 1e6)} µs"


def spread(statistic: dict[str, float], text: Callable[[float], str] = number) -> str:
    """Median and, in brackets, quartiles."""
    median, q1, q3 = (text(statistic[key]) for key in ("median", "q1", "q3"))
    return f"{median} [{q1}, {q3}]"


def heading(results: Results) -> str:
    """Where, when and how."""
    machine, versions = results["machine"], results["machine"]["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    gpu = machine["gpu"] or "no GPU"
    kind = " **Quick run: fewer cases, fewer rounds.**" if results["quick"] else ""
    stop = " **Stopped before its end.**" if not results["complete"] else ""
    load = " to ".join(str(found[0]) for found in results["load"] if found)
    return (
        f"Measured on {results['date']} in {results['minutes']:.0f} minutes.{kind}{stop} "
        f"{machine['cpu']}, {machine['instructions']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {gpu}; {machine['system']}, {machine['libc']}; {named}; "
        f"processes running: {load} (other work on the machine, if more than the threads in use)."
        "\n\nfloat32, `validate_args=False`. A ratio is the median over interleaved rounds, in "
        "brackets its quartiles. Unless a row says otherwise: one thread, "
        "`OMP_WAIT_POLICY=PASSIVE`, and malloc told to keep large temporaries."
    )


def targets(results: Results) -> str:
    """Promise, measured value, verdict."""
    lines = [target_line(target, target.measure(results["rows"])) for target in TARGETS]
    return "## Targets\n\n" + table(("", "measured", "target", ""), lines)


def target_line(target: Target, measured: Measured | None) -> list[str]:
    """One row."""
    unit = f" {target.unit}" if target.unit not in ("x", "") else ""
    limit = f"{'>=' if target.at_least else '<='} {number(target.limit)}{unit}"
    if measured is None:
        return [target.what, SKIPPED, limit, "not measured"]
    value = number(measured.value) + unit
    if measured.q1 is not None and measured.q3 is not None:
        value += f" [{number(measured.q1)}, {number(measured.q3)}]"
    return [target.what, value, limit, "met" if target.met(measured) else "**missed**"]


def conditions(row: Row) -> str:
    """What differs from one thread on a CPU with tuned malloc."""
    malloc = ["default malloc"] if row["malloc"] == "default" else []
    device = [row["device"]] if row["device"] != "cpu" else []
    return ", ".join([str(row["threads"]), *malloc, *device])


def cell(contender: dict[str, Any] | None, what: str = "ratio") -> str:
    """A contender in a row."""
    if contender is None:
        return SKIPPED
    if "error" in contender:
        return "failed"
    found = contender[what]
    return spread(found) if isinstance(found, dict) else number(found)


def contenders_of(rows: list[Row]) -> list[str]:
    """All names, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.get("contenders", {})))


def ratios(group: str, keys: Sequence[str]) -> Callable[[list[Row]], str]:
    """A table with a column for each contender; the reference in seconds."""

    def section(rows: list[Row]) -> str:
        rows = [row for row in rows if row["group"] == group]
        timed = [row for row in rows if row.get("rounds") and "reference" in row]
        names = contenders_of(timed)
        lines = []
        for row in timed:
            reference = row["reference"]
            row_keys = [f"{row[k]:,}" if isinstance(row[k], int) else row[k] for k in keys]
            values = [
                duration(row["contenders"][name]["seconds"]["median"])
                if name == reference
                else cell(row["contenders"].get(name))
                for name in names
            ]
            lines.append([*row_keys, conditions(row), *values])
        return "\n\n".join([table([*keys, "threads", *names], lines), *failures(rows)]).strip()

    return section


def failures(rows: list[Row]) -> list[str]:
    """Cases that could not be measured, in words."""
    return [
        f"Failed: {', '.join(str(row[k]) for k in ('layout', 'N', 'mode') if k in row)}: "
        f"`{row['error']}`"
        for row in rows
        if "error" in row
    ]


def values(quantity: str) -> Callable[[list[Row]], str]:
    """A table of counts."""

    def section(rows: list[Row]) -> str:
        rows = [r for r in rows if r.get("quantity") == quantity and "contenders" in r]
        names = contenders_of(rows)
        lines = [
            [r["layout"], f"{r['N']:,}", r["mode"]]
            + [cell(r["contenders"].get(name), "value") for name in names]
            for r in rows
        ]
        return table(["layout", "N", "mode", *names], lines)

    return section


def scaling(rows: list[Row]) -> str:
    """Time at every place of every curve."""
    lines = []
    for row in rows:
        if row["group"] == "scaling" and row.get("rounds"):
            for key, found in row["contenders"].items():
                name, place = key.split(AT)
                time = duration(found["seconds"]["median"]) if "seconds" in found else "failed"
                start = [f"{row['curve']} ({row['fixed']})", row["mode"]]
                lines.append([*start, name, f"{int(place):,}", time, cell(found)])
    return table(["curve", "mode", "", "at", "time", "of the first"], lines)


def compiled(rows: list[Row]) -> str:
    """How long compiling took, and how far its numbers are from eager ones."""
    lines = [
        [
            *(row["layout"], f"{row['N']:,}", row["mode"], conditions(row)),
            *(duration(row["compile_seconds"]), number(row["difference"])),
        ]
        for row in rows
        if "compile_seconds" in row
    ]
    header = ["layout", "N", "mode", "threads", "first call", "largest relative difference"]
    return table(header, lines)


def mig(rows: list[Row]) -> str:
    """Both estimators; what is extrapolated says so."""
    lines = []
    for row in rows:
        if row.get("what") == "MIG time" and "sampled" in row:
            measured = " and ".join(
                f"{samples} samples in {duration(t)}"
                for samples, t in row["sampled"]["measured"].items()
            )
            lines.append(
                f"All 737,280 images, 20 latents, two threads: quadrature "
                f"{duration(row['quadrature']['seconds'])}; sampling {measured}, which extended "
                f"linearly to 10,000 samples is "
                f"{duration(row['sampled']['seconds_extrapolated'])} (extrapolated)."
            )
        if row.get("what") == "MIG error" and "sampled" in row:
            exact, sampled = row["quadrature"], row["sampled"]
            lines.append(
                f"{row['images']:,} images, whose MIG is {row['mig']:.4f} on a grid four times "
                f"finer: quadrature is off by {number(exact['error'])} in "
                f"{duration(exact['seconds'])}; sampling with {sampled['samples']} samples by "
                f"{number(sampled['error'])} (root mean square of {sampled['runs']} runs) in "
                f"{duration(sampled['seconds'])}. With 10,000 samples its error would be "
                f"{number(sampled['error_extrapolated'])} (extrapolated by 1 / sqrt(samples))."
            )
    return "\n\n".join(lines)


def omitted(results: Results) -> str:
    """What is not there, and why."""
    return "\n\n".join(results["omitted"] + results["failed"])


LOG_PROB = ratios("log_prob", ("layout", "N", "mode"))
SECTIONS: tuple[tuple[str, Callable[[list[Row]], str]], ...] = (
    ("log_prob", LOG_PROB),
    ("Sampling", ratios("sample", ("layout", "N"))),
    ("torch.compile", ratios("compile", ("layout", "N", "mode"))),
    ("Compiling", compiled),
    ("Peak memory, in sizes of z", values("peak memory")),
    ("Kernels", values("kernels")),
    ("Scaling", scaling),
    ("A training step of the example", ratios("example", ("batch",))),
    ("MIG of the example", mig),
)
