"""Layers are the paper's, the sparse one is a linear one; priors; memory where glibc is."""

import math
import platform
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import gamma
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.testing import assert_close

from config import PRESETS, Config
from lpnested import ISA
from models import (
    VAE,
    ConvDecoder,
    ConvEncoder,
    Discriminator,
    SparseLinear,
    exponents,
    make_prior,
)
from running.process import keep_freed_memory
from sweeps.experiments import RELEASED_DEVIATION

pytestmark = pytest.mark.slow


def pair() -> tuple[SparseLinear, nn.Linear]:
    torch.manual_seed(0)
    sparse, dense = SparseLinear(300, 17), nn.Linear(300, 17)
    dense.load_state_dict(sparse.state_dict())
    return sparse, dense


def rows(share: float) -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(40, 300) < share).float()


@pytest.mark.parametrize(
    "x",
    [rows(0.04), rows(0.0), rows(0.5), rows(0.04) * torch.rand(40, 300), rows(0.1)[:1]],
    ids=["binary", "black", "dense", "grey", "one"],
)
def test_the_sparse_layer_is_the_linear_layer(x: Tensor) -> None:
    results = []
    for layer in pair():
        y = layer(x)
        y.square().sum().backward()
        results.append((y.detach(), layer.weight.grad, layer.bias.grad))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_starts_from_the_numbers_of_the_linear_layer() -> None:
    torch.manual_seed(3)
    sparse = SparseLinear(30, 7)
    torch.manual_seed(3)
    dense = nn.Linear(30, 7)
    assert torch.equal(sparse.weight, dense.weight) and torch.equal(sparse.bias, dense.bias)


def test_gradients_in_the_input_and_further_dimensions_take_the_dense_way() -> None:
    sparse, dense = pair()
    x = rows(0.04).requires_grad_()
    grads = [torch.autograd.grad(layer(x).sum(), x)[0] for layer in (sparse, dense)]
    assert_close(*grads)
    assert_close(sparse(rows(0.04).reshape(4, 10, 300)), dense(rows(0.04).reshape(4, 10, 300)))


def test_training_steps_give_the_same_losses_as_the_plainest_loop() -> None:
    """To the rounding of float32, with fused Adam against torch's default."""
    losses = []
    for fast in (True, False):
        torch.manual_seed(0)
        encoder = VAE(4, 32).encoder
        if not fast:
            plain = nn.Linear(4096, 32)
            plain.load_state_dict(encoder.layers[0].state_dict())
            encoder.layers[0] = plain
        optimiser = torch.optim.Adam(encoder.parameters(), 1e-3, fused=True if fast else None)
        torch.manual_seed(1)
        for _ in range(20):
            x = (torch.rand(16, 4096) < 0.04).float()
            loss = (encoder(x).mean - 1).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses.append(loss.detach())
    assert_close(*losses, rtol=1e-4, atol=1e-6)


def test_a_weight_of_either_storage_loads_into_the_other() -> None:
    sparse, dense = pair()
    dense.weight.data.normal_()
    sparse.load_state_dict(dense.state_dict())
    assert torch.equal(sparse.weight, dense.weight)
    assert sparse.weight.t().is_contiguous()


def test_freed_memory_is_kept_where_glibc_is() -> None:
    assert keep_freed_memory() == (sys.platform == "linux" and platform.libc_ver()[0] == "glibc")


# Shapes and sizes, from the paper's tables.


def layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a stack, in their order."""
    return [part for part in module.modules() if not list(part.children())]


def size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def sketch(layer: nn.Module) -> tuple[object, ...]:
    """What of a convolution the paper's tables state."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        channels = (layer.in_channels, layer.out_channels)
        return type(layer), *channels, layer.kernel_size[0], layer.stride[0], layer.padding[0]
    return (type(layer),)


def hidden(kind: type[nn.Module], *rows: tuple[int, ...]) -> list[tuple[object, ...]]:
    """A BatchNorm and a ReLU after each."""
    return [part for row in rows for part in ((kind, *row), (nn.BatchNorm2d,), (nn.ReLU,))]


@pytest.mark.parametrize(("channels", "latents"), [(1, 10), (3, 12)])
def test_convolutions_are_those_of_the_paper(channels: int, latents: int) -> None:
    vae = VAE(latents, 256, model="conv", channels=channels)
    middle = [(32, 32, 4, 2, 1), (32, 64, 4, 2, 1), (64, 64, 4, 2, 1), (64, 512, 4, 1, 0)]
    assert [sketch(layer) for layer in layers(vae.encoder)] == [
        *hidden(nn.Conv2d, (channels, 32, 4, 2, 1), *middle),
        (nn.Conv2d, 512, 2 * latents, 1, 1, 0),
    ]
    up = [(64, 64, 4, 2, 1), (64, 32, 4, 2, 1), (32, 32, 4, 2, 1)]
    assert [sketch(layer) for layer in layers(vae.decoder)] == [
        *hidden(nn.ConvTranspose2d, (latents, 512, 1, 1, 0), (512, 64, 4, 1, 0), *up),
        (nn.ConvTranspose2d, 32, channels, 4, 2, 1),
    ]
    # By hand: 16 weights to a pair of channels, a bias and two of BatchNorm to a filter.
    pairs = channels * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 512
    filters = 32 + 32 + 64 + 64 + 512
    assert size(vae.encoder) == 16 * pairs + 3 * filters + 513 * 2 * latents
    assert size(vae.decoder) == 16 * pairs + 3 * filters + 512 * latents + channels


@pytest.mark.parametrize(("activation", "kind"), [("tanh", nn.Tanh), ("relu", nn.ReLU)])
def test_activations_of_the_perceptrons(activation: str, kind: type[nn.Module]) -> None:
    vae = VAE(20, 8, activation)
    kinds = [type(layer) for layer in layers(vae.encoder)]
    assert kinds == [SparseLinear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    kinds = [type(layer) for layer in layers(vae.decoder)]
    assert kinds == [nn.Linear, kind] * 3 + [nn.Linear]


def test_perceptrons_are_those_of_the_paper() -> None:
    """About 6.4 and 7.8 million numbers at twenty latents."""
    vae = VAE(20, 1200)
    assert [type(part) for part in layers(vae.decoder)[1::2]] == [nn.Tanh] * 3
    square = 1200 * 1201
    assert size(vae.encoder) == 4097 * 1200 + square + 1201 * 40 == 6_405_640
    assert size(vae.decoder) == 21 * 1200 + 2 * square + 1201 * 4096 == 7_826_896


def test_discriminator_is_that_of_the_paper() -> None:
    """Six hidden layers of 1000, leaky ReLU of slope 0.2, two logits."""
    parts = layers(Discriminator(20))
    assert [type(part) for part in parts] == [nn.Linear, nn.LeakyReLU] * 6 + [nn.Linear]
    widths = [(part.in_features, part.out_features) for part in parts[::2]]
    assert widths == [(20, 1000), *[(1000, 1000)] * 5, (1000, 2)]
    assert {part.negative_slope for part in parts[1::2]} == {0.2}
    assert size(Discriminator(20)) == 21_000 + 5 * 1_001_000 + 2002


@pytest.mark.parametrize(("model", "channels"), [("mlp", 1), ("conv", 1), ("conv", 3)])
def test_codes_and_logits_have_their_shapes(model: str, channels: int) -> None:
    torch.manual_seed(0)
    vae = VAE(5, 16, model=model, channels=channels)
    posterior = vae.encoder(torch.rand(7, channels * 4096))
    assert posterior.batch_shape == (7, 5) and posterior.event_shape == ()
    assert (posterior.scale > 0).all()
    vae.eval()
    z = torch.randn(2, 3, 5)
    logits = vae.decoder(z)
    assert logits.shape == (2, 3, channels * 4096)
    assert_close(logits[1, 2], vae.decoder(z[1, 2]), rtol=1e-4, atol=1e-5)
    loss = logits.square().mean() + posterior.loc.square().mean() + posterior.scale.mean()
    loss.backward()
    assert all(weight.grad is not None for weight in vae.parameters())


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_the_encoder_gives_the_log_of_the_deviation(model: str) -> None:
    """Means are the first half of its last layer, log sigmas the second."""
    vae = VAE(3, 16, model=model).eval()
    last = layers(vae.encoder)[-1]
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([1.0, 2, 3, -2, 0, 2]))
    posterior = vae.encoder(torch.rand(4, 4096))
    assert_close(posterior.mean, torch.tensor([[1.0, 2, 3]]).expand(4, 3))
    assert_close(posterior.stddev, torch.tensor([[-2.0, 0, 2]]).exp().expand(4, 3))


def test_in_use_a_code_depends_on_its_own_picture_only() -> None:
    """In training it depends on the batch, which BatchNorm normalises."""
    torch.manual_seed(0)
    vae, x = VAE(4, 16, model="conv"), torch.rand(6, 4096)
    for _ in range(3):
        before = vae.encoder(x).loc
        vae.decoder(before)
    assert not torch.allclose(before[:2], vae.encoder(x[:2]).loc, atol=1e-3)
    vae.eval()
    codes, state = vae.encoder(x), {k: v.clone() for k, v in vae.state_dict().items()}
    assert torch.equal(codes.loc, vae.encoder(x).loc)
    for k in range(6):
        alone = vae.encoder(x[k : k + 1])
        assert_close(alone.loc[0], codes.loc[k], rtol=1e-4, atol=1e-5)
        assert_close(alone.scale[0], codes.scale[k], rtol=1e-4, atol=1e-5)
        logits = vae.decoder(codes.loc)[k]
        assert_close(vae.decoder(codes.loc[k]), logits, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, state[key]) for key, value in vae.state_dict().items())


def test_the_order_in_memory_changes_no_number() -> None:
    """Convolutions run channels last; a row of pixels is one channel after the other."""
    torch.manual_seed(0)
    vae = VAE(4, 16, model="conv", channels=3)
    weights = [layer.weight for layer in layers(vae) if hasattr(layer, "kernel_size")]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    images, z = torch.rand(2, 3, 64, 64), torch.randn(2, 4)
    x = torch.stack([torch.cat([channel.reshape(-1) for channel in image]) for image in images])

    encoder, decoder = ConvEncoder(4, 3), ConvDecoder(4, 3)
    encoder.load_state_dict(vae.encoder.state_dict())
    decoder.load_state_dict(vae.decoder.state_dict())
    assert layers(encoder)[0].weight.is_contiguous()
    flat = encoder.layers(images.contiguous()).flatten(1)
    assert_close(vae.encoder(x).loc, flat[:, :4], rtol=1e-4, atol=1e-5)
    plain = decoder.layers(z[:, :, None, None])
    rows = torch.stack([torch.cat([channel.reshape(-1) for channel in image]) for image in plain])
    assert_close(vae.decoder(z), rows, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nonzero", [90, 91], ids=["sparse", "dense"])
def test_either_way_of_the_sparse_layer_is_right_at_its_border(nonzero: int) -> None:
    """270 of 1800 pixels are its limit; black rows are the first, the last and one between."""
    x = torch.zeros(6, 300)
    x[[1, 3, 4], -nonzero:] = torch.linspace(0.1, 1, nonzero)
    assert ((x != 0).sum() > SparseLinear.DENSE * x.numel()) == (nonzero == 91)
    results = []
    for layer in pair():
        y = layer(x)
        (y * torch.arange(6 * 17.0).reshape(6, 17)).sum().backward()
        results.append((y.detach(), layer.weight.grad, layer.bias.grad))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# The priors of the arms.


def with_prior(**settings: object) -> Config:
    return replace(PRESETS["small"], device="cpu", **settings)


def variance_of_isa(size: int, p0: float, p: float, scale: float) -> float:
    """Of one latent, section 1 of the paper's specification; its s is scale ** p0."""
    radius = gamma((size + 2) / p0) / gamma(size / p0)
    direction = gamma(3 / p) / gamma(1 / p) * gamma(size / p) / gamma((size + 2) / p)
    return scale**2 * radius * direction


def variance_of_samples(prior: Distribution) -> Tensor:
    torch.manual_seed(0)
    return prior.sample((40_000,)).var(0)


def test_normal_priors_have_the_deviation_asked_for() -> None:
    for scale, deviation in (("unit-variance", 1.0), (0.7, 0.7)):
        module = make_prior(with_prior(prior="normal", sizes=(2, 3), scale=scale))
        prior = module()
        assert prior.event_shape == (5,) and prior.batch_shape == ()
        assert_close(prior.mean, torch.zeros(5))
        assert_close(prior.stddev, torch.full((5,), deviation))
        z = torch.randn(4, 5)
        expected = -0.5 * (z / deviation).square() - math.log(deviation * math.sqrt(2 * math.pi))
        assert_close(prior.log_prob(z), expected.sum(-1))
        assert list(module.parameters()) == [] and exponents(prior) == {}


def test_the_prior_as_released_has_variance_0_495_and_so_has_its_control() -> None:
    released = make_prior(with_prior(scale=1.0))()
    assert (released.p0, released.sizes) == (torch.tensor(2.1), (4,) * 5)
    expected = variance_of_isa(4, 2.1, 2.2, 1.0)
    assert expected == pytest.approx(0.495, abs=5e-4)
    assert_close(released.variance, torch.full((20,), expected, dtype=torch.float32))
    assert_close(variance_of_samples(released).mean().item(), expected, rtol=0.01, atol=0)
    control = make_prior(with_prior(prior="normal", scale=RELEASED_DEVIATION))()
    assert_close(control.variance, released.variance, rtol=5e-4, atol=0)


@pytest.mark.parametrize(("p0", "p"), [(2.1, 2.2), (4.0, 4.0), (2.5, 3.0), (1.0, 1.5)])
def test_unit_variance_is_that(p0: float, p: float) -> None:
    prior = make_prior(with_prior(p0=p0, p=(p,), scale="unit-variance"))()
    assert_close(prior.variance, torch.ones(20), rtol=1e-5, atol=0)
    assert variance_of_isa(4, p0, p, prior.scale.item()) == pytest.approx(1, rel=1e-5)
    assert_close(variance_of_samples(prior).mean().item(), 1.0, rtol=0.02, atol=0)


def test_isa_with_exponents_two_is_the_normal_prior() -> None:
    isa = make_prior(with_prior(p0=2.0, p=(2.0,), scale="unit-variance"))()
    normal = make_prior(with_prior(prior="normal", scale="unit-variance"))()
    z = torch.randn(9, 20)
    assert_close(isa.log_prob(z), normal.log_prob(z), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", ["unit-variance", 1.0])
def test_learned_exponents_start_at_theirs_and_p0_stays(scale: float | str) -> None:
    settings = {"sizes": (2, 2, 3), "p0": 2.0, "p": (2.1, 1.8, 2.4), "scale": scale}
    module = make_prior(with_prior(**settings, learn_exponents=True))
    start, fixed = module(), make_prior(with_prior(**settings))()
    z = 0.7 * torch.randn(500, 7)
    assert_close(start.log_prob(z), fixed.log_prob(z))
    (learned,) = module.parameters()
    assert_close(learned.detach(), torch.tensor(settings["p"]).log())  # whose rate is set

    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(20):
        loss = -module().log_prob(z).mean()
        optimiser.zero_grad()
        loss.backward()
        assert learned.grad.isfinite().all() and (learned.grad != 0).all()
        optimiser.step()
    end = module()
    assert end.log_prob(z).mean() > start.log_prob(z).mean()
    found = exponents(end)
    assert list(found) == ["p0", "p1", "p2", "p3"]
    assert found["p0"] == 2.0
    assert np.abs(np.subtract(list(found.values())[1:], settings["p"])).min() > 1e-3
    if scale == "unit-variance":
        assert end.variance.mean().item() == pytest.approx(1, rel=1e-5)
    else:
        assert end.scale == 1


def test_one_exponent_is_for_all_subspaces_and_many_are_for_each() -> None:
    assert exponents(make_prior(with_prior(sizes=(1, 2), p0=3.0, p=(2.5,)))()) == pytest.approx(
        {"p0": 3.0, "p1": 2.5, "p2": 2.5}
    )
    prior = make_prior(with_prior(sizes=(1, 2), p0=3.0, p=(1.5, 2.5), scale=0.5))()
    assert exponents(prior) == pytest.approx({"p0": 3.0, "p1": 1.5, "p2": 2.5})
    assert isinstance(prior, ISA) and prior.scale == 0.5
    both = torch.stack([part.variance[0] for part in prior.subspaces])
    expected = [variance_of_isa(1, 3.0, 1.5, 0.5), variance_of_isa(2, 3.0, 2.5, 0.5)]
    assert_close(both, torch.tensor(expected, dtype=torch.float32))
