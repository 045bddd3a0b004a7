"""How well do Lp-nested distributions describe natural images?

`python examples/natural_images/images.py [--help]` fits a Gaussian, ICA, ISA, spherical and nested
densities, each preceded by a learned matrix, to whitened patches of two photographs. It scores
them on held-out tiles, and measures how much redundancy remains when they are factorized.
PROTOCOL.md records what was fixed before the run in `results/`; README.md describes its results.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Let waiting threads sleep: on a busy machine, spinning threads slow each other down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from densities.candidates import (
    FITS,
    TITLES,
    build_model,
    fit,
    gaussian_scores,
    initial_matrix,
    scores,
)
from densities.unmixing import Unmixing
from findings.kept import Row, load_fit, save_fit
from findings.published import summary, write_results
from findings.redundancy import FACTORIZED, Factorization, redundancy
from findings.rows_of_fits import model_rows, steps
from findings.tile_bootstrap import TileBootstrap
from images_config import Config, UsageError, parse
from photographs.split import Split, split

Array = NDArray[np.float64]


def load(config: Config) -> Split:
    """Whitened patches, determined by the settings."""
    totals = (config.train, config.test)
    try:
        return split(config.size, config.tile, config.shrink, totals, config.seed)
    except ValueError as error:
        raise UsageError(f"--train, --test: {error}") from error


def initial_weight(start: str, data: Split, config: Config, best: dict[str, Row]) -> Array:
    """The matrix of another model's best fit, or one that needs no model."""
    if start in best:
        weight: Array = best[start]["state"]["weight"].numpy()
        return weight
    return initial_matrix(start, data.x, config.seed)


def run_fit(name: str, data: Split, config: Config, weight: Array, bar: tqdm) -> Row:
    """Fit a model; returns what is saved of the fit."""
    begun = bar.n
    found = fit(name, weight, data.x, config.components, config.iterations, bar.update)
    bar.update(begun + config.iterations - bar.n)  # it may have converged before its last step
    return {
        "settings": config.fit_settings(),
        "state": found.model.state_dict(),
        "structure": found.structure,
        "train": found.train,
        "test": torch.as_tensor(scores(found.model, data.y)),
        "effort": {
            "iterations": found.effort.iterations,
            "evaluations": found.effort.evaluations,
        },
    }


def run_fits(config: Config, data: Split) -> tuple[list[Row], dict[str, Row]]:
    """Run or load all fits; returns their table, and the best fit of each model."""
    rows, best = list[Row](), dict[str, Row]()
    with tqdm(total=len(FITS) * config.iterations, unit="step") as bar:
        for name, start in FITS:
            bar.set_description(f"{name} from {start}")
            path = config.fits_folder / f"{name}-from-{start}.pt"
            content = load_fit(path, config.fit_settings())
            if content is None:
                weight = initial_weight(start, data, config, best)
                content = run_fit(name, data, config, weight, bar)
                save_fit(content, path)
            else:
                bar.update(config.iterations)
            costs = {
                "train_bits": float(data.bits(np.array(content["train"]))),
                "test_bits": float(data.bits(content["test"].numpy()).mean()),
            }
            head = {"model": name, "start": start}
            rows.append(head | costs | content["effort"] | {"seed": config.seed})
            if name not in best or content["train"] > best[name]["train"]:
                best[name] = content | {"start": start}
    return rows, best


def rebuild(name: str, content: Row, data: Split, config: Config) -> Unmixing:
    """Rebuild the model of a finished fit, in double precision."""
    rows, eye = torch.as_tensor(data.x[:2]), np.eye(data.x.shape[1])
    model = build_model(name, content["structure"], eye, rows, config.components)
    model.load_state_dict(content["state"])
    return model.double().requires_grad_(False)


def factorize_all(
    config: Config, data: Split, models: dict[str, Unmixing]
) -> tuple[list[Row], Factorization]:
    """The redundancy before and after factorization, for each model; the last model's sources."""
    generator = np.random.default_rng([config.seed, 2])
    x, chosen = (
        np.sort(generator.choice(len(rows), config.factorized, replace=False))
        for rows in (data.x, data.y)
    )
    tiles = np.unique(data.held_out.tile_index[chosen], return_inverse=True)[1]
    owners = data.held_out.photograph[chosen]
    bootstrap = TileBootstrap(tiles, owners, config.resamples, config.seed)
    lines = []
    for name in tqdm(FACTORIZED, desc="factorizing", unit="model"):
        line, found = redundancy(
            models[name], data.x[x], data.y[chosen], data.whitening, bootstrap
        )
        lines.append({"model": name, "title": TITLES[name], **line})
    return lines, found


def evaluate(
    config: Config, data: Split, best: dict[str, Row], models: dict[str, Unmixing]
) -> tuple[dict[str, Any], Factorization]:
    """All results for the models, and the sources of the last one."""
    tiles, owners = data.held_out.tile_index, data.held_out.photograph
    bootstrap = TileBootstrap(tiles, owners, config.resamples, config.seed)
    costs = {name: data.bits(content["test"].numpy()) for name, content in best.items()}
    costs["gaussian"] = data.bits(gaussian_scores(data.y))
    fitted = {name: float(data.bits(np.array(c["train"]))) for name, c in best.items()}
    fitted["gaussian"] = float(data.bits(gaussian_scores(data.x)).mean())
    starts = {name: content["start"] for name, content in best.items()}
    redundancies, sources = factorize_all(config, data, models)
    facts = {
        "components": data.x.shape[1],
        "tiles_fitted": int(data.fitted.tile_index.max()) + 1,
        "tiles_held_out": int(tiles.max()) + 1,
        "kurtosis": float((data.x**4).mean() - 3),
    }
    return {
        "config": config.to_json(),
        "data": facts,
        "models": model_rows(costs, fitted, starts, models, bootstrap),
        "steps": steps(costs, bootstrap),
        "redundancy": redundancies,
    }, sources


def run(config: Config) -> str:
    """Run everything, from the photographs to the summary."""
    began = time.monotonic()
    data = load(config)
    rows, best = run_fits(config, data)
    models = {name: rebuild(name, content, data, config) for name, content in best.items()}
    results, sources = evaluate(config, data, best, models)
    write_results(results, rows, models, sources, data.whitening, config.out)
    return summary(results, config.out, time.monotonic() - began)


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 success, 1 divergence, 2 usage error, 130 Ctrl-C."""
    config: Config | None = None
    try:
        config = parse(argv)
        torch.set_num_threads(config.threads)
        print(run(config))
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"error: {error}; finished fits are saved", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        folder: Path | str = config.fits_folder if config else "no folder yet"
        print(
            f"stopped; finished fits are in {folder}, and the same command resumes from there",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
