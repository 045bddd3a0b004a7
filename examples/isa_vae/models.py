"""The MLP autoencoder of the paper for 64 x 64 binary images, with its width as a parameter."""

from typing import Literal

from torch import Tensor, nn
from torch.distributions import Normal

PIXELS = 64 * 64
Activation = Literal["tanh", "relu"]


class Encoder(nn.Module):
    """q(z | x): pixels - hidden - hidden - (mean, log sigma), with ReLU."""

    def __init__(self, latents: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(PIXELS, hidden),
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
