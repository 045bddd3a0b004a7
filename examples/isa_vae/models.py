"""The MLP autoencoder of the paper for 64 x 64 binary images, with its width as a parameter."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import embedding_bag

PIXELS = 64 * 64
Activation = Literal["tanh", "relu"]


class SparseLinear(nn.Linear):
    """A linear layer for rows that are mostly zero: it adds up the weights of the others.

    Parameters and results are those of nn.Linear, up to rounding. Only the storage of the weight
    differs, transposed, so that what belongs to one input lies side by side. Few
    pixels of dSprites are white, which makes the layer faster on a CPU.
    """

    DENSE = 0.15  # the share of nonzeros from which a matrix product is faster

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.weight = nn.Parameter(self.weight.detach().t().contiguous().t())

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.requires_grad or x.dim() != 2:
            return super().forward(x)
        rows, columns = x.nonzero(as_tuple=True)
        if len(rows) > self.DENSE * x.numel():
            return super().forward(x)
        first = torch.searchsorted(rows, torch.arange(len(x)))
        bags = embedding_bag(
            columns, self.weight.t(), first, mode="sum", per_sample_weights=x[rows, columns]
        )
        return bags + self.bias


class Encoder(nn.Module):
    """q(z | x): pixels - hidden - hidden - (mean, log sigma), with ReLU."""

    def __init__(self, latents: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            SparseLinear(PIXELS, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * latents),
        )

    def forward(self, x: Tensor) -> Normal:
        """(N, 4096) -> a factorised normal over (N, latents)."""
        mean, log_std = self.layers(x).chunk(2, dim=-1)
        return Normal(mean, log_std.exp(), validate_args=False)


class Decoder(nn.Module):
    """Logits of p(x | z): latents - hidden - hidden - hidden - pixels."""

    def __init__(self, latents: int, hidden: int, activation: Activation = "tanh") -> None:
        super().__init__()
        act = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]
        self.layers = nn.Sequential(
            nn.Linear(latents, hidden),
            act(),
            nn.Linear(hidden, hidden),
            act(),
            nn.Linear(hidden, hidden),
            act(),
            nn.Linear(hidden, PIXELS),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(*batch, latents) -> logits of the pixels, (*batch, 4096)."""
        return self.layers(z)


class VAE(nn.Module):
    """Encoder and decoder; the prior is a distribution and no part of it."""

    def __init__(self, latents: int, hidden: int, activation: Activation = "tanh") -> None:
        super().__init__()
        self.encoder = Encoder(latents, hidden)
        self.decoder = Decoder(latents, hidden, activation)
