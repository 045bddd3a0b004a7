"""The rows of the tables: every model, and every step of the order."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densities.candidates import EXPECTED, FITS, TITLES
from densities.source_models import Nested
from densities.unmixing import Unmixing
from findings.tile_bootstrap import TileBootstrap

Array = NDArray[np.float64]
Row = dict[str, Any]


def exponent_columns(model: Unmixing | None) -> Row:
    """For nested models, the root's exponent and the range of those below it."""
    if model is None or not isinstance(model.sources, Nested):
        return {"root_exponent": None, "lowest_exponent": None, "highest_exponent": None}
    root, *below = model.sources.log_exponents.detach().exp().tolist()
    return {
        "root_exponent": root,
        "lowest_exponent": min(below, default=None),
        "highest_exponent": max(below, default=None),
    }


def model_rows(
    costs: Mapping[str, Array],
    fitted: Mapping[str, float],
    starts: Mapping[str, str],
    models: Mapping[str, Unmixing],
    bootstrap: TileBootstrap,
) -> list[Row]:
    """A row for each model, in the expected order."""
    return [
        {
            "model": name,
            "title": TITLES[name],
            "start": starts.get(name),
            "fits": sum(model == name for model, _ in FITS),
            "train_bits": fitted[name],
            "bits": bootstrap.estimate(costs[name]).to_json(),
            "gain_over_gaussian": bootstrap.estimate(costs["gaussian"] - costs[name]).to_json(),
            **exponent_columns(models.get(name)),
        }
        for name in EXPECTED
    ]


def outcome(difference: Mapping[str, float]) -> str:
    """What the interval of a difference says about the expected order."""
    if difference["low"] > 0:
        return "as expected"
    return "the other way" if difference["high"] < 0 else "undecided"


def steps(costs: Mapping[str, Array], bootstrap: TileBootstrap) -> list[Row]:
    """Each model against the one before it in the expected order, patch by patch."""
    lines = []
    for worse, better in pairwise(EXPECTED):
        difference = bootstrap.estimate(costs[worse] - costs[better]).to_json()
        line = {"worse": worse, "better": better, "gain": difference}
        lines.append(line | {"outcome": outcome(difference)})
    return lines


def flatten(line: Row) -> Row:
    """Flatten a row for a table: an interval becomes three columns."""
    row: Row = {}
    for key, value in line.items():
        if isinstance(value, dict):
            row |= {key: value["mean"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        else:
            row[key] = "" if value is None else value
    return row
