"""A small VAE whose prior has preferred directions: `python examples/vae.py [--help]`.

Pictures of a disk differ only in its column and row. A normal prior (--p 2) is the same in every
direction, so the two latents may hold any mixture of both. ISA with exponents above 2 prefers
codes along its axes: one latent learns the column, the other the row.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from tqdm import tqdm

from lpnested import ISA

SIZE, RADIUS, SPAN = 12, 3.0, 6.0  # in pixels: picture, disk, square of disk centres


def draw_disks(places: Tensor) -> Tensor:
    """Soft disks centred at (x, y) in [-1, 1]^2, y downwards: (..., 2) -> (..., 144)."""
    ticks = torch.arange(SIZE) - (SIZE - 1) / 2
    x, y = (ticks - SPAN / 2 * places[..., k, None] for k in (0, 1))
    distance = torch.hypot(x[..., None, :], y[..., :, None])
    return torch.sigmoid(4 * (RADIUS - distance)).flatten(-2)


def network(inputs: int, outputs: int, hidden: int = 64) -> nn.Sequential:
    first, second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(hidden, outputs))


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = network(SIZE**2, 2 + 2), network(2, SIZE**2)

    def encode(self, x: Tensor) -> Distribution:  # q(z | x)
        mean, log_std = self.encoder(x).chunk(2, -1)
        return Independent(Normal(mean, log_std.exp(), validate_args=False), 1)

    def decode(self, z: Tensor) -> Distribution:  # p(x | z); pixels may be grey
        return Independent(Bernoulli(logits=self.decoder(z), validate_args=False), 1)


def elbo(x: Tensor, vae: VAE, prior: Distribution) -> Tensor:
    """E_q[log p(x|z)] - KL(q(z|x) || p(z)) of each picture, estimated from one z ~ q(z|x)."""
    q = vae.encode(x)
    z = q.rsample()
    return vae.decode(z).log_prob(x) - (q.log_prob(z) - prior.log_prob(z))


def train(vae: VAE, prior: Distribution, steps: int) -> None:
    """Train on fresh pictures at every step; Ctrl-C stops early and keeps the model."""
    optimizer = torch.optim.Adam(vae.parameters(), lr=5e-3)
    try:
        for _ in (bar := tqdm(range(steps), unit="step")):
            loss = -elbo(draw_disks(2 * torch.rand(64, 2) - 1), vae, prior).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.set_postfix(elbo=f"{-loss.item():.1f} nats", refresh=False)
    except KeyboardInterrupt:
        print("Stopped early: what follows is the model as it is.")


def colours(places: Tensor) -> Tensor:
    """Red increases to the right, blue downwards: (..., 2) -> (..., 3)."""
    x, y = (places.clamp(-1, 1) + 1).unbind(-1)
    return torch.stack([0.1 + 0.42 * x, 0.6 - 0.12 * (x + y), 0.12 + 0.42 * y], -1)


def tile(ax: plt.Axes, pictures: Tensor, title: str) -> None:
    """36 pictures, each in the colour of its disk's position."""
    x, ticks = pictures.view(36, SIZE, SIZE), torch.linspace(-1, 1, SIZE) * (SIZE - 1) / SPAN
    centres = torch.stack([x.sum(1) @ ticks, x.sum(2) @ ticks], -1) / x.sum((1, 2))[:, None]
    tinted = 1 - x[..., None] * (1 - colours(centres)[:, None, None])
    framed = nn.functional.pad(tinted, (0, 0, 0, 1, 0, 1), value=0.85).unflatten(0, (6, 6))
    ax.imshow(framed.transpose(1, 2).flatten(2, 3).flatten(0, 1).numpy())
    ax.set(title=title, xticks=[], yticks=[])


@torch.no_grad()
def draw(vae: VAE, prior: Distribution) -> plt.Figure:
    """Training pictures, codes of a grid of positions, and decoded samples from the prior."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    tile(left, draw_disks(2 * torch.rand(36, 2) - 1), "Training pictures")
    places = torch.cartesian_prod(*2 * [torch.linspace(-1, 1, 25)])
    middle.grid(color="0.9")
    middle.scatter(*vae.encode(draw_disks(places)).mean.T, c=colours(places), s=8, zorder=2)
    middle.set(title="Their code $(z_1, z_2)$", aspect=1, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
    tile(right, vae.decode(prior.sample((36,))).mean, "Samples from the prior, decoded")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--p", type=float, default=4.0, help="prior exponents (4); 2 is normal")
    parser.add_argument("--steps", type=int, default=3000, help="steps of 64 pictures each (3000)")
    parser.add_argument("--seed", type=int, default=0, help="for weights, pictures and noise (0)")
    parser.add_argument("--out", type=Path, default="vae.png", help="figure to write (vae.png)")
    args = parser.parse_args()
    if not (0 < args.p < torch.inf and args.steps > 0 and args.out.suffix == ".png"):
        parser.error("--p and --steps must be positive, and --out must end in .png")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # with tensors this small, more threads are slower
    torch.manual_seed(args.seed)
    prior = ISA.unit_variance([2], p0=args.p, p=args.p)
    # prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)  # the usual prior
    vae = VAE()
    train(vae, prior, args.steps)
    draw(vae, prior).savefig(args.out, dpi=100)
    bound = elbo(draw_disks(2 * torch.rand(4096, 2) - 1), vae, prior).mean()
    print(f"ELBO {bound:.2f} nats. Samples and code are in {args.out}")


if __name__ == "__main__":
    main()
