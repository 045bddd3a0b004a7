"""Write the table of speeds in the README from the results: `python benchmarks/readme.py`."""

import json
from pathlib import Path
from typing import Any

from peers import MODES, NORMAL, OURS
from tables import number, table

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "benchmarks" / "results" / "results.json"
BEGIN, END = "<!-- speed: written by benchmarks/readme.py -->", "<!-- /speed -->"
CASES = (
    "5 x 4, N = 2048",
    "5 x 4, N = 65,536",
    "ragged 30, N = 65,536",
    "16 x 16, N = 2048",
    "500 x 4, N = 2048",
)


def speeds(results: dict[str, Any]) -> str:
    """The table, with a line that says where and how it was measured."""
    rows = {(row.get("case"), row.get("mode")): row for row in results["rows"]}
    lines = [
        [case, *(ratio(rows[case, mode], OURS) for mode in MODES), leads(rows, case)]
        for case in CASES
    ]
    head = ("`log_prob`, float32", *MODES, "naive code in torch")
    drawn = {row["N"]: row for row in results["rows"] if row["group"] == "sample"}
    sampled = ", ".join(f"{ratio(row, OURS)} at N = {size:,}" for size, row in drawn.items())
    machine = results["machine"]
    quick = " This was a quick run." if results["quick"] else ""
    return (
        f"Time in units of `{NORMAL}` on the same values (below 1 is faster than the normal):\n\n"
        f"{table(head, lines)}\n\n"
        f"`sample` takes {sampled}, in units of sampling `Gamma(1/p)`. Medians of interleaved "
        f"rounds on one thread of {machine['cpu']}, torch {machine['versions']['torch']}, "
        f"{machine['backends']['cpu']}; the last column is the best of the plain recursion and a "
        f"plain ISA, forward.{quick}"
    )


def ratio(row: dict[str, Any], name: str) -> str:
    """The median of a contender, in units of the reference."""
    return number(row["times"][name]["ratio"][0])


def leads(rows: dict[Any, dict[str, Any]], case: str) -> str:
    """The fastest plain code on a case, forward."""
    times = rows[case, MODES[0]]["times"]
    return number(min(times[k]["ratio"][0] for k in ("recursion", "naive ISA") if k in times))


def with_speeds(text: str, results: dict[str, Any]) -> str:
    """A text with the table between its marks replaced."""
    before, mark, rest = text.partition(BEGIN)
    after = rest.partition(END)
    if not mark or not after[1]:
        raise SystemExit(f"the README needs the lines {BEGIN} and {END}, once each")
    return f"{before}{BEGIN}\n{speeds(results)}\n{END}{after[2]}"


if __name__ == "__main__":
    made = with_speeds(README.read_text("utf-8"), json.loads(RESULTS.read_text("utf-8")))
    README.write_text(made, "utf-8")
    print(f"Written: the table of speeds in {README.name}")
