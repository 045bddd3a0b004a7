"""The results of gpu.py as Markdown, and the few lines that it prints."""

from collections.abc import Callable, Iterable
from typing import Any

from densities import FORWARD, IN_BOTH, IN_VALUE, OURS
from gpu_cases import CALLS, COMPILE, KERNELS, LARGEST_GRAPH, LAYOUTS, SAMPLE, TIME, WAYS
from tables import SKIPPED, Row, cell, duration, number, table

Results = dict[str, Any]
NAMES = {
    FORWARD: "log_prob",
    IN_VALUE: "log_prob, gradient in z",
    IN_BOTH: "log_prob, gradient in z and exponents",
    SAMPLE: "sample",
}


def markdown(results: Results) -> str:
    """The whole file."""
    rows = results["rows"]
    parts = [heading(results)]
    for title, text in (
        *((NAMES[call], times(rows, call)) for call in CALLS),
        ("Kernels of a call", kernels(rows)),
        ("Peak memory, in sizes of z", memory(rows)),
        ("Compiling", compiling(rows)),
        ("Errors", errors(results)),
        ("Left out", left_out(results)),
    ):
        if text:
            parts.append(f"## {title}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def heading(results: Results) -> str:
    """Where, when and how."""
    versions = results["machine"]["versions"]
    kind = ""
    if results["rehearsal"]:
        kind = (
            "**A rehearsal of the program: its times say nothing of a GPU, and where none is, "
            "what is called a graph is the plain call.** "
        )
    return (
        f"{kind}Measured on {card(results['card'])}, on {results['date']} in "
        f"{results['minutes']:.1f} minutes: Python {versions['python']}, torch "
        f"{versions['torch']}, lpnested {versions['lpnested']}; {results['machine']['cores']} "
        f"CPU cores ({results['machine']['cpu']}).\n\nfloat32, `validate_args=False`. Of each way "
        "of calling: the time of the reference, and that of lpnested in units of it, the median "
        "of ratios over interleaved rounds with its quartiles in brackets. The reference is "
        "called in the same way. A CUDA graph is replayed, so it has no cost of launching; there "
        f"is none beyond {LARGEST_GRAPH:,} numbers. Sampling is compiled for one N."
    )


def card(found: dict[str, Any] | None) -> str:
    """In words."""
    if found is None:
        return "a CPU alone"
    return (
        f"{found['name']} ({found['memory_gib']} GiB, compute capability {found['capability']}, "
        f"driver {found['driver'] or 'unknown'}, CUDA {found['cuda']})"
    )


def chosen(rows: Iterable[Row], **keys: Any) -> list[Row]:
    """Those with these keys."""
    return [row for row in rows if all(row.get(name) == value for name, value in keys.items())]


def reference_of(row: Row) -> str:
    """The other contender."""
    return next(name for name in (*row.get("contenders", {}), "") if name != OURS)


def places(rows: Iterable[Row]) -> list[tuple[str, int]]:
    """Layouts and numbers of rows, in order."""
    found = {(row["layout"], row["count"]) for row in rows}
    return sorted(found, key=lambda place: (LAYOUTS.index(place[0]), place[1]))


def times(rows: list[Row], call: str) -> str:
    """A line for each layout and N, two columns for each way."""
    rows = chosen(rows, call=call, quantity=TIME)
    reference = next((name for name in map(reference_of, rows) if name), "")
    lines = []
    for layout, count in places(rows):
        line = [layout, f"{count:,}"]
        for way in WAYS:
            line += pair(chosen(rows, layout=layout, count=count, way=way))
        lines.append(line)
    header = ["layout", "N"]
    for way in WAYS:
        header += [f"{way}: {reference}", "lpnested"]
    return table(header, lines)


def pair(rows: list[Row]) -> list[str]:
    """Of one row: seconds of the reference, ratio of ours."""
    if not rows:
        return [SKIPPED, SKIPPED]
    contenders = rows[0].get("contenders", {})
    other, mine = contenders.get(reference_of(rows[0])), contenders.get(OURS)
    if mine is None or other is None:
        return ["failed", "failed"]
    time = duration(other["seconds"]["median"]) if "seconds" in other else "failed"
    return [time, cell(mine) if "ratio" in mine or "error" in mine else SKIPPED]


def values(rows: Iterable[Row], text: Callable[[dict[str, Any]], str]) -> list[list[str]]:
    """Ours and the reference, for every row."""
    return [
        [
            *(row["layout"], f"{row['count']:,}", NAMES[row["call"]], row["way"]),
            *(
                text(row["contenders"].get(name, {"error": ""}))
                for name in (OURS, reference_of(row))
            ),
        ]
        for row in rows
        if row.get("contenders")
    ]


HEADER = ["layout", "N", "call", "way", "lpnested", "reference"]


def kernels(rows: list[Row]) -> str:
    """Counted by the profiler, or operations where that saw nothing."""

    def text(entry: dict[str, Any]) -> str:
        operations = " operations" if entry.get("by") == "operations" else ""
        return cell(entry, "value") + operations

    return table(HEADER, values(chosen(rows, quantity=KERNELS), text))


def memory(rows: list[Row]) -> str:
    """What a call allocates at most, its result included, at the largest N; of draws, in these."""
    largest: dict[tuple[str, ...], Row] = {}
    for row in sorted(chosen(rows, quantity=TIME), key=lambda row: row["count"]):
        if any("peak" in entry for entry in row.get("contenders", {}).values()):
            largest[row["layout"], row["call"], row["way"]] = row

    def text(entry: dict[str, Any]) -> str:
        return number(entry["peak"]) if "peak" in entry else "failed"

    return table(HEADER, values(largest.values(), text))


def compiling(rows: list[Row]) -> str:
    """Seconds of the first call, and what its numbers differ from those of eager ones."""
    rows = [row for row in chosen(rows, quantity=COMPILE) if row.get("contenders")]

    def text(entry: dict[str, Any]) -> str:
        return duration(entry["value"]) if "value" in entry else "failed"

    lines = values(rows, text)
    for line, row in zip(lines, rows, strict=True):
        line.append(number(row["difference"]) if "difference" in row else SKIPPED)
    return table([*HEADER, "largest relative difference from eager"], lines)


def errors(results: Results) -> str:
    """Whatever failed, with its message; ways that ended early first."""
    lines = list(results["failed"])
    for row in results["rows"]:
        where = f"{row['quantity']}, {row['way']}, {row['layout']}, N {row['count']:,}"
        found = {"": row} | row.get("contenders", {})
        for name, entry in found.items():
            if "error" in entry:
                who = f", {name}" if name else ""
                lines.append(f"{where}, {row['call']}{who}: {entry['error']}")
    return "\n".join(f"- `{line.replace('`', chr(39))}`" for line in lines)


def left_out(results: Results) -> str:
    """What there was no time for, and what no card has the memory for."""
    parts = []
    for why, cases in (
        (f"Not reached in {results['budget_minutes']:g} minutes:", results["left_out"]),
        ("Larger than a card holds:", results["too_large"]),
    ):
        if cases:
            parts.append("\n".join([why, "", *(f"- {case}" for case in cases)]))
    return "\n\n".join(parts)


def summary(results: Results) -> str:
    """The ratios of the first layout, and what is missing."""
    lines = [
        f"lpnested at {LAYOUTS[0]} on {card(results['card'])}, in units of the reference, "
        f"called in the same way ({results['minutes']:.1f} minutes):"
    ]
    for call in CALLS:
        rows = chosen(results["rows"], layout=LAYOUTS[0], call=call, quantity=TIME)
        for _, count in places(rows):
            found = [
                f"{way} {pair(chosen(rows, count=count, way=way))[1].split(' ')[0]}"
                for way in WAYS
            ]
            lines.append(f"  {NAMES[call]:38} N {count:>10,}   " + "   ".join(found))
    failed = len(errors(results).splitlines())
    lines.append(f"{failed} errors, {len(results['left_out'])} cases left out")
    return "\n".join(lines)
