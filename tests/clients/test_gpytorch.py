"""GPyTorch: its priors are modules and distributions in one, with their parameters as buffers."""

import pytest
import torch

from lpnested import ISA, GeneralizedGamma, GeneralizedNormal


@pytest.fixture
def gpytorch(bring):
    bring("gpytorch.priors.torch_priors")
    return bring("gpytorch")


def prior_class(gpytorch, family):
    """A prior as GPyTorch writes its own, such as GammaPrior."""

    class Prior(gpytorch.priors.Prior, family):
        def __init__(self, *args, transform=None, **parameters) -> None:
            torch.nn.Module.__init__(self)
            family.__init__(self, *args, **parameters)
            names = tuple(family.arg_constraints)
            gpytorch.priors.torch_priors._bufferize_attributes(self, names)
            self._transform = transform

    return Prior


FAMILIES = [
    (GeneralizedNormal, (0.5, 1.3, 1.7)),
    (GeneralizedGamma, (3.0, 1.4, 0.7)),
    (ISA, ([2, 1], 1.5, 2.2, 0.8)),
]
each = pytest.mark.parametrize(
    ("family", "args"), FAMILIES, ids=lambda x: getattr(x, "__name__", "")
)


@each
def test_a_prior_is_its_distribution(gpytorch, family, args):
    prior, plain = prior_class(gpytorch, family)(*args), family(*args)
    torch.manual_seed(0)
    x = plain.sample((5,))
    torch.manual_seed(0)
    assert torch.equal(prior.sample((5,)), x)
    assert torch.equal(prior.log_prob(x), plain.log_prob(x))
    assert torch.equal(prior.variance, plain.variance)
    assert torch.equal(prior.entropy(), plain.entropy())


@each
def test_its_parameters_are_state_that_moves_and_loads(gpytorch, family, args):
    prior = prior_class(gpytorch, family)(*args)
    assert set(prior.state_dict()) == set(family.arg_constraints)
    other = [args[0], *[2 * x for x in args[1:]]]
    other = prior_class(gpytorch, family)(*other)
    x = family(*args).sample((4,))
    other.load_state_dict(prior.state_dict())
    assert torch.equal(other.log_prob(x), prior.log_prob(x))
    assert prior.double().log_prob(x.double()).dtype == torch.float64


@pytest.mark.slow
def test_a_gaussian_process_is_fitted_with_a_prior_on_its_lengthscale(gpytorch):
    prior = prior_class(gpytorch, GeneralizedGamma)(3.0, 1.5, 0.7)
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(lengthscale_prior=prior))
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    x = torch.linspace(0, 1, 12)

    class Model(gpytorch.models.ExactGP):
        def __init__(self) -> None:
            super().__init__(x, (6 * x).sin(), likelihood)
            self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

    model = Model().train()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = -objective(model(x), model.train_targets)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    kernel.base_kernel.sample_from_prior("lengthscale_prior")
    assert kernel.base_kernel.lengthscale.item() > 0
