"""Removal of the mean grey, and whitening: fitted to some patches, applied to any."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Whitening:
    """Remove the mean grey of patches and map them to coordinates of unit covariance."""

    mean: Array  # (pixels,): mean of the patches without their mean grey
    matrix: Array  # (pixels - 1, pixels)
    log_det: float  # of the map, restricted to patches of zero mean grey

    def __call__(self, pixels: Array) -> Array:
        """Whitened coordinates, ``(N, pixels - 1)``."""
        return (pixels - self.mean) @ self.matrix.T


def without_mean_grey(pixels: int) -> Array:
    """An orthonormal basis of the patches of zero mean grey, ``(pixels - 1, pixels)``."""
    spanning = np.concatenate([np.ones((pixels, 1)), np.eye(pixels)[:, :-1]], 1)
    return np.linalg.qr(spanning)[0][:, 1:].T


def fit_whitening(pixels: Array) -> Whitening:
    """Principal components, each divided by its standard deviation."""
    basis = without_mean_grey(pixels.shape[1])
    inside = pixels @ basis.T
    variances, axes = np.linalg.eigh(np.cov(inside.T, bias=True))
    matrix = (axes / np.sqrt(variances)).T @ basis
    mean = basis.T @ inside.mean(0)
    return Whitening(mean, matrix, float(-0.5 * np.log(variances).sum()))


def bits(log_prob: Array, whitening: Whitening) -> Array:
    """Bits per component of patches, from the log densities of their whitened coordinates.

    They are differential, for grey levels of patches without their mean grey.
    """
    return -(log_prob + whitening.log_det) / (len(whitening.matrix) * math.log(2))
