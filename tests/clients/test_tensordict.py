"""tensordict: a module's distribution, with its parameters and draws in a TensorDict."""

import pytest
import torch

from lpnested import ISA, GeneralizedNormal, LpNestedTree


@pytest.fixture
def tensordict(bring):
    bring("tensordict.nn")
    return bring("tensordict")


@pytest.mark.slow
def test_a_probabilistic_module_draws_and_scores(tensordict):
    module = tensordict.nn.ProbabilisticTensorDictModule(
        in_keys=["p0", "p", "scale"],
        out_keys=["z"],
        distribution_class=ISA,
        distribution_kwargs={"sizes": [2, 3]},
        return_log_prob=True,
        default_interaction_type=tensordict.nn.InteractionType.RANDOM,
    )
    p0, p, scale = torch.rand(7) + 0.5, torch.rand(7, 2) + 0.5, torch.rand(7) + 0.5
    data = tensordict.TensorDict({"p0": p0, "p": p, "scale": scale}, batch_size=[7])
    data = module(data)
    assert data["z"].shape == (7, 5)
    expected = ISA([2, 3], p0, p, scale).log_prob(data["z"])
    assert torch.equal(data["z_log_prob"], expected)
    assert isinstance(module.get_dist(data), ISA)


def test_the_mode_is_its_deterministic_answer(tensordict):
    module = tensordict.nn.ProbabilisticTensorDictModule(
        in_keys=["loc", "scale", "p"],
        out_keys=["z"],
        distribution_class=GeneralizedNormal,
        default_interaction_type=tensordict.nn.InteractionType.DETERMINISTIC,
    )
    data = {"loc": torch.randn(4), "scale": torch.ones(4), "p": torch.full((4,), 1.5)}
    data = module(tensordict.TensorDict(data, batch_size=[4]))
    assert torch.equal(data["z"], data["loc"])


def test_a_policy_trains_through_log_prob(tensordict):
    """Score function: the exponent and the scale of the draws are what a network gives."""
    nn = tensordict.nn
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softplus())
    policy = nn.ProbabilisticTensorDictSequential(
        nn.TensorDictModule(net, in_keys=["x"], out_keys=["raw"]),
        nn.TensorDictModule(lambda raw: raw.unbind(-1), in_keys=["raw"], out_keys=["p0", "scale"]),
        nn.ProbabilisticTensorDictModule(
            in_keys=["p0", "scale"],
            out_keys=["z"],
            distribution_class=ISA,
            distribution_kwargs={"sizes": [2, 2], "p": 1.5},
            default_interaction_type=nn.InteractionType.RANDOM,
        ),
    )
    data = policy(tensordict.TensorDict({"x": torch.randn(6, 3)}, batch_size=[6]))
    reward = -data["z"].abs().sum(-1)
    (-(reward * policy.get_dist(data).log_prob(data["z"])).mean()).backward()
    assert all(w.grad.isfinite().all() and w.grad.any() for w in net.parameters())


def test_a_tree_is_data_that_a_tensordict_carries(tensordict):
    data = tensordict.TensorDict({"x": torch.zeros(2)}, batch_size=[])
    data.set_non_tensor("tree", LpNestedTree.isa([2, 3]))
    assert data.clone().get_non_tensor("tree") == LpNestedTree.isa([2, 3])
