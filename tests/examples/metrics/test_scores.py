"""The further scores on codes whose answers are known."""

import math
import sys
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, mutual_info_score

from metrics.factorvae import factorvae_score, fixed_batches
from metrics.histogram import (
    binned,
    discrete_information,
    histogram_disentanglement,
    mig_histogram,
    modularity,
)
from metrics.sap_dci import (
    balanced_accuracy,
    concentration,
    dci,
    linear_svm,
    nearest_mean,
    sap,
    split_rows,
)
from metrics.suite import all_scores

pytestmark = pytest.mark.slow

SIZES = (2, 3, 4, 4)
FACTORS = ("shape", "scale", "posX", "posY")
MIG_FACTORS = FACTORS[1:]
CHANCE = sum(1 / size for size in SIZES) / len(SIZES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def classes():
    """All combinations of four factors, twenty times: (1920, 4)."""
    return torch.tensor(list(product(*map(range, SIZES)))).repeat(20, 1)


@pytest.fixture(scope="module")
def rows(classes):
    return split_rows(len(classes), generator(1))


@pytest.fixture(scope="module")
def perfect(classes):
    """A latent for each factor, of variance 1, and four of noise."""
    return torch.cat([scaled(classes), noise(len(classes), 4)], dim=1)


@pytest.fixture(scope="module")
def rotated(perfect):
    """The latents of posX and posY turned by 45 degrees."""
    code = perfect.clone()
    code[:, 2], code[:, 3] = perfect[:, 2] + perfect[:, 3], perfect[:, 2] - perfect[:, 3]
    return code


@pytest.fixture(scope="module")
def entangled(perfect):
    """Each latent the sum of all factors, with signs that make the latents uncorrelated."""
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    return perfect[:, :4] @ signs.double()


@pytest.fixture(scope="module")
def disguised(perfect):
    """The same latents in another order, with other signs and scales (powers of 2: exact)."""
    return perfect[:, [7, 2, 5, 0, 1, 3, 6, 4]] * torch.tensor([1, -2, 4, 8, -1, 2, 16, 2.0])


def scaled(classes):
    centred = classes.double() - classes.double().mean(0)
    return centred / centred.std(0)


def noise(count, latents, seed=3):
    return torch.randn(count, latents, generator=generator(seed), dtype=torch.float64)


# --- histogram ---


def test_discrete_information_agrees_with_scikit_learn(classes):
    code = noise(len(classes), 1, seed=4)[:, 0] + classes[:, 2]
    array = code.numpy()
    expected_bins = np.digitize(array, np.histogram(array, 20)[1][:-1]) - 1
    assert (binned(code).numpy() == expected_bins).all()
    assert binned(code).max() == 19
    for column in classes.T:
        found = float(discrete_information(binned(code), column))
        assert found == pytest.approx(mutual_info_score(column.numpy(), expected_bins), abs=1e-9)


def test_histogram_gap_of_known_codes(perfect, rotated, disguised, entangled, classes):
    exact = scaled(classes)
    assert mig_histogram(exact, classes) == pytest.approx(1, abs=1e-9)
    assert mig_histogram(exact.repeat(1, 2), classes) == pytest.approx(0, abs=1e-9)
    assert mig_histogram(torch.ones(len(classes), 3), classes) == 0
    assert mig_histogram(exact[:, :1], classes[:, :1]) == pytest.approx(1)  # a single latent
    assert mig_histogram(disguised, classes) == pytest.approx(mig_histogram(perfect, classes))
    # Turned, both know the same of posX and of posY: their gaps close, the others stay.
    turned = histogram_disentanglement(rotated, classes, FACTORS).gaps
    assert turned["posX"] == pytest.approx(0, abs=1e-9)
    assert turned["scale"] > 0.95
    assert mig_histogram(entangled, classes) < 0.02


def test_histogram_gap_is_over_the_factors_named(classes):
    code = scaled(classes)[:, [0, 0, 2, 3]]  # nothing of scale, shape twice
    found = histogram_disentanglement(code, classes, FACTORS, mig_factors=("posX", "scale"))
    assert found.mig == pytest.approx(0.5)
    assert histogram_disentanglement(code, classes, FACTORS).mig == pytest.approx(0.5)
    fixed = classes.clone()
    fixed[:, 1] = 0
    assert math.isnan(histogram_disentanglement(code, fixed, FACTORS).mig)


def test_twenty_bins_hold_no_more_than_log_20():
    column = torch.arange(40).repeat(10)[:, None]
    assert mig_histogram(column.double(), column) == pytest.approx(math.log(20) / math.log(40))
    assert mig_histogram(column.double(), column, bins=40) == pytest.approx(1)


def test_noise_seems_to_know_as_much_as_its_bias():
    column = torch.arange(4).repeat(1000)[:, None]
    uniform = torch.rand(4000, 50, generator=generator(5))
    found = histogram_disentanglement(uniform, column, ("v",)).information.mean()
    assert float(found) == pytest.approx(19 * 3 / (2 * 4000), rel=0.1)


def test_modularity_of_known_matrices():
    assert modularity(torch.eye(3)) == 1
    assert modularity(torch.ones(3, 3)) == 0
    assert modularity(torch.tensor([[2.0, 1, 0]])) == pytest.approx(1 - 1 / 8)
    assert modularity(torch.tensor([[0, 5.0], [0, 0]])) == 0.5  # one that knows nothing
    assert math.isnan(modularity(torch.zeros(0, 3)))


def test_modularity_of_known_codes(classes, rotated, entangled):
    def of(code):
        return modularity(histogram_disentanglement(code, classes, FACTORS).information)

    assert of(scaled(classes)) == pytest.approx(1)
    assert of(scaled(classes).repeat(1, 2)) == pytest.approx(1)  # copies are modular
    # Turned, two of four latents know two of the four factors alike: each has 1 - 1/3.
    assert of(rotated[:, :4]) == pytest.approx((1 + 1 + 2 / 3 + 2 / 3) / 4)
    assert of(entangled) < 0.9


# --- SAP ---


def test_nearest_mean_is_the_nearest_mean():
    g = generator(6)
    value = torch.randint(7, (500,), generator=g)
    value[value == 3] = 4  # one that never occurs
    x = torch.randn(500, generator=g).double() + 2 * torch.randn(7, generator=g).double()[value]
    means = torch.stack([x[value == v].mean() for v in range(7)])  # NaN for it
    test = torch.linspace(x.min(), x.max(), 400).double()
    expected = (test[:, None] - means).abs().nan_to_num(math.inf).argmin(1)
    assert nearest_mean(x, value, test, expected) == 1.0
    other = torch.randint(7, (400,), generator=g)
    score = balanced_accuracy_score(other.numpy(), expected.numpy())
    assert nearest_mean(x, value, test, other) == pytest.approx(score)
    assert balanced_accuracy(expected, other) == pytest.approx(score)


def test_sap_of_known_codes(perfect, disguised, rotated, classes, rows):
    best = sap(perfect, classes, rows, nearest_mean)
    assert best == pytest.approx(1 - CHANCE, abs=0.06)
    assert sap(disguised, classes, rows, nearest_mean) == pytest.approx(best)
    assert sap(perfect[:, :4].repeat(1, 2), classes, rows, nearest_mean) == 0
    assert sap(noise(len(classes), 8), classes, rows, nearest_mean) < 0.05
    # Turned, posX and posY have no latent of their own any more: half of the gaps close.
    lost = (3 / 4 + 3 / 4) / 4
    assert sap(rotated, classes, rows, nearest_mean) == pytest.approx(best - lost, abs=0.06)


def test_a_latent_alone_leads_chance(perfect, classes, rows):
    shape = classes[:, :1]
    assert sap(perfect[:, :1], shape, rows, nearest_mean) == pytest.approx(0.5)
    constant = torch.cat([perfect[:, :1], torch.full((len(classes), 2), 0.1)], dim=1)
    assert sap(constant, shape, rows, nearest_mean) == pytest.approx(0.5)
    assert sap(constant[:, 1:], shape, rows, nearest_mean) == 0


def test_sap_by_linear_svm(perfect, disguised, classes, rows):
    two, four = classes[:, :1], classes[:, 2:3]
    assert sap(perfect, two, rows, linear_svm) == pytest.approx(0.5, abs=0.05)
    assert sap(disguised, two, rows, linear_svm) == pytest.approx(
        sap(perfect, two, rows, linear_svm)
    )
    assert sap(perfect[:, :4].repeat(1, 2), classes, rows, linear_svm) == 0
    assert sap(perfect, four, rows, linear_svm) == pytest.approx(0.75, abs=0.05)


def test_a_linear_svm_finds_two_of_many_values():
    value = torch.arange(8).repeat(200)
    x = scaled(value)
    assert linear_svm(x, value, x, value) == 2 / 8
    assert nearest_mean(x, value, x, value) == 1


def test_sap_of_an_entangled_code(entangled, classes, rows):
    assert sap(entangled, classes, rows, nearest_mean) < 0.05


def test_sap_of_a_factor_that_never_varies(perfect, classes, rows):
    assert math.isnan(sap(perfect, torch.zeros_like(classes), rows, nearest_mean))


def test_rows_to_learn_from_and_to_test_on():
    train, test = split_rows(100, generator(), 50, 20)
    assert (len(train), len(test)) == (50, 20)
    assert not set(train.tolist()) & set(test.tolist())
    assert [len(part) for part in split_rows(90, generator(), 80, 20)] == [60, 30]


# --- DCI ---


def test_concentration_of_known_matrices():
    assert concentration(torch.eye(4)) == pytest.approx(1)
    assert concentration(torch.ones(3, 4)) == pytest.approx(0, abs=1e-6)
    assert concentration(torch.zeros(3, 4)) == 0
    # Rows of weight 3 and 1: the first mixes two of four evenly, the second has one.
    mixed = torch.tensor([[1.5, 1.5, 0, 0], [0, 0, 0, 1.0], [0, 0, 0, 0]])
    assert concentration(mixed) == pytest.approx((3 * 0.5 + 1 * 1) / 4)
    assert math.isnan(concentration(torch.ones(3, 1)))


def test_dci_of_known_codes(perfect, disguised, classes, rows):
    found = dci(perfect, classes, rows, seed=0)
    assert found.disentanglement > 0.98
    assert found.completeness > 0.98
    assert found.informativeness == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(found.importance[:4], torch.eye(4).double(), atol=0.02, rtol=0)
    again = dci(disguised, classes, rows, seed=0)
    assert again.disentanglement == pytest.approx(found.disentanglement, abs=0.01)
    assert again.completeness == pytest.approx(found.completeness, abs=0.01)
    assert dci(perfect, classes, rows, seed=0).importance.equal(found.importance)


def test_dci_of_a_turned_code(rotated, classes, rows):
    found = dci(rotated[:, :4], classes, rows, seed=0)
    # Two latents share two of four factors: 1 - log 2 / log 4 for half of the weight.
    assert found.disentanglement == pytest.approx(0.75, abs=0.03)
    assert found.completeness == pytest.approx(0.75, abs=0.03)
    assert found.informativeness == pytest.approx(1, abs=1e-3)


def test_dci_of_an_entangled_code(entangled, classes, rows):
    found = dci(entangled, classes, rows, seed=0)
    assert found.disentanglement < 0.2
    assert found.completeness < 0.2
    assert found.informativeness > 0.9  # it is all there


def test_dci_of_copies(perfect, classes, rows):
    constant = torch.full((len(classes), 1), 3.0)
    copies = torch.cat([perfect[:, :4].repeat(1, 2), constant], dim=1)
    found = dci(copies, classes, rows, seed=0, trees=30)
    assert found.disentanglement > 0.98
    assert found.completeness == pytest.approx(1 - math.log(2) / math.log(9), abs=0.05)
    assert found.importance[8].tolist() == [0, 0, 0, 0]


def test_dci_of_all_latents_counts_noise_and_that_of_active_ones_does_not(
    classes, rows, monkeypatch
):
    monkeypatch.setattr("metrics.suite.HEAVY_DRAWS", 10)
    blurred = scaled(classes) + 0.5 * noise(len(classes), 4, seed=5)
    code = torch.cat([blurred, 0.03 * noise(len(classes), 8)], dim=1)
    importance = dci(code, classes, rows, seed=0).importance
    assert 0.1 < importance[4:].sum() / importance.sum() < 0.25  # of latents that know nothing

    def scores(code):
        found = all_scores(
            code, torch.ones_like(code), classes, FACTORS, MIG_FACTORS, [1] * code.shape[1], seed=0
        )
        return {name: x for name, x in found.items() if name.startswith("dci")}

    with_noise, without = scores(code), scores(blurred)
    for name in ("disentanglement", "completeness", "informativeness"):
        of_active = with_noise[f"dci_{name}_random_forest_active"]
        assert of_active == without[f"dci_{name}_random_forest"]
        assert of_active != with_noise[f"dci_{name}_random_forest"]


def test_dci_of_noise(classes, rows):
    found = dci(noise(len(classes), 8), classes, rows, seed=0)
    assert found.informativeness == pytest.approx(CHANCE, abs=0.05)
    assert found.disentanglement < 0.1
    assert found.completeness < 0.1


# --- FactorVAE score ---


def vote(mean, classes, seed=7):
    return factorvae_score(mean, classes, generator(seed), train=1000, test=1000)


def test_majority_vote_of_known_codes(perfect, rotated, disguised, entangled, classes):
    assert vote(perfect, classes) == 1
    assert vote(disguised, classes) == 1
    assert vote(perfect[:, :4].repeat(1, 2), classes) == 1  # a vote for either copy is right
    assert vote(noise(len(classes), 8), classes) == pytest.approx(1 / 4, abs=0.06)
    assert vote(entangled, classes) == pytest.approx(1 / 4, abs=0.1)
    # Turned, posX and posY cannot be told apart, scale and shape can.
    assert vote(rotated, classes) == pytest.approx(0.75, abs=0.05)


def test_majority_vote_does_not_depend_on_scale_nor_order(rotated, classes):
    score = vote(rotated, classes)
    assert score < 1
    assert vote(4 * rotated, classes) == score
    assert vote(rotated.flip(1), classes) == score


@pytest.mark.parametrize(("deviation", "right"), [(0.04, 0), (0.06, 1), (0.1, 1), (0.2, 1)])
def test_latents_have_a_vote_from_a_standard_deviation_of_005_on(
    perfect, classes, deviation, right
):
    small = torch.cat([deviation * perfect[:, :4], perfect[:, 4:]], dim=1)
    found = vote(small, classes)
    assert found == 1 if right else found < 0.4
    assert vote(torch.zeros(len(classes), 3), classes) == 0


def test_majority_vote_is_that_of_the_definition(rotated, classes):
    """Written out with NumPy: the votes of single batches, over their whole variances."""
    code = (rotated + 0.7 * noise(len(classes), 8, seed=9)).numpy() * np.geomspace(0.1, 3, 8)
    code, labels, draws = code, classes.numpy(), np.random.default_rng(0)

    def votes(batches):
        count = np.zeros((8, 4))
        for b in range(batches):
            k = b % 4
            like = np.flatnonzero(labels[:, k] == labels[draws.integers(len(labels)), k])
            rows = draws.choice(like, 64)
            count[np.argmin(code[rows].var(0, ddof=1) / code.var(0, ddof=1)), k] += 1
        return count

    learned = votes(2000).argmax(1)
    tested = votes(2000)
    expected = tested[np.arange(8), learned].sum() / tested.sum()
    found = factorvae_score(code, labels, generator(7), train=2000, test=2000)
    assert 0.3 < expected < 0.95
    assert found == pytest.approx(expected, abs=5 * math.sqrt(2 * 0.25 / 2000))


def test_batches_agree_in_a_factor_and_in_nothing_else(classes):
    batches = fixed_batches(classes[:, 2], 400, 64, generator(8))
    assert batches.shape == (400, 64)
    assert (classes[batches][..., 2] == classes[batches][:, :1, 2]).all()
    for k, size in enumerate(SIZES):
        share = torch.bincount(classes[batches][..., k].flatten()) / batches.numel()
        torch.testing.assert_close(share, torch.full((size,), 1 / size), atol=0.09, rtol=0)


# --- all of them ---


@pytest.fixture(scope="module")
def few_draws():
    patch = pytest.MonkeyPatch()
    patch.setattr("metrics.suite.HEAVY_DRAWS", 100)
    yield
    patch.undo()


@pytest.mark.usefixtures("few_draws")
def test_all_scores_of_a_perfect_code(perfect, classes):
    std = torch.full(perfect.shape, 0.01)
    std[:, 4:] = 1.0
    heavy = all_scores(perfect, std, classes, FACTORS, MIG_FACTORS, (1, 1, 1, 1, 4), seed=0)
    light = all_scores(
        perfect, std, classes, FACTORS, MIG_FACTORS, (1, 1, 1, 1, 4), seed=0, heavy=False
    )
    assert set(heavy) - set(light) == {
        "sap_linear_svm",
        "dci_disentanglement_random_forest",
        "dci_completeness_random_forest",
        "dci_informativeness_random_forest",
        "dci_disentanglement_random_forest_active",
        "dci_completeness_random_forest_active",
        "dci_informativeness_random_forest_active",
    }
    assert set(light) <= set(heavy)
    for scores in (heavy, light):
        assert scores["mig_histogram20"] > 0.95
        assert scores["mig_histogram20_mig_factors"] > 0.95
        assert scores["modularity_histogram20_active"] <= 1
        assert scores["factorvae_score_std0.05"] == 1
        assert scores["sap_nearest_mean"] == pytest.approx(1 - CHANCE, abs=0.06)
        assert scores["tc_full_data"] == pytest.approx(
            scores["tc_between_subspaces_full_data"] + scores["tc_within_subspaces_full_data"],
            abs=1e-3,
        )
        assert all(type(value) is float for value in scores.values())
    assert heavy["dci_disentanglement_random_forest"] > 0.95


def test_scores_are_a_function_of_the_seed(entangled, classes):
    std = torch.full(entangled.shape, 0.3)

    def scores(seed):
        return all_scores(entangled, std, classes, FACTORS, MIG_FACTORS, (2, 2), seed, heavy=False)

    first = scores(0)
    assert first == scores(0)
    assert first["tc_full_data"] != scores(1)["tc_full_data"]
    assert first["mig_histogram20"] == scores(1)["mig_histogram20"]


RANDOM = ("subspace_mig_random_groupings", "subspace_mig_share_of_random_groupings_as_high")


def test_random_groupings_change_no_other_score(entangled, classes, monkeypatch):
    std = torch.full(entangled.shape, 0.3)
    arguments = (entangled, std, classes, FACTORS, MIG_FACTORS, (2, 2), 0)
    found = all_scores(*arguments, heavy=False)
    monkeypatch.setattr("metrics.suite.GROUPINGS", 3)
    fewer = all_scores(*arguments, heavy=False)
    changed = {name for name in found if found[name] != fewer[name]}
    assert changed <= {*RANDOM, f"{RANDOM[0]}_standard_error"}
    assert list(found) == list(fewer)


def test_random_groupings_tell_lumps_from_subspaces(perfect, classes):
    std = torch.full(perfect.shape, 0.01)
    std[:, 4:] = 1.0
    axes = all_scores(perfect, std, classes, FACTORS, MIG_FACTORS, (4, 4), 0, heavy=False)
    assert axes["subspace_mig_monte_carlo"] > 0.95
    assert axes[RANDOM[0]] == pytest.approx(axes["subspace_mig_monte_carlo"], abs=0.01)
    # Where there is one grouping only, the draws are all that could tell it from the model's own.
    blurred = torch.full(perfect.shape, 0.7)
    one = all_scores(perfect, blurred, classes, FACTORS, MIG_FACTORS, (1,) * 8, 0, heavy=False)
    assert 0.05 < one["subspace_mig_monte_carlo"] < 0.9
    assert one[RANDOM[0]] == pytest.approx(one["subspace_mig_monte_carlo"], abs=1e-5)
    assert one[RANDOM[1]] == 1
    # The bits of posX in the two latents of a subspace, those of posY in another one's.
    _, scale, x, y = classes.double().T
    code = torch.stack([x % 2, x // 2, y % 2, y // 2, scale, torch.zeros_like(x)], dim=-1)
    std = torch.full(code.shape, 0.05)
    own = all_scores(code, std, classes, FACTORS, MIG_FACTORS, (2, 2, 2), 0, heavy=False)
    assert own["subspace_mig_monte_carlo"] > own[RANDOM[0]] + 0.3
    assert own[RANDOM[1]] == 0


def test_random_groupings_of_a_part_are_named_by_it(perfect, classes):
    std = torch.full(perfect.shape, 0.1)
    arguments = (perfect, std, classes, FACTORS, MIG_FACTORS, (4, 4), 0)
    part = all_scores(*arguments, heavy=False, whole=False)
    names = {name for name in part if "random_groupings" in name}
    end = "_of_1920_rows"
    expected = {f"{RANDOM[0]}{end}", f"{RANDOM[0]}{end}_standard_error", f"{RANDOM[1]}{end}"}
    assert names == expected


def test_a_factor_that_never_varies_is_left_out(perfect, classes):
    std = torch.full(perfect.shape, 0.1)
    names = ("colour", *FACTORS)
    colour = torch.cat([torch.full((len(classes), 1), 3), classes], dim=1)

    def scores(mig_factors):
        return all_scores(perfect, std, colour, names, mig_factors, (4, 4), 0, heavy=False)

    found = scores(MIG_FACTORS)
    plain = all_scores(perfect, std, classes, FACTORS, MIG_FACTORS, (4, 4), 0, heavy=False)
    assert found == plain
    undefined = scores(("colour", "posX"))
    missing = {name for name, value in undefined.items() if value is None}
    assert missing == {
        "mig_histogram20_mig_factors",
        "subspace_mig_monte_carlo",
        "subspace_mig_monte_carlo_standard_error",
        "subspace_mig_random_groupings",
        "subspace_mig_random_groupings_standard_error",
        "subspace_mig_share_of_random_groupings_as_high",
    }
    with pytest.raises(ValueError, match="none of the factors colour varies"):
        all_scores(perfect, std, colour[:, :1], ("colour",), (), (4, 4), 0, heavy=False)


def test_scikit_learn_is_for_the_heavy_scores_only(perfect, classes, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr("metrics.suite.HEAVY_DRAWS", 10)
    std = torch.full(perfect.shape, 0.1)
    arguments = (perfect, std, classes, FACTORS, MIG_FACTORS, (4, 4), 0)
    assert all_scores(*arguments, heavy=False)["factorvae_score_std0.05"] == 1
    with pytest.raises(ImportError, match=r"pip install 'lpnested\[examples\]'"):
        all_scores(*arguments)
