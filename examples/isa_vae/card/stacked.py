"""Several arms and seeds that train side by side as one model of few, large operations.

Arms of one seed share the images of a step, the noise of their codes, and a first layer that is
one wide matrix product. All other layers are batched products; one fused Adam steps them all. The
arms are independent: each has the same results as when trained on its own.

A step has static shapes, always the same operations, and never synchronises with the device, so it
can be captured as a CUDA graph (capture.py). Everything that changes between steps is written into
static tensors: the rows of the images and the noise.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from config import Config, UsageError
from data.pictures import as_pixels
from models import PIXELS, VAE, make_prior
from objectives import Terms, bound, decomposed, log_likelihood
from running.checkpoint import make_vae


class Layer(nn.Module):
    """The same linear layer of all arms, (seeds, arms, rows, inputs) -> (..., outputs).

    The weights are stored as (inputs, outputs), so that the outputs are contiguous.
    """

    def __init__(self, layers: Sequence[Sequence[nn.Linear]]) -> None:
        super().__init__()
        weights = [torch.stack([layer.weight.detach().t() for layer in seed]) for seed in layers]
        biases = [torch.stack([layer.bias.detach() for layer in seed]) for seed in layers]
        self.weight = nn.Parameter(torch.stack(weights).contiguous())
        self.bias = nn.Parameter(torch.stack(biases).unsqueeze(-2).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten(0, 1)
        return torch.baddbmm(bias, x.flatten(0, 1), weight).unflatten(0, self.weight.shape[:2])

    def of(self, seed: int, arm: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of one model, in the layout of nn.Linear."""
        return self.weight[seed, arm].t(), self.bias[seed, arm, 0]


class SharedLayer(Layer):
    """The first layer, whose input is shared by the arms of a seed: (seeds, rows, inputs)."""

    def __init__(self, layers: Sequence[Sequence[nn.Linear]]) -> None:
        super().__init__(layers)
        side_by_side = self.weight.detach().transpose(1, 2).contiguous()
        self.weight = nn.Parameter(side_by_side)  # (seeds, inputs, arms, outputs)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.stack(
            [
                torch.addmm(bias.flatten(), rows, weight.flatten(1))
                for rows, weight, bias in zip(x, self.weight, self.bias, strict=True)
            ]
        )
        return wide.unflatten(-1, self.weight.shape[2:]).transpose(1, 2)

    def of(self, seed: int, arm: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of one model, in the layout of nn.Linear."""
        return self.weight[seed, :, arm].t(), self.bias[seed, arm, 0]


class Stack(nn.Module):
    """The models of several arms and seeds, initialised like `train.make_state`.

    Args:
        arms: Settings of each arm; they may differ in prior, objective and beta.
        seeds: Random seeds for weights, batches and noise.
        packed: The images on the device, (N, bytes).
    """

    def __init__(self, arms: Sequence[Config], seeds: Sequence[int], packed: Tensor) -> None:
        super().__init__()
        for config in arms:
            check(config, arms[0])
        self.arms, self.config, self.packed = tuple(arms), arms[0], packed
        self.priors = [make_prior(config)() for config in arms]
        shape = len(seeds), self.config.batch_size
        self.rows = torch.zeros(shape, dtype=torch.long, device=packed.device)
        self.noise = torch.zeros(*shape, self.config.latents, device=packed.device)
        self.seeds, models = self.models_of(seeds)
        self.encoder = stack_layers(
            [[vae.encoder for vae in seed] for seed in models], SharedLayer
        )
        self.decoder = stack_layers([[vae.decoder for vae in seed] for seed in models], Layer)
        self.to(packed.device)

    def models_of(self, seeds: Sequence[int]) -> tuple[tuple[int, ...], list[list[VAE]]]:
        """The seeds and their initial models; also resets the noise generators."""
        models, self.generators = [], []
        for seed in seeds:
            torch.manual_seed(seed)
            models.append([make_vae(self.config, channels=1)] * len(self.arms))
            self.generators.append(noise_after_weights(seed, self.packed.device))
        return tuple(seeds), models

    @torch.no_grad()
    def reset(self, seeds: Sequence[int]) -> None:
        """Reinitialise with other seeds, in the same memory."""
        self.seeds, models = self.models_of(seeds)
        encoder = stack_layers([[vae.encoder for vae in seed] for seed in models], SharedLayer)
        decoder = stack_layers([[vae.decoder for vae in seed] for seed in models], Layer)
        fresh = [*encoder.parameters(), *decoder.parameters()]
        for own, new in zip(self.parameters(), fresh, strict=True):
            own.copy_(new)

    def draw_noise(self) -> None:
        """Draw the noise of the next step, as single runs do."""
        for noise, generator in zip(self.noise, self.generators, strict=True):
            noise.normal_(generator=generator)

    def terms(self) -> Terms:
        """Terms of the objectives of all arms, means over the batch; each (seeds, arms)."""
        x = as_pixels(self.packed[self.rows.flatten()], PIXELS).unflatten(0, self.rows.shape)
        mean, log_std = apply_layers(self.encoder, x, torch.relu).chunk(2, dim=-1)
        posterior = Normal(mean, log_std.exp(), validate_args=False)
        z = mean + self.noise.unsqueeze(1) * posterior.scale
        logits = apply_layers(self.decoder, z, getattr(torch, self.config.activation))
        log_px = log_likelihood(x.unsqueeze(1).expand_as(logits), logits)
        columns = [
            self.terms_of(arm, log_px[:, arm], posterior, z[:, arm])
            for arm in range(len(self.arms))
        ]
        names = dict.fromkeys(name for column in columns for name in column)
        nothing = torch.full_like(log_px[:, 0, 0], torch.nan)
        return {
            name: torch.stack([column.get(name, nothing) for column in columns], -1)
            for name in names
        }

    def terms_of(self, arm: int, log_px: Tensor, posterior: Normal, z: Tensor) -> Terms:
        """Terms of the objective of one arm; each (seeds,)."""
        config, prior = self.arms[arm], self.priors[arm]
        own = Normal(posterior.loc[:, arm], posterior.scale[:, arm], validate_args=False)
        if config.objective == "vae":
            return bound(log_px, own.log_prob(z).sum(-1) - prior.log_prob(z), config.beta)
        found = [
            decomposed(
                log_px[k],
                Normal(own.loc[k], own.scale[k], validate_args=False),
                z[k],
                prior,
                (config.alpha, config.beta, config.gamma),
                len(self.packed),
                config.sizes,
                config.tc,
                config.estimator,
            )
            for k in range(len(log_px))
        ]
        return {name: torch.stack([terms[name] for terms in found]) for name in found[0]}

    def model(self, seed: int, arm: int) -> VAE:
        """Copy out the model of one run, on the device of the stack."""
        vae = make_vae(self.config, channels=1).to(self.packed.device)
        for own, layers in ((vae.encoder, self.encoder), (vae.decoder, self.decoder)):
            linear = [layer for layer in own.layers if isinstance(layer, nn.Linear)]
            for into, layer in zip(linear, layers, strict=True):
                weight, bias = layer.of(seed, arm)
                with torch.no_grad():
                    into.weight.copy_(weight)
                    into.bias.copy_(bias)
        return vae.eval()


def check(config: Config, first: Config) -> None:
    """Raise a UsageError for settings that a stack cannot train, or not together."""
    alike = ("model", "hidden", "activation", "batch_size", "sizes", "learning_rate", "device")
    wanted = {"model": "mlp", "decay": 0.0, "learn_exponents": False, "kl": "monte-carlo"}
    wanted |= {name: getattr(first, name) for name in alike if name not in wanted}
    for name, value in wanted.items():
        if getattr(config, name) != value:
            got = getattr(config, name)
            raise UsageError(f"arms that train together need {name} = {value}, but got {got}")
    if config.objective == "factorvae":
        raise UsageError(
            "arms that train together have no discriminator: factorvae is for train.py"
        )


def noise_after_weights(seed: int, device: torch.device) -> torch.Generator:
    """Generator of a run's noise: in the state that torch's has after drawing the weights."""
    if device.type == "cpu":
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
        return generator
    return torch.Generator(device).manual_seed(seed)  # weights are drawn on the CPU, not from this


def apply_layers(
    layers: nn.ModuleList, x: Tensor, activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Apply the layers, with the activation between them."""
    for layer in layers[:-1]:
        x = activation(layer(x))
    return layers[-1](x)


def stack_layers(networks: Sequence[Sequence[nn.Module]], first: type[Layer]) -> nn.ModuleList:
    """Stack the linear layers of (seeds, arms) networks."""
    linear = [
        [[m for m in network.layers if isinstance(m, nn.Linear)] for network in seed]
        for seed in networks
    ]
    depth = range(len(linear[0][0]))
    parts = [[[network[k] for network in seed] for seed in linear] for k in depth]
    return nn.ModuleList([first(parts[0]), *map(Layer, parts[1:])])
