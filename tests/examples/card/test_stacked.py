"""Arms that train side by side have the numbers that each has alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import train
from card.loop import Training
from card.stacked import Stack
from config import UsageError
from data.pictures import pack
from models import SparseLinear
from sweeps.experiments import ARMS, METHODS, PAPER_ON_GPU

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, ROWS = 60, 2048
NAMES = ("normal", "normal-0.495", "isa-released", "isa-4-4")


@pytest.fixture(scope="module")
def packed():
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(ROWS, 64, 64, generator=generator) < 0.06
    return torch.from_numpy(pack(images.to(torch.uint8).numpy()))


def config_of(settings, **changes):
    small = {"device": "cpu", "hidden": 64, "batch_size": 128, "steps": STEPS}
    return replace(PAPER_ON_GPU, **settings, **(small | changes))


def singly(config, packed, folder):
    state = train.make_state(config, channels=1)
    folder.mkdir()
    train.train(config, state, packed, 4096, folder, "these", lambda step: None)
    return state


def together(configs, seeds, packed):
    training = Training(Stack(configs, seeds, packed), STEPS)
    training.run(training.step, lambda step: None)
    return training


@pytest.fixture
def dense(monkeypatch):
    """The first layer as on a GPU."""
    monkeypatch.setattr(SparseLinear, "forward", nn.Linear.forward)


def products_of_any_width_agree(arms, hidden, batch):
    """Whether this machine's products sum in one order, alone or side by side: it may not."""
    generator = torch.Generator().manual_seed(0)
    x, wide, back = (
        torch.randn(*size, generator=generator)
        for size in ((batch, 4096), (4096, arms * hidden), (batch, arms * hidden))
    )
    parts = [slice(k * hidden, (k + 1) * hidden) for k in range(arms)]
    weights = [wide[:, part].t().contiguous() for part in parts]
    return all(
        torch.equal((x @ wide)[:, part], nn.functional.linear(x, weight))
        and torch.equal((x.t() @ back)[:, part], (back[:, part].contiguous().t() @ x).t())
        for part, weight in zip(parts, weights, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(3,), (3, 4)], ids=str)
def test_stacked_arms_equal_single_runs_bit_for_bit(packed, tmp_path, dense, seeds):
    """With a first layer that sums in the same order; where products differ, so do last digits."""
    arms = [config_of(ARMS[name]) for name in NAMES]
    exact = products_of_any_width_agree(len(arms), 64, 128)
    rtol, atol = (0, 0) if exact else (1e-4, 1e-5)
    training = together(arms, seeds, packed)
    for k, seed in enumerate(seeds):
        for r, arm in enumerate(arms):
            alone = singly(replace(arm, seed=seed), packed, tmp_path / f"{seed}-{r}")
            for mine, line in zip(training.history(k, r), alone.history, strict=True):
                assert set(mine) == {name for name in line if name not in ("p0", *PS)}
                for name, value in mine.items():
                    assert value == pytest.approx(line[name], rel=rtol, abs=0), name
            weights = training.stack.model(k, r).state_dict()
            for name, weight in alone.vae.state_dict().items():
                torch.testing.assert_close(weights[name], weight, rtol=rtol, atol=atol)


PS = [f"p{k}" for k in range(1, 6)]


@pytest.mark.slow
def test_stacked_arms_follow_the_runs_of_train_with_its_sparse_layer(packed, tmp_path):
    arms = [config_of(ARMS[name]) for name in NAMES]
    training = together(arms, (3,), packed)
    for r, arm in enumerate(arms):
        alone = singly(replace(arm, seed=3), packed, tmp_path / str(r))
        for mine, line in zip(training.history(0, r), alone.history, strict=True):
            assert mine["objective"] == pytest.approx(line["objective"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["beta-tcvae", "isa-beta-tcvae"])
def test_weighted_total_correlations_train_beside_each_other(packed, tmp_path, dense, method):
    arms = [config_of(METHODS[method], beta=beta, batch_size=32) for beta in (2.0, 4.0)]
    training = together(arms, (1, 2), packed)
    for k, seed in enumerate((1, 2)):
        for r, arm in enumerate(arms):
            alone = singly(replace(arm, seed=seed), packed, tmp_path / f"{seed}-{r}")
            for mine, line in zip(training.history(k, r), alone.history, strict=True):
                assert set(mine) == {name for name in line if name not in ("p0", *PS)}
                for name, value in mine.items():
                    assert value == pytest.approx(line[name], rel=1e-4, abs=1e-4), name


@pytest.mark.slow
def test_a_stack_that_begins_anew_is_a_new_one(packed):
    arms = [config_of(ARMS[name]) for name in ("normal", "isa-released")]
    fresh = together(arms, (7, 8), packed)
    used = together(arms, (3, 4), packed)
    used.reset((7, 8))
    used.run(used.step, lambda step: None)
    assert used.stack.seeds == (7, 8)
    assert used.history(1, 1) == fresh.history(1, 1)
    for mine, other in zip(used.stack.parameters(), fresh.stack.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.slow
def test_an_arm_that_diverges_takes_no_other_with_it(packed, dense):
    arms = [config_of(ARMS[name]) for name in NAMES[:3]]
    healthy = together(arms, (3,), packed)
    broken = Training(Stack(arms, (3,), packed), STEPS)
    with torch.no_grad():
        broken.stack.decoder[1].weight[0, 1] = torch.nan
    broken.run(broken.step, lambda step: None)
    assert all(line["objective"] is None for line in broken.history(0, 1))
    for arm in (0, 2):
        assert broken.history(0, arm) == healthy.history(0, arm)


@pytest.mark.parametrize(
    "changes",
    [{"decay": 0.3}, {"learn_exponents": True}, {"model": "conv"}, {"hidden": 9}],
    ids=str,
)
def test_what_cannot_train_together_is_refused(packed, changes):
    first = config_of(ARMS["isa-released"])
    with pytest.raises(UsageError, match=next(iter(changes))):
        Stack([first, replace(first, **changes)], (0,), packed)
    with pytest.raises(UsageError, match="factorvae"):
        Stack([first, config_of(METHODS["factorvae"])], (0,), packed)
