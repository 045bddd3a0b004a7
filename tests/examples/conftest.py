"""What the tests of the example share."""

import numpy as np
import pytest

from data.dsprites_drawn import all_classes, render_dsprites


@pytest.fixture(scope="session")
def npz(tmp_path_factory):
    """A part of dSprites small enough to train on in a second."""
    classes = all_classes()[::1499]
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez_compressed(path, imgs=render_dsprites(classes), latents_classes=classes)
    return path
