"""A sweep as one HTML file: figures, tables and settings, without scripts or network access."""

import base64
import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from claims import statistics, verdicts
from claims.dip import dip_p
from claims.questions import arms, betas, planned, scores
from claims.verdicts import HEAD, RULE, cells, number, p_text
from plots.factors import representative
from running.files import write_text
from sweeps.rows import Row

STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --back: #fff; --soft: #f3f5f7; --line: #d5dae0;
  --dim: #59636e; --good: #12683a; --bad: #a02a20; --warn: #7a4b00; --warnback: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --text: #dfe4ea; --back: #14181d; --soft: #1d232a;
  --line: #37404a; --dim: #a3adb8; --good: #6fce9a; --bad: #ff9b8f; --warn: #ffd48a;
  --warnback: #3a2c0f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 82rem; color: var(--text);
  background: var(--back); font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; }
p, li { max-width: 46rem; } .dim { color: var(--dim); }
.warning { color: var(--warn); background: var(--warnback); padding: .6rem .9rem;
  border-left: 4px solid var(--warn); font-weight: 600; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
.scroll::-webkit-scrollbar { height: 10px; }
.scroll::-webkit-scrollbar-thumb { background: var(--dim); border-radius: 5px; }
table { border-collapse: collapse; font-size: .84rem; min-width: 50%; overflow-wrap: normal; }
th, td { padding: .32rem .55rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th { background: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; }
tr:last-child td { border-bottom: 0; }
.reproduced { color: var(--good); font-weight: 600; }
.not { color: var(--bad); font-weight: 600; } .diverged td { color: var(--bad); }
figure { margin: 1rem 0 2rem; }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; display: block; }
figcaption { color: var(--dim); font-size: .9rem; margin-top: .3rem; }
summary { cursor: pointer; padding: .3rem 0; font-weight: 600; }
dl { display: grid; grid-template-columns: minmax(8rem, 14rem) 1fr; gap: .15rem 1rem; }
dt { color: var(--dim); } dd { margin: 0; }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""


def table(head: Sequence[str], body: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Format a scrollable table; each row has its CSS class and its cells as text."""
    lines, body = [], list(body)
    for kind, row in body:
        cells = "".join(f"<td{right(text)}>{mark(text)}</td>" for text in row)
        lines.append(f'<tr class="{kind}">{cells}</tr>')
    first = body[0][1] if body else head
    top = "".join(
        f"<th{right(x)}>{escape(name)}</th>" for name, x in zip(head, first, strict=True)
    )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead>\n<tbody>'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def right(text: str) -> str:
    """HTML attribute that aligns numbers to the right."""
    digits = text.strip("<−+– ").replace(".", "")
    return ' class="number"' if digits.isdigit() or text == "–" else ""


def mark(text: str) -> str:
    """Escape text, and colour verdicts."""
    kind = "reproduced" if text.startswith("reproduced") else "not"
    verdict = kind == "reproduced" or text.endswith(" excluded")
    return f'<span class="{kind}">{escape(text)}</span>' if verdict else escape(text)


def counts(rows: Sequence[Row]) -> str:
    """Table of done, diverged and missing runs of each arm and beta."""
    status = Counter((row["arm"], float(row["beta"]), row["status"]) for row in rows)
    wanted = Counter((arm, beta) for arm, beta, _ in planned(rows))
    body = []
    for arm in dict.fromkeys([*arms(rows), *sorted({arm for arm, _ in wanted})]):
        for beta in sorted(beta for name, beta in wanted if name == arm):
            done, lost = (status[arm, beta, kind] for kind in ("done", "diverged"))
            missing = wanted[arm, beta] - done - lost
            kind = "diverged" if lost else ""
            body.append((kind, [arm, f"{beta:g}", str(done), str(lost), str(missing)]))
    return table(["arm", "beta", "done", "diverged", "missing"], body)


def summaries(rows: Sequence[Row]) -> str:
    """Table of the MIG and log p(x|z) of each arm and beta, with its representative run."""
    body = []
    for arm in arms(rows):
        for beta in betas(rows, arm):
            found = scores(rows, arm, beta, "mig")
            s, dip = statistics.summary(list(found.values())), dip_p(list(found.values()))
            log_px = statistics.summary(list(scores(rows, arm, beta, "log_px").values()))
            body.append(
                (
                    "",
                    [
                        *(arm, f"{beta:g}", str(s.n)),
                        *(number(x) for x in (s.mean, s.median, s.sd, s.min, s.q1, s.q3, s.max)),
                        *(p_text(dip), number(log_px.mean, 2), number(log_px.sd, 2)),
                        representative_seed(rows, arm, beta),
                    ],
                )
            )
    head = ["arm", "beta", "runs", "MIG, mean", "median", "sd", "min", "q1", "q3", "max"]
    head += ["p of one mode", "log p(x|z), mean", "sd", "representative seed"]
    return table(head, body)


def representative_seed(rows: Sequence[Row], arm: str, beta: float) -> str:
    """Seed of the representative run of an arm, by appendix A.5."""
    here = [row for row in rows if (row["arm"], float(row["beta"])) == (arm, beta)]
    try:
        return str(representative(here)["seed"])
    except ValueError:
        return "–"


def all_runs(rows: Sequence[Row]) -> str:
    """Table of every run with all of its numbers."""
    hidden = {"experiment", "rung", "data", "arm", "beta", "seed", "status"}
    scalar = (int, float)
    keys = dict.fromkeys(k for row in rows for k, x in row.items() if isinstance(x, scalar))
    keys = [key for key in keys if key not in hidden]
    ordered = sorted(rows, key=lambda row: (row["arm"], float(row["beta"]), row["seed"]))
    body = [
        (
            row["status"],
            [row["arm"], f"{row['beta']:g}", str(row["seed"]), row["status"]]
            + [shown(row.get(key)) for key in keys],
        )
        for row in ordered
    ]
    return table(["arm", "beta", "seed", "status", *keys], body)


def shown(value: Any) -> str:
    """Format integers in full, and floats to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return "–" if value is None else str(value)


def settings(rows: Sequence[Row]) -> str:
    """List the settings of the runs, those in common first."""
    configs = [row["config"] for row in rows if row.get("config")]
    if not configs:
        return '<p class="dim">Published tables omit settings: see sweeps/experiments.py.</p>'
    found = {
        key: dict.fromkeys(json.dumps(config.get(key)) for config in configs) for key in configs[0]
    }
    lines = []
    for key in sorted(found, key=lambda key: (len(found[key]) > 1, key)):
        values, several = list(found[key]), len(found[key]) > 1
        text = ", ".join(values[:12]) + (f", … ({len(values)} values)" if values[12:] else "")
        name = f"{key} (differs)" if several else key
        lines.append(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>")
    return f"<dl>{''.join(lines)}</dl>"


def versions(rows: Sequence[Row]) -> str:
    """List the versions of the runs, if recorded, and of the software that made this page."""
    trained = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        for row in rows
        if row.get("versions")
    )
    drawn = f"python {platform.python_version()}, numpy {np.__version__}"
    drawn += f", matplotlib {matplotlib.__version__}"
    text = "; ".join(trained) or "not recorded in a published table"
    return f"<dl><dt>runs</dt><dd>{escape(text)}</dd><dt>this page</dt><dd>{drawn}</dd></dl>"


def render(rows: Sequence[Row], pictures: dict[str, bytes]) -> str:
    """Render the page.

    Args:
        rows: Rows of one experiment.
        pictures: PNG bytes of the figures, by caption.
    """
    name = rows[0]["experiment"]
    data = ", ".join(sorted({row["data"] for row in rows}))
    rungs = ", ".join(sorted({row["rung"] for row in rows}))
    status = Counter(row["status"] for row in rows)
    missing = len(planned(rows)) - len(rows)
    stand_in = "stand-in" in data.lower()
    warnings = ["STAND-IN DATA: not the paper's images."] if stand_in else []
    if rungs != "paper":
        warnings.append(f"The {rungs} rung: smaller than the paper's own configuration.")
    if status["diverged"]:
        warnings.append(f"Runs that diverged and have no scores: {status['diverged']}.")
    if missing:
        warnings.append(f"INTERIM: {missing} runs are missing; no verdict is final without them.")
    found = verdicts.judge(rows)
    judged = table(HEAD, (("", cells(c)) for c in found))
    tally = Counter(c.verdict for c in found)
    counted = ", ".join(f"{tally[word]} {word}" for word in tally) or "nothing to compare"
    figures = "".join(figure(caption, data) for caption, data in pictures.items())
    title = f"{'STAND-IN: ' if stand_in else ''}ISA-VAE, {name}"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class="dim">Data: {escape(data)}. Rung: {escape(rungs)}. Runs: {status["done"]} done,
{status["diverged"]} diverged, {missing} missing.</p>
{"".join(f'<p class="warning">{escape(text)}</p>' for text in warnings)}
<h2>Verdicts</h2><p>{counted}.</p>{judged if found else ""}<p class="dim">{RULE}</p>
<h2>Figures</h2>{figures}
<h2>Summary of each arm</h2>{summaries(rows)}
<p class="dim">p of one mode: Hartigan's dip test, small if the runs fall into groups.
Representative: the run nearest to the mean of the upper quarter by MIG.</p>
<h2>Runs</h2>{counts(rows)}
<details><summary>All {len(rows)} runs</summary>{all_runs(rows)}</details>
<h2>Settings</h2>{settings(rows)}
<h2>Versions</h2>{versions(rows)}
</body></html>
"""


def figure(caption: str, data: bytes) -> str:
    """Embed a picture in the page."""
    source = base64.b64encode(data).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def write_page(rows: Sequence[Row], pictures: dict[str, bytes], path: Path) -> None:
    """Write the page to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(render(rows, pictures), path)
