"""The log-likelihood of a model, its gradient and its information, summed over the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lpnested.estimation.data import Data
from lpnested.estimation.model import Model
from lpnested.estimation.radial import best_radius, log_radius

__all__ = ["Likelihood"]

_EXPONENTS = {"exponents", "p0", "p"}
_LOWEST = math.log(1e-3)  # of the logarithm of an exponent
_STEP = 5e-4  # of differences of a gradient: near the fifth root of eps
_BLOCK = 1 << 16  # rows whose scores are in memory at a time


class Likelihood:
    """Minus the log-likelihood per observation, as a function of the model's vector."""

    def __init__(self, model: Model, data: Data) -> None:
        self.model, self.data = model, data
        self.profiled = self._profiled()
        self.outer = [k for k in model.free if k not in self.profiled]
        names = [name.split("[")[0].split(".")[-1] for name in model.names]
        self.exponents = [k for k in model.free if names[k] in _EXPONENTS]

    def _profiled(self) -> list[int]:
        """The places of parameters with a closed form given the others, if all are learned."""
        radii = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64, device=self.data.device)
        radii = radii.reshape(-1, *[1] * len(self.data.batch)).expand(-1, *self.data.batch)
        best = best_radius(self.model(self.model.start), radii, torch.ones_like(radii))
        places = [self.model.places(name) for name in best]
        self._has_profile = bool(places) and all(places)
        return [k for place in places for k in place] if self._has_profile else []

    def has_vanished(self, vector: Tensor) -> Tensor:
        """Whether an exponent is 0, for all that matters, or a number is none, by data set."""
        low = (vector[..., self.exponents] < _LOWEST).any(-1)
        return low | ~vector.isfinite().all(-1)

    @torch.no_grad()
    def profile(self, vector: Tensor) -> Tensor:
        """The vector with the best radius for its exponents; as it is where there is none."""
        if not self._has_profile:
            return vector
        dist = self.model(vector)
        pairs = [(log_radius(dist, value), weights) for value, weights in self.data]
        log_r, weights = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        best = self.model.put(vector, best_radius(dist, log_r, weights))
        return torch.where(best.isfinite().all(-1, keepdim=True), best, vector)

    def __call__(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """The value, shape ``(*batch)``, and the gradient, shape ``(*batch, size)``."""
        vector = vector.detach().requires_grad_()
        loss, gradient = torch.zeros_like(self.data.total), torch.zeros_like(vector)
        for value, weights in self.data:
            part = -(weights * self.model(vector).log_prob(value)).sum(0)
            gradient += torch.autograd.grad(part.sum(), vector)[0]
            loss += part.detach()
        return loss / self.data.total, gradient / self.data.total.unsqueeze(-1)

    def information(self, vector: Tensor, places: Sequence[int]) -> Tensor:
        """The second derivative in these places, by fourth-order differences of the gradient."""
        rows = []
        for k in places:
            step = torch.zeros_like(vector)
            step[..., k] = _STEP
            near, far = (self(vector + j * step)[1] - self(vector - j * step)[1] for j in (1, 2))
            rows.append((8 * near - far)[..., places] / (12 * _STEP))
        information = torch.stack(rows, -2)
        return (information + information.mT) / 2

    def scores(self, vector: Tensor, places: Sequence[int]) -> Tensor:
        """The mean of the outer products of the gradients of single observations."""
        total = vector.new_zeros(*vector.shape[:-1], len(places), len(places))
        for chunk, chunk_weights in self.data:
            pairs = zip(chunk.split(_BLOCK), chunk_weights.split(_BLOCK), strict=True)
            for value, weights in pairs:
                each = vector.detach().expand(len(value), *vector.shape).clone().requires_grad_()
                density = self.model(each).log_prob(value)
                score = torch.autograd.grad(density.sum(), each)[0][..., places]
                weighted = weights.unsqueeze(-1) * score
                total += torch.einsum("n...i,n...j->...ij", weighted, score)
        return total / self.data.total[..., None, None]

    @torch.no_grad()
    def spread(self, vector: Tensor, loss: Tensor) -> Tensor:
        """The standard deviation of the log density of one observation, shape ``(*batch)``."""
        dist, square = self.model(vector), torch.zeros_like(loss)
        for value, weights in self.data:
            square += (weights * (dist.log_prob(value) + loss).square()).sum(0)
        return (square / self.data.total).sqrt()
