"""What mechanism.py writes: tables and JSON, whole or not at all, and the summary."""

from typing import Any

from mechanism_config import Config

NAME = "mechanism"


def rounded(content: Any) -> Any:
    """All floats in nested lists and dicts to six significant digits."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    return [rounded(value) for value in content] if isinstance(content, (list, tuple)) else content


def summary(results: dict[str, Any], config: Config, seconds: float) -> str:
    """The arms as a table, and where the files are."""
    tests = {line["arm"]: line for line in results["angle"]["priors"]}
    text = [f"\n{config.seeds} seeds, {config.steps} steps. Angle of the code in degrees"]
    text.append("(0: aligned, 45: diagonal, 22.5: chance), runs with two active units only\n")
    text.append("arm               force  counted  mean [95 %]          median   MIG    p (Holm)")
    for line in results["arms"]:
        head = (
            f"{line['arm']:15} {line['force_nats']:+7.3f}  {line['counted']:3d}/{line['runs']:<3d}"
        )
        if line["angle"] is None:
            text.append(head)
            continue
        (low, high), test = line["angle"]["mean_95"], tests.get(line["arm"])
        p = "" if test is None else f"{test['mann_whitney']:.2g} ({test['mann_whitney_holm']:.2g})"
        text.append(
            f"{head}  {line['angle']['mean']:4.1f} [{low:4.1f}, {high:4.1f}]"
            f"  {line['angle']['median']:10.1f}  {line['mig']['mean']:6.3f}  {p}"
        )
    if results["trend"] is not None:
        text.append(
            f"\nSpearman's correlation of force and angle {results['trend']['spearman']:.2f}, "
            f"p {results['trend']['permutation']:.2g} (below 0: a stronger force aligns)"
        )
    text.append(f"\n{seconds:.0f} s. Written to {config.out}:")
    text.append(f"  {NAME}.csv   every run\n  {NAME}.json  settings, intervals, tests")
    return "\n".join([*text, f"  {NAME}.png   angle and MIG of every run"])
