"""A small VAE whose prior has directions: `python examples/vae.py [--help]`.

Pictures of a disk differ in its column and its row. A normal prior is the same in every direction,
so two latents may hold any mixture of both (--p 2). ISA with exponents above 2 prefers codes along
its axes: one latent comes to hold the column, the other one the row.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from tqdm import tqdm

from lpnested import ISA

SIZE, RADIUS, SPAN = 12, 3.0, 6.0  # in pixels: a picture, its disk, the square of its centres


def draw_disks(places: Tensor) -> Tensor:
    """Soft disks at places (x, y) from -1 to 1, y downwards: (..., 2) -> (..., 144)."""
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

    def decode(self, z: Tensor) -> Distribution:  # p(x | z); targets may be grey
        return Independent(Bernoulli(logits=self.decoder(z), validate_args=False), 1)


def elbo(x: Tensor, vae: VAE, prior: Distribution) -> Tensor:
    """E_q[log p(x|z)] - KL(q(z|x) || p(z)) of each picture, estimated at one z ~ q(z|x)."""
    q = vae.encode(x)
    z = q.rsample()
    return vae.decode(z).log_prob(x) - (q.log_prob(z) - prior.log_prob(z))


def train(vae: VAE, prior: Distribution, steps: int) -> None:
    """Fresh pictures in every step; Ctrl-C ends it early and keeps what there is."""
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
    """Red grows to the right, blue downwards: (..., 2) -> (..., 3)."""
    x, y = (places.clamp(-1, 1) + 1).unbind(-1)
    return torch.stack([0.1 + 0.42 * x, 0.6 - 0.12 * (x + y), 0.12 + 0.42 * y], -1)


def tile(ax: plt.Axes, pictures: Tensor, title: str) -> None:
    """36 pictures, each in the colour of the place where its disk is."""
    x, ticks = pictures.view(36, SIZE, SIZE), torch.linspace(-1, 1, SIZE) * (SIZE - 1) / SPAN
    centres = torch.stack([x.sum(1) @ ticks, x.sum(2) @ ticks], -1) / x.sum((1, 2))[:, None]
    tinted = 1 - x[..., None] * (1 - colours(centres)[:, None, None])
    framed = nn.functional.pad(tinted, (0, 0, 0, 1, 0, 1), value=0.85).unflatten(0, (6, 6))
    ax.imshow(framed.transpose(1, 2).flatten(2, 3).flatten(0, 1).numpy())
    ax.set(title=title, xticks=[], yticks=[])


@torch.no_grad()
def draw(vae: VAE, prior: Distribution) -> plt.Figure:
    """Training pictures, the code of a grid of places, and decoded samples from the prior."""
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
    parser.add_argument("--p", type=float, default=4.0, help="of the prior (4); 2 is normal")
    parser.add_argument("--steps", type=int, default=3000, help="of 64 pictures each (3000)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, pictures and noise (0)")
    parser.add_argument("--out", type=Path, default="vae.png", help="the picture (vae.png)")
    args = parser.parse_args()
    if not (0 < args.p < torch.inf and args.steps > 0 and args.out.suffix == ".png"):
        parser.error("--p and --steps must be positive, and --out must end in .png")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the tensors are small: more threads are slower
    torch.manual_seed(args.seed)
    prior = ISA.unit_variance([2], p0=args.p, p=args.p)
    # prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)  # as usual
    vae = VAE()
    train(vae, prior, args.steps)
    draw(vae, prior).savefig(args.out, dpi=100)
    bound = elbo(draw_disks(2 * torch.rand(4096, 2) - 1), vae, prior).mean()
    print(f"ELBO {bound:.2f} nats. Samples and code are in {args.out}")


if __name__ == "__main__":
    main()
