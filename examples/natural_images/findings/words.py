"""Tables and sentences, from the results alone."""

from collections.abc import Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]


def number(value: float, digits: int, sign: str = "") -> str:
    """With a proper minus."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def with_interval(found: Mapping[str, float], digits: int, sign: str = "") -> str:
    """A mean and its 95 % interval."""
    low, high = number(found["low"], digits, sign), number(found["high"], digits, sign)
    return f"{number(found['mean'], digits, sign)} [{low}, {high}]"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def model_table(results: Results) -> str:
    """The models in the order that was expected, each against the one above it."""
    head = ("model", "bits per component [95 %]", "gain on the line above [95 %]", "the order is")
    head += ("exponents: root; below",)
    lines = []
    for line, step in zip(results["models"], [None, *results["steps"]], strict=True):
        gain = ["", ""] if step is None else [with_interval(step["gain"], 4, "+"), step["outcome"]]
        lines.append([line["title"], with_interval(line["bits"], 3), *gain, exponents(line)])
    return markdown(head, lines)


def exponents(line: Mapping[str, Any]) -> str:
    """Of the root, and the range of those below."""
    if line["root_exponent"] is None:
        return ""
    root = number(line["root_exponent"], 2)
    if line["lowest_exponent"] is None:
        return root
    low, high = (number(line[f"{end}_exponent"], 2) for end in ("lowest", "highest"))
    return f"{root}; {low} to {high}"


def redundancy_table(results: Results) -> str:
    """Factorial codes of the sources before and after the factorization."""
    head = ("factorized by", "factorial code before", "after", "removed [95 %]")
    head += ("the density itself", "mean corr of log sizes: before", "after")
    lines = [
        [
            line["title"],
            *(number(line[key]["mean"], 3) for key in ("before", "after")),
            with_interval(line["removed"], 3),
            number(line["density"]["mean"], 3),
            *(number(line[f"size_correlation_{when}"], 3) for when in ("before", "after")),
        ]
        for line in results["redundancy"]
    ]
    return markdown(head, lines)


def table(results: Results) -> str:
    """Both tables, with what they rest on."""
    config, data = results["config"], results["data"]
    return f"""{model_table(results)}

Patches of {config["size"]} x {config["size"]} pixels, {data["components"]} components; fitted to \
{config["train"]} patches of {data["tiles_fitted"]} tiles, measured on {config["test"]} of \
{data["tiles_held_out"]} others. Seed {config["seed"]}.

{redundancy_table(results)}

On {config["factorized"]} patches of either kind of tiles, in bits per component."""


def words(results: Results) -> str:
    """What came out, in sentences."""
    models = {line["model"]: line for line in results["models"]}
    found = {line["model"]: line for line in results["redundancy"]}
    cost = {name: number(line["bits"]["mean"], 3) for name, line in models.items()}
    wrong = [step for step in results["steps"] if step["outcome"] != "as expected"]
    deep, last = found["nested-deep"], results["steps"][-3:]
    total = len(results["steps"])
    lines = [
        f"- **The order**: {total - len(wrong)} of {total} steps came out as expected"
        + ("." if not wrong else ": " + "; ".join(map(exception, wrong)) + "."),
        f"- A Gaussian costs {cost['gaussian']} bits per component of the held-out tiles, the "
        f"best ICA {cost['ica']}, ISA {cost['isa']}, an L2-spherical density "
        f"{cost['l2-spherical']}, an Lp-spherical one {cost['lp-spherical']}, nested ones "
        f"{cost['nested-pairs']} (pairs), {cost['nested-quadruples']} (quadruples) and "
        f"{cost['nested-deep']} (deep tree).",
        "- **What nesting adds**, line by line, with paired 95 % intervals: "
        + "; ".join(
            f"{models[step['better']]['title']} {with_interval(step['gain'], 4, '+')}"
            for step in last
        )
        + ".",
        "- **Redundancy**: a factorial code of the deep tree's sources costs "
        f"{number(deep['before']['mean'], 3)} bits per component before its nested radial "
        f"factorization and {number(deep['after']['mean'], 3)} after, "
        f"{with_interval(deep['removed'], 3)} less; the mean absolute correlation of the "
        f"logarithms of sizes falls from {number(deep['size_correlation_before'], 2)} to "
        f"{number(deep['size_correlation_after'], 2)}.",
    ]
    return "\n".join(lines)


def exception(step: Mapping[str, Any]) -> str:
    """A step that did not come out as expected."""
    return (
        f"from {step['worse']} to {step['better']} it is {step['outcome']}, "
        f"{with_interval(step['gain'], 4, '+')}"
    )
