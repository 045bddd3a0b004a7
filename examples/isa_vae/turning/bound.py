r"""The ELBO of a model whose code is rotated in a plane of two latents, and its slope.

Let R rotate the latents i and j of z by the angle t:

.. math::
    z_i' = z_i \cos t - z_j \sin t, \qquad z_j' = z_i \sin t + z_j \cos t

An encoder that returns R z and a decoder that first undoes R reconstruct as before. What changes
is the orientation of the code relative to the axes, which only the prior and the form of the
posterior depend on. Consider two posteriors for the rotated code of
:math:`q(z | x) = N(\mu, diag\,s^2)`:

*Exact.* :math:`N(R\mu, R\,diag(s^2)\,R^T)`. Its samples are R z; since R preserves volumes,
log q and log p(x|z) are unchanged. So the ELBO changes only by the *force of the prior*,

.. math:: E \log p(R z) - E \log p(z),

which is zero for any p that is isotropic in the plane, such as the normal, and for latents of one
subspace with p = 2. At 90 degrees R only swaps the two latents and flips a sign, so the force is
zero again within a subspace of ISA, whose density is invariant to that.

*Mean field.* The best that an encoder with independent latents can do: the nearest normal of that
form, :math:`N(R\mu, diag\,v)`. Minimising KL(N(m, diag v) || N(m, P^-1)), that is
(sum_k v_k P_kk - log v_k) / 2 + const, gives :math:`v_k = 1 / P_{kk}` (as in appendix B.3) with

.. math::
    P = R\,diag(s^{-2})\,R^T, \qquad P_{ii} = s_i^{-2} \cos^2 t + s_j^{-2} \sin^2 t, \quad
    P_{jj} = s_i^{-2} \sin^2 t + s_j^{-2} \cos^2 t.

Its entropy is lower than that of q by :math:`\frac12 \log(P_{ii} P_{jj} s_i^2 s_j^2) = \frac12
\log(1 + \sin^2(2t)\,(r - 1)^2 / 4r)` with r = s_i^2 / s_j^2, and the noise that reaches the
decoder changes. The change of this whole ELBO, reconstruction included, is what training would
respond to. The prior's force has to overcome it, unless s_i = s_j, where both posteriors agree.

*Noise.* With z' = R mu + sqrt(v) * (R e) and one e from N(0, I) for all angles, the input of the
decoder changes only as far as v requires, so that differences have little noise: this is how
changes are estimated. Training, however, draws e in the axes of the latents. So slopes, whose
spread is the noise of its gradient, are d/dt of the one-sample ELBO at z' = R mu + sqrt(v) * e
with e held fixed. At t = 0, where dv/dt = 0, this is exactly the training gradient in the
direction that rotates the encoder's last layer of means and the decoder's first layer together.
The means over e agree.

*Units.* Scaling the code by c while the decoder divides by c gives the same model, so a prior of
another scale is evaluated at c z, with c the ratio of the deviations (root of the mean variance)
of both priors: log p(c z) + D log c, since log q falls by D log c. So N(0, s^2) is the same for
every s: the scale of a prior has no force of its own, and can act only through the training.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from objectives import log_likelihood


@dataclass(frozen=True)
class Code:
    """Posteriors of N images, and a draw from each; all (N, latents)."""

    mean: Tensor
    std: Tensor
    noise: Tensor  # drawn from N(0, I)

    @property
    def sample(self) -> Tensor:
        """The draws z."""
        return self.mean + self.std * self.noise


@dataclass(frozen=True)
class Rotations:
    """T rotations, each of a pair of latents by an angle."""

    planes: Tensor  # indices of the latents, (T, 2)
    angle: Tensor  # in radians, (T, 1), or (T, N) with one angle per image

    @property
    def inverse(self) -> "Rotations":
        """The inverse rotations."""
        return Rotations(self.planes, -self.angle)


@dataclass(frozen=True)
class Prior:
    """A prior in the units of a code that was trained with another prior."""

    name: str
    distribution: Distribution
    unit: float = 1.0  # c

    def log_prob(self, z: Tensor) -> Tensor:
        """Log of the density c^D p(c z): (..., latents) -> (...)."""
        return self.distribution.log_prob(self.unit * z) + z.shape[-1] * math.log(self.unit)


def rotate(z: Tensor, rotations: Rotations) -> Tensor:
    """R z for every rotation: (N, latents) or (T, N, latents) -> (T, N, latents)."""
    z = z.expand(len(rotations.planes), *z.shape[-2:])
    index = rotations.planes[:, None].expand(-1, z.shape[1], -1)
    first, second = z.gather(-1, index).unbind(-1)
    cos, sin = rotations.angle.cos(), rotations.angle.sin()
    pair = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return z.scatter(-1, index, pair)


def mean_field_std(std: Tensor, rotations: Rotations) -> Tensor:
    """Standard deviations of the nearest independent normal: (N, latents) -> (T, N, latents)."""
    std = std.expand(len(rotations.planes), *std.shape)
    index = rotations.planes[:, None].expand(-1, std.shape[1], -1)
    first, second = std.gather(-1, index).square().reciprocal().unbind(-1)
    cos, sin = rotations.angle.cos().square(), rotations.angle.sin().square()
    precision = torch.stack([first * cos + second * sin, first * sin + second * cos], dim=-1)
    return std.scatter(-1, index, precision.rsqrt())


def mean_field(
    x: Tensor, code: Code, decoder: nn.Module, rotations: Rotations, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log p(x|z), log q(z|x) and z of the rotated model with independent latents.

    Args:
        x: Pixels, (N, pixels).
        code: Code of these images.
        decoder: Decoder of the model.
        rotations: The rotations.
        noise: Draws from N(0, I) in the rotated axes, (N, latents) or (T, N, latents).

    Returns:
        The three terms, (T, N), (T, N) and (T, N, latents).
    """
    std = mean_field_std(code.std, rotations)
    z = rotate(code.mean, rotations) + std * noise
    logits = decoder(rotate(z, rotations.inverse))
    return log_likelihood(x.expand_as(logits), logits), log_normal(noise, std), z


def log_normal(noise: Tensor, std: Tensor) -> Tensor:
    """Log density of a normal at mean + std * noise: (..., latents) -> (...)."""
    return -(0.5 * noise.square() + std.log() + 0.5 * math.log(2 * math.pi)).sum(-1)


@torch.no_grad()
def levels(x: Tensor, code: Code, decoder: nn.Module, priors: list[Prior]) -> Tensor:
    """Log p(x|z), log q(z|x), and log p(z) for K priors, without rotation: (2 + K, N)."""
    z = code.sample
    log_px = log_likelihood(x, decoder(z))
    return torch.stack(
        [log_px, log_normal(code.noise, code.std), *(prior.log_prob(z) for prior in priors)]
    )


@torch.no_grad()
def changes(
    x: Tensor,
    code: Code,
    decoder: nn.Module,
    priors: list[Prior],
    rotations: Rotations,
    before: Tensor,
) -> Tensor:
    """Change in nats, for each rotation and image, relative to the result of `levels`.

    Returns:
        Changes, (1 + 2 K, T, N) for K priors: of log p(x|z) with the mean-field posterior; of
        log p(z) with the exact posterior, for each prior; then of the whole ELBO with the
        mean-field posterior, for each prior.
    """
    log_px, log_q, field = mean_field(x, code, decoder, rotations, rotate(code.noise, rotations))
    exact = rotate(code.sample, rotations)
    gain = log_px - before[0]
    rest = gain - (log_q - before[1])
    pairs = list(zip(priors, before[2:], strict=True))
    forces = [prior.log_prob(exact) - was for prior, was in pairs]
    bounds = [rest + (prior.log_prob(field) - was) for prior, was in pairs]
    return torch.stack([gain, *forces, *bounds])


def slopes(
    x: Tensor, code: Code, decoder: nn.Module, priors: list[Prior], rotations: Rotations
) -> Tensor:
    """Derivatives with respect to the angle, in nats per radian, with the draws held fixed.

    Returns:
        Derivatives, (2 K, T, N) for K priors: of log p(z) with the exact posterior, for each
        prior; then of the whole ELBO with the mean-field posterior.
    """
    angle = rotations.angle.detach().expand(-1, len(code.mean)).clone().requires_grad_()
    rotations = Rotations(rotations.planes, angle)
    exact = rotate(code.sample, rotations)
    log_px, log_q, field = mean_field(x, code, decoder, rotations, code.noise)

    def slope(terms: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(terms.sum(), angle, retain_graph=True)
        return found

    rest = slope(log_px - log_q)
    forces = [slope(prior.log_prob(exact)) for prior in priors]
    bounds = [rest + slope(prior.log_prob(field)) for prior in priors]
    return torch.stack([*forces, *bounds])
