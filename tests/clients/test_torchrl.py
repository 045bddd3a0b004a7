"""TorchRL: an actor whose actions are nested, and its losses that ask for a divergence."""

import pytest
import torch

from lpnested import ISA


@pytest.fixture
def torchrl(bring):
    bring("torchrl.modules")
    bring("torchrl.modules.distributions.utils")
    return bring("torchrl")


def test_an_actor_draws_nested_actions(torchrl, bring):
    tensordict = bring("tensordict.nn")
    net = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Softplus(), torch.nn.Flatten(0))
    actor = torchrl.modules.ProbabilisticActor(
        tensordict.TensorDictModule(net, in_keys=["observation"], out_keys=["scale"]),
        in_keys=["scale"],
        distribution_class=ISA,
        distribution_kwargs={"sizes": [2, 2], "p0": 1.5, "p": 2.0},
        return_log_prob=True,
        default_interaction_type=tensordict.InteractionType.RANDOM,
    )
    data = actor(bring("tensordict").TensorDict({"observation": torch.randn(6, 3)}, [6]))
    assert data["action"].shape == (6, 4)
    expected = actor.get_dist(data).log_prob(data["action"])
    assert torch.equal(data["action_log_prob"], expected)


def test_it_takes_a_registered_divergence_for_a_closed_one(torchrl):
    """The documentation says so: its KL losses raise where ours has no closed form."""
    p, q = ISA([2, 2], 1.5, 2.0), ISA([2, 2], 1.5, 3.0)
    assert torchrl.modules.distributions.utils.has_analytic_kl(p, q)
    with pytest.raises(NotImplementedError, match="closed form"):
        torch.distributions.kl_divergence(p, q)
