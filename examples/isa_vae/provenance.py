"""What made a number: the versions that are recorded beside it."""

import platform

import numpy as np
import torch

import lpnested


def versions() -> dict[str, str]:
    """Of everything that numbers depend on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "lpnested": lpnested.__version__,
    }
