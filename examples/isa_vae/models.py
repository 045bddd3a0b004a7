"""The paper's autoencoders and priors, and the discriminator of FactorVAE."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import embedding_bag

from config import Config
from lpnested import ISA
from lpnested.nn import Learnable

PIXELS = 64 * 64
Activation = Literal["tanh", "relu"]


class SparseLinear(nn.Linear):
    """A linear layer for mostly-zero inputs: it sums the weights of the nonzero entries.

    Parameters and results equal those of nn.Linear, up to rounding. Only the memory layout of the
    weight differs: it is transposed, so that the weights of one input are contiguous. Few pixels
    of dSprites are white, which makes this layer faster on a CPU.
    """

    DENSE = 0.15  # fraction of nonzeros above which a matrix product is faster

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


def convolution(
    channels: int, filters: int, size: int, stride: int, padding: int
) -> nn.Sequential:
    """Build a hidden layer of the encoder."""
    layer = nn.Conv2d(channels, filters, size, stride, padding)
    return nn.Sequential(layer, nn.BatchNorm2d(filters), nn.ReLU())


def deconvolution(
    channels: int, filters: int, size: int, stride: int = 1, padding: int = 0
) -> nn.Sequential:
    """Build a hidden layer of the decoder."""
    layer = nn.ConvTranspose2d(channels, filters, size, stride, padding)
    return nn.Sequential(layer, nn.BatchNorm2d(filters), nn.ReLU())


class ConvEncoder(nn.Module):
    """q(z | x) of 64 x 64 images by four strided convolutions, as in the paper for faces."""

    def __init__(self, latents: int, channels: int) -> None:
        super().__init__()
        self.shape = (channels, 64, 64)
        self.layers = nn.Sequential(
            convolution(channels, 32, 4, 2, 1),
            convolution(32, 32, 4, 2, 1),
            convolution(32, 64, 4, 2, 1),
            convolution(64, 64, 4, 2, 1),
            convolution(64, 512, 4, 1, 0),
            nn.Conv2d(512, 2 * latents, 1),
        )

    def forward(self, x: Tensor) -> Normal:
        """(N, channels 64 64) -> a factorised normal over (N, latents)."""
        images = x.unflatten(-1, self.shape).contiguous(memory_format=torch.channels_last)
        mean, log_std = self.layers(images).flatten(1).chunk(2, dim=-1)
        return Normal(mean, log_std.exp(), validate_args=False)


class ConvDecoder(nn.Module):
    """Logits of p(x | z) by transposed convolutions: the encoder in reverse."""

    def __init__(self, latents: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            deconvolution(latents, 512, 1),
            deconvolution(512, 64, 4),
            deconvolution(64, 64, 4, 2, 1),
            deconvolution(64, 32, 4, 2, 1),
            deconvolution(32, 32, 4, 2, 1),
            nn.ConvTranspose2d(32, channels, 4, 2, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(*batch, latents) -> logits of the pixels, (*batch, channels 64 64)."""
        images = self.layers(z.reshape(-1, z.shape[-1], 1, 1))
        return images.reshape(*z.shape[:-1], -1)


class VAE(nn.Module):
    """Encoder and decoder; the prior is a separate distribution.

    Args:
        latents: Number of latents.
        hidden: Hidden width of the MLP.
        activation: Activation of the MLP decoder.
        model: ``"mlp"`` (one channel only) or ``"conv"``.
        channels: Channels of the 64 x 64 images.
    """

    def __init__(
        self,
        latents: int,
        hidden: int,
        activation: Activation = "tanh",
        model: Literal["mlp", "conv"] = "mlp",
        channels: int = 1,
    ) -> None:
        super().__init__()
        if model == "mlp":
            self.encoder: nn.Module = Encoder(latents, hidden)
            self.decoder: nn.Module = Decoder(latents, hidden, activation)
        else:
            self.encoder = ConvEncoder(latents, channels)
            self.decoder = ConvDecoder(latents, channels)
            self.to(memory_format=torch.channels_last)


class Discriminator(nn.Sequential):
    """FactorVAE discriminator: six hidden layers of 1000 leaky ReLUs; logits (joint, product)."""

    def __init__(self, latents: int, hidden: int = 1000, depth: int = 6) -> None:
        widths = [latents] + [hidden] * depth
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Linear(hidden, 2))


class Fixed(nn.Module):
    """A prior without parameters: returns the same distribution on every call."""

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        self.distribution = distribution

    def forward(self) -> Distribution:
        return self.distribution


def make_prior(config: Config) -> nn.Module:
    """Create the prior p(z) on the run's device, with event shape (latents,)."""
    device = torch.device(config.device)
    unit = config.scale == "unit-variance"
    if config.prior == "normal":
        loc = torch.zeros(config.latents, device=device)
        scale = torch.full_like(loc, 1.0 if unit else float(config.scale))
        return Fixed(Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False))
    kind = ISA.unit_variance if unit else ISA
    p = config.p * len(config.sizes) if len(config.p) == 1 else config.p
    values = {"p0": torch.tensor(config.p0, device=device), "p": torch.tensor(p, device=device)}
    if not unit:
        values["scale"] = torch.tensor(float(config.scale), device=device)
    if config.learn_exponents:
        prior = Learnable(kind, config.sizes, learn=("p",), validate_args=False, **values)
        return prior.to(device)
    return Fixed(kind(config.sizes, **values, validate_args=False))


def exponents(prior: Distribution) -> dict[str, float]:
    """The exponents of an ISA prior as p0, p1, ..., pK; empty for a normal prior."""
    if not isinstance(prior, ISA):
        return {}
    values = torch.cat([prior.p0.detach().reshape(1), prior.p.detach().reshape(-1)]).tolist()
    return {f"p{k}": value for k, value in enumerate(values)}
