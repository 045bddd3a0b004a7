"""The tables and sentences, made from the results alone."""

from collections.abc import Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]


def number(value: float, digits: int, sign: str = "") -> str:
    """Format a number with a proper minus sign."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def with_interval(found: Mapping[str, float], digits: int, sign: str = "") -> str:
    """Format a mean and its 95 % interval."""
    low, high = number(found["low"], digits, sign), number(found["high"], digits, sign)
    return f"{number(found['mean'], digits, sign)} [{low}, {high}]"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def model_table(results: Results) -> str:
    """The models in the expected order, each compared with the one above it."""
    head = ("model", "bits per component [95 %]", "gain over the line above [95 %]", "order")
    head += ("exponents: root; below",)
    lines = []
    for line, step in zip(results["models"], [None, *results["steps"]], strict=True):
        gain = ["", ""] if step is None else [with_interval(step["gain"], 4, "+"), step["outcome"]]
        lines.append([line["title"], with_interval(line["bits"], 3), *gain, exponents(line)])
    return markdown(head, lines)


def exponents(line: Mapping[str, Any]) -> str:
    """Format the root's exponent and the range of those below it."""
    if line["root_exponent"] is None:
        return ""
    root = number(line["root_exponent"], 2)
    if line["lowest_exponent"] is None:
        return root
    low, high = (number(line[f"{end}_exponent"], 2) for end in ("lowest", "highest"))
    return f"{root}; {low} to {high}"


def redundancy_table(results: Results) -> str:
    """Factorial codes of the sources before and after the factorization."""
    head = ("factorized by", "factorial code: before", "after", "removed [95 %]")
    head += ("the density itself", "mean abs. correlation of log sizes: before", "after")
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
    """Both tables, with the data that they are based on."""
    config, data = results["config"], results["data"]
    return f"""{model_table(results)}

Patches of {config["size"]} x {config["size"]} pixels, {data["components"]} components; fitted to \
{config["train"]} patches from {data["tiles_fitted"]} tiles, scored on {config["test"]} from \
{data["tiles_held_out"]} others. Seed {config["seed"]}.

{redundancy_table(results)}

Bits per component: codes fitted to {config["factorized"]} patches, everything scored on \
{config["factorized"]} held-out ones."""


def words(results: Results) -> str:
    """The results, in sentences."""
    models = {line["model"]: line for line in results["models"]}
    found = {line["model"]: line for line in results["redundancy"]}
    cost = {name: number(line["bits"]["mean"], 3) for name, line in models.items()}
    exceptions = [step for step in results["steps"] if step["outcome"] != "as expected"]
    deep, last = found["nested-deep"], results["steps"][-3:]
    total = len(results["steps"])
    lines = [
        f"- **The order**: {total - len(exceptions)} of {total} steps turned out as expected"
        + "".join(f"; {describe(step)}" for step in exceptions)
        + ".",
        f"- **The cost** of the held-out tiles, in bits per component: Gaussian "
        f"{cost['gaussian']}, best ICA {cost['ica']}, ISA {cost['isa']}, L2-spherical "
        f"{cost['l2-spherical']}, Lp-spherical {cost['lp-spherical']}, and Lp-nested "
        f"{cost['nested-pairs']} (pairs), {cost['nested-quadruples']} (quadruples) and "
        f"{cost['nested-deep']} (deep tree).",
        "- **What nesting adds**, step by step, with paired 95 % intervals: "
        + "; ".join(
            f"{models[step['better']]['title']} {with_interval(step['gain'], 4, '+')}"
            for step in last
        )
        + ".",
        "- **Redundancy**: a factorial code of the deep tree's sources costs "
        f"{number(deep['before']['mean'], 3)} bits per component before nested radial "
        f"factorization and {number(deep['after']['mean'], 3)} after it, a saving of "
        f"{with_interval(deep['removed'], 3)}; the mean absolute correlation of log sizes "
        f"falls from {number(deep['size_correlation_before'], 2)} to "
        f"{number(deep['size_correlation_after'], 2)}.",
    ]
    return "\n".join(lines)


def describe(step: Mapping[str, Any]) -> str:
    """A step that did not turn out as expected."""
    verb = "goes" if step["outcome"] == "the other way" else "is"
    return (
        f"the step from {step['worse']} to {step['better']} {verb} {step['outcome']}, "
        f"{with_interval(step['gain'], 4, '+')}"
    )
