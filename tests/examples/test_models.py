"""The sparse first layer is a linear layer; memory is kept where glibc is."""

import platform
import sys

import pytest
import torch
from memory import keep_freed_memory
from models import VAE, SparseLinear
from torch import Tensor, nn
from torch.testing import assert_close


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
