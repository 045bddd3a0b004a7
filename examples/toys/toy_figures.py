"""Draw the figures of the toys: `python examples/toys/toy_figures.py [--help] [names...]`."""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

import draw_models
import draw_priors
from records import RESULTS, command, write_atomic

Name = Literal["figure1", "figure2", "figure3", "figure4", "b3", "b4", "b5", "force"]

FIGURES: dict[Name, tuple[str, Callable[[Path], Figure]]] = {
    "figure1": ("figure1_ica.png", draw_models.figure1),
    "figure2": ("figure2_contours.png", draw_priors.figure2),
    "figure3": ("figure3_priors.png", draw_priors.figure3),
    "figure4": ("figure4_trees.png", draw_priors.figure4),
    "b3": ("b3_rotation.png", draw_models.rotation),
    "b4": ("b4_pruning.png", draw_models.pruning),
    "b5": ("b5_beta.png", draw_models.beta),
    "force": ("force.png", draw_priors.force),
}


@dataclass(frozen=True)
class Config:
    """Draw figures 1 to 4 of the paper, the sweeps of appendix B, and the grid of forces.

    All but figures 2 and 4 are drawn from the results files.
    """

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Figures to draw; by default all."""
    results: Path = RESULTS
    """Folder of the results files; by default those committed to the repository."""
    out: Path = Path("runs/toys")
    """Output folder for the figures."""
    dpi: int = 100
    """Resolution in dots per inch."""


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write the figure with a palette of 256 colours, at a third of the size."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    plt.close(figure)
    picture = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(packed, format="png", optimize=True)
    write_atomic(packed.getvalue(), path)


def run(argv: Sequence[str]) -> str:
    """Parse the flags, draw the figures, and list the files."""
    config = tyro.cli(Config, args=argv)
    written = []
    for name in tqdm(config.names or list(FIGURES), desc="drawing", unit="figure"):
        file, draw = FIGURES[name]
        save(draw(config.results), config.out / file, config.dpi)
        written.append(f"  {file:22} {(draw.__doc__ or '').splitlines()[0]}")
    return "\n".join([f"Written to {config.out}:", *written])


if __name__ == "__main__":
    sys.exit(command(run, sys.argv[1:]))
