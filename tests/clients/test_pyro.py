"""Pyro: the classes of lpnested.pyro where Pyro's users meet them."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence
from torch.testing import assert_close

pytestmark = pytest.mark.slow

SIZES = [2, 3]


@pytest.fixture
def pyro(bring) -> Iterator[ModuleType]:
    pyro = bring("pyro")
    bring("pyro.infer.autoguide")
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    pyro.enable_validation(True)
    yield pyro
    pyro.clear_param_store()


def isa(p0: float | Tensor = 2.1, p: float | Tensor = 2.2) -> Distribution:
    from lpnested.pyro import ISA

    return ISA(SIZES, p0, p)


def test_pyro_classes_are_the_core_classes_that_pyro_knows(pyro: ModuleType) -> None:
    from pyro.distributions.torch_distribution import TorchDistributionMixin

    import lpnested
    import lpnested.pyro as ours

    for name in ("LpNested", "ISA", "LpSpherical", "GeneralizedNormal", "GeneralizedGamma"):
        assert issubclass(getattr(ours, name), (getattr(lpnested, name)))
        assert issubclass(getattr(ours, name), TorchDistributionMixin)


def test_pyro_classes_have_the_same_log_prob_and_pickle(pyro: ModuleType) -> None:
    import lpnested

    x = torch.randn(4, 5)
    dist = isa()
    assert torch.equal(dist.log_prob(x), lpnested.ISA(SIZES, 2.1, 2.2).log_prob(x))
    twin = pickle.loads(pickle.dumps(dist))
    assert type(twin) is type(dist)
    assert torch.equal(twin.log_prob(x), dist.log_prob(x))


def test_pyro_shape_methods_keep_the_class(pyro: ModuleType) -> None:
    dist = isa(p0=torch.tensor([1.5, 2.5]))
    assert type(dist.expand((3, 2))) is type(dist)
    assert dist.expand_by((3,)).batch_shape == (3, 2)
    assert dist.to_event(1).event_shape == (2, 5)
    assert dist.mask(False).log_prob(torch.zeros(2, 5)).abs().sum() == 0
    assert dist().shape == (2, 5)
    assert dist.shape((4,)) == (4, 2, 5)


def test_pyro_sample_in_a_plate_scores_every_row(pyro: ModuleType) -> None:
    def model() -> None:
        with pyro.plate("rows", 7):
            pyro.sample("z", isa())

    trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["z"]["value"].shape == (7, 5)
    assert trace.nodes["z"]["log_prob"].shape == (7,)
    assert_close(trace.nodes["z"]["log_prob"], isa().log_prob(trace.nodes["z"]["value"]))


@pytest.mark.slow
def test_pyro_svi_learns_the_exponents_of_data(pyro: ModuleType) -> None:
    """It comes down to the loss of the truth. (The second p is learned slowly.)"""
    truth = isa(p0=1.0, p=torch.tensor([1.0, 3.0]))
    data = truth.sample((2000,))
    positive = torch.distributions.constraints.positive

    def model() -> None:
        p0 = pyro.param("p0", torch.tensor(2.0), constraint=positive)
        p = pyro.param("p", torch.tensor([2.0, 2.0]), constraint=positive)
        with pyro.plate("rows", len(data)):
            pyro.sample("z", isa(p0, p), obs=data)

    svi = pyro.infer.SVI(
        model, lambda: None, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO()
    )
    losses = [svi.step() for _ in range(120)]
    best = -truth.log_prob(data).sum().item()
    assert losses[0] > best + 1000
    assert losses[-1] < best + 10
    assert_close(pyro.param("p0").detach(), torch.tensor(1.0), rtol=0.0, atol=0.1)
    assert_close(pyro.param("p").detach()[0], torch.tensor(1.0), rtol=0.0, atol=0.2)


def test_pyro_svi_with_isa_as_prior_and_a_normal_guide(pyro: ModuleType) -> None:
    def model() -> None:
        z = pyro.sample("z", isa())
        pyro.sample("x", pyro.distributions.Normal(z, 0.1).to_event(1), obs=torch.ones(5))

    guide = pyro.infer.autoguide.AutoNormal(model)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO())
    for _ in range(250):
        svi.step()
    assert_close(guide.median()["z"], torch.ones(5), rtol=0.0, atol=0.1)


def test_pyro_score_function_serves_a_nested_guide(pyro: ModuleType) -> None:
    """No rsample: Trace_ELBO takes the score-function gradient by itself."""

    def model() -> None:
        pyro.sample("z", isa())

    def guide() -> None:
        p0 = pyro.param(
            "p0", torch.tensor(1.2), constraint=torch.distributions.constraints.positive
        )
        pyro.sample("z", isa(p0=p0))

    loss = pyro.infer.Trace_ELBO(num_particles=50, vectorize_particles=False)
    loss.loss_and_grads(model, guide)
    (parameter,) = [p.unconstrained() for p in (pyro.param("p0"),)]
    assert parameter.grad is not None and parameter.grad.isfinite() and parameter.grad != 0


@pytest.mark.slow
def test_pyro_nuts_recovers_the_variance_of_the_prior(pyro: ModuleType) -> None:
    kernel = pyro.infer.NUTS(lambda: pyro.sample("z", isa()), step_size=0.5)
    mcmc = pyro.infer.MCMC(kernel, num_samples=150, warmup_steps=50, disable_progbar=True)
    mcmc.run()
    z = mcmc.get_samples()["z"]
    assert z.shape == (150, 5)
    assert_close(z.var(0).mean(), isa().variance.mean(), rtol=0.3, atol=0.0)


# What is derived ---------------------------------------------------------------------------------


def derived() -> dict[str, Distribution]:
    import lpnested
    from lpnested.pyro import ISA, GeneralizedGamma, LpNested

    p0 = torch.tensor([1.5, 2.5])
    dist = ISA(SIZES, p0, 2.2)
    tree = lpnested.LpNestedTree(((0, (1, 2)), 3))
    nested = LpNested(tree, [1.5, 2.0, 0.8], GeneralizedGamma(4, 1.5))
    return {
        "radial": dist.radial,
        "subspace": dist.subspaces[1],
        "radial of a subspace": dist.subspaces[1].radial,
        "marginal": dist.marginal(1),
        "marginal of the root": nested.marginal(nested.tree.root),
        "marginal of a marginal": nested.marginal((0, (1, 2))).marginal((0, (1, 2))),
        "radial of a marginal": dist.marginal(1).radial,
        "subspace of unit variance": ISA.unit_variance(SIZES, p0, 2.2).subspaces[0],
        "subspace of an expanded": dist.expand((3, 2)).subspaces[0],
        "marginal of a twin": pickle.loads(pickle.dumps(dist)).marginal(2),
    }


def test_pyro_samples_what_is_derived(pyro: ModuleType) -> None:
    from pyro.distributions.torch_distribution import TorchDistributionMixin

    import lpnested.pyro as ours

    for name, dist in derived().items():
        assert isinstance(dist, TorchDistributionMixin), name
        assert type(dist) is getattr(ours, type(dist).__name__), name
        x = pyro.sample("x", dist)
        assert x.shape == dist.batch_shape + dist.event_shape, name
        assert dist.to_event(len(dist.batch_shape)).log_prob(x).isfinite(), name


def test_pyro_derives_the_same_distributions_as_the_core(pyro: ModuleType) -> None:
    import lpnested

    dist, core = isa(), lpnested.ISA(SIZES, 2.1, 2.2)
    x = torch.randn(4, 5)
    for k, part in enumerate((x[:, :2], x[:, 2:])):
        expected = core.subspaces[k].log_prob(part)
        assert torch.equal(dist.subspaces[k].log_prob(part), expected)
        assert torch.equal(dist.marginal(k + 1).log_prob(part), expected)
    assert torch.equal(dist.radial.log_prob(x.abs()), core.radial.log_prob(x.abs()))


def test_pyro_model_of_subspaces_scores_as_the_whole(pyro: ModuleType) -> None:
    """A plate for the rows, and a site for each independent subspace."""

    def model() -> Tensor:
        with pyro.plate("rows", 6):
            parts = [pyro.sample(f"z{k}", part) for k, part in enumerate(isa().subspaces)]
        return torch.cat(parts, -1)

    trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    score = trace.nodes["z0"]["log_prob"] + trace.nodes["z1"]["log_prob"]
    assert_close(score, isa().log_prob(trace.nodes["_RETURN"]["value"]))


def test_pyro_plates_of_two_dimensions_and_vectorised_particles(pyro: ModuleType) -> None:
    """`sample_shape` reaches a site from the left, under its plates."""

    def model() -> Tensor:
        with pyro.plate("columns", 3, dim=-1), pyro.plate("rows", 4, dim=-2):
            return pyro.sample("z", isa().subspaces[0])

    assert model().shape == (4, 3, 2)
    with pyro.plate("particles", 5, dim=-3):
        trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["z"]["log_prob"].shape == (5, 4, 3)
    predictive = pyro.infer.Predictive(model, num_samples=5, parallel=True)
    assert predictive()["z"].shape == (5, 4, 3, 2)


def test_pyro_masks_and_conditions_rows(pyro: ModuleType) -> None:
    x, mask = torch.randn(4, 5), torch.tensor([True, False, True, False])

    def model() -> None:
        with pyro.plate("rows", 4), pyro.poutine.mask(mask=mask):
            pyro.sample("z", isa())

    trace = pyro.poutine.trace(pyro.poutine.condition(model, {"z": x})).get_trace()
    assert_close(trace.log_prob_sum(), isa().log_prob(x)[mask].sum())


def test_pyro_divergences_are_those_of_the_core(pyro: ModuleType) -> None:
    import lpnested

    expected = kl_divergence(lpnested.ISA(SIZES, 2.1, 2.2), lpnested.ISA(SIZES, 1.5, 2.2))
    assert torch.equal(kl_divergence(isa(), isa(p0=1.5)), expected)
    first, second = (dist.subspaces[0] for dist in (isa(), isa(p0=1.5)))
    expected = kl_divergence(*(lpnested.ISA(SIZES, p0, 2.2).subspaces[0] for p0 in (2.1, 1.5)))
    assert torch.equal(kl_divergence(first, second), expected)


def test_pyro_learns_the_scale_of_a_radial_in_a_guide(pyro: ModuleType) -> None:
    """The site of a derived distribution takes part in SVI: a step moves its parameter."""
    from lpnested.pyro import ISA

    def model() -> None:
        pyro.sample("r", isa().radial)

    def guide() -> None:
        scale = pyro.param("scale", torch.tensor(3.0), constraint=constraints.positive)
        pyro.sample("r", ISA(SIZES, 2.1, 2.2, scale).radial)  # pathwise, as its has_rsample says

    elbo = pyro.infer.Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=0)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), elbo)
    for _ in range(150):
        svi.step()
    assert_close(pyro.param("scale").detach(), torch.tensor(1.0), rtol=0.0, atol=0.1)


@pytest.mark.slow
def test_without_pyro_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['pyro'] = None; import lpnested.pyro"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError" in done.stderr and "pip install 'lpnested[pyro]'" in done.stderr
