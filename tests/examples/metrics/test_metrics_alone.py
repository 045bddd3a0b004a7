"""The folder of metrics on its own: README's example, one call for all, disentanglement_lib's."""

import doctest
import math
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score
from sklearn.svm import LinearSVC

import metrics
from metrics import disentanglement_lib, score, split_rows, suite

pytestmark = pytest.mark.slow

FOLDER = Path(metrics.__file__).parent
README = FOLDER.parent / "README.md"
SIZES = (2, 3, 4)


@pytest.fixture(scope="module")
def factors():
    return torch.tensor(list(product(*map(range, SIZES)))).repeat(15, 1)


@pytest.fixture(scope="module")
def code(factors):
    """Blurred, with a latent that two factors share, and one of noise."""
    generator = torch.Generator().manual_seed(0)
    x = factors.double()
    mean = torch.stack([x[:, 0] + x[:, 1], x[:, 1], 0.5 * x[:, 2], 0 * x[:, 0]], dim=-1)
    return mean + 0.3 * torch.randn(mean.shape, generator=generator, dtype=torch.float64)


# --- alone ---

ALONE = """
import sys
sys.modules["lpnested"] = None  # an import of it would fail
{example}
parts = {{name.split(".")[0] for name in sys.modules}}
assert not parts & {{"models", "train", "config", "data", "objectives", "render", "scoring"}}
print(*(f"{{name}}={{value}}" for name, value in scores.items()), sep="\\n")
"""


def example():
    """The one in README's section."""
    section = README.read_text(encoding="utf-8").split("## The metrics on their own")[1]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


@pytest.mark.slow
def test_a_copy_of_the_folder_runs_the_example_without_anything_of_ours(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "metrics", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-W", "error", "-c", ALONE.format(example=example())]
    alone = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=") for line in done.stdout.splitlines() if "=" in line)
    assert float(found["mig_quadrature"]) == pytest.approx(1, abs=1e-3)
    assert float(found["factorvae_score_std0.05"]) == 1
    assert {"dci_disentanglement_random_forest_active", "tc_full_data"} <= found.keys()
    assert all(math.isfinite(float(value)) for value in found.values())


# --- one call ---


def test_the_example_of_the_one_call():
    assert doctest.testmod(suite) == doctest.TestResults(failed=0, attempted=4)


def test_one_call_has_what_its_parts_have(code, factors):
    code, names = code.float(), ("shape", "scale", "posX")
    std = torch.full_like(code, 0.3)
    found = score(
        code, factors, std, names=names, mig_factors=names[1:], sizes=(2, 2), preset="light"
    )
    parts = metrics.disentanglement(code, std, factors, names, mig_factors=names[1:])
    assert found.pop("mig_quadrature") == parts.mig
    assert found.pop("mig_quadrature_widened_share") == 0
    assert found.pop("active_units") == 4
    beside = metrics.all_scores(code, std, factors, names, names[1:], (2, 2), 0, heavy=False)
    assert list(found) == list(beside) and found == beside


def test_without_deviations_or_subspaces_there_are_the_scores_that_need_none(code, factors):
    std = torch.full_like(code, 0.3)
    whole = score(code, factors, std, sizes=(2, 2), preset="light")
    no_subspaces = score(code, factors, std, preset="light")
    means_only = score(code, factors, preset="light")
    assert not [name for name in no_subspaces if "subspace" in name]
    assert set(whole) - set(no_subspaces) == {name for name in whole if "subspace" in name}
    missing = set(no_subspaces) - set(means_only)
    assert {re.sub("_(full|standard|widened).*", "", name) for name in missing} == {
        "mig_quadrature",
        "tc",
        "index_code_mi",
    }
    assert all(whole[name] == means_only[name] for name in means_only)


def test_a_constant_factor_is_left_out_unless_it_is_asked_for(code, factors):
    colour = torch.cat([torch.zeros_like(factors[:, :1]), factors], dim=1)
    std, names = torch.full_like(code, 0.3), ("colour", "shape", "scale", "posX")
    plain = score(code, factors, std, names=names[1:], sizes=(2, 2), preset="light")
    assert score(code, colour, std, names=names, sizes=(2, 2), preset="light") == plain
    asked = score(
        code, colour, std, names=names, mig_factors=names[:2], sizes=(2, 2), preset="light"
    )
    assert math.isnan(asked["mig_quadrature"]) and math.isnan(asked["subspace_mig_monte_carlo"])
    assert asked["mig_histogram20"] == plain["mig_histogram20"]


def test_a_preset_that_there_is_not(code, factors):
    with pytest.raises(ValueError, match="full, light or disentanglement_lib, but got 'heavy'"):
        score(code, factors, preset="heavy")


# --- as disentanglement_lib ---


def test_the_settings_are_those_of_its_study():
    assert (disentanglement_lib.TRAIN, disentanglement_lib.TEST) == (10_000, 5_000)
    assert GradientBoostingClassifier().n_estimators == disentanglement_lib.TREES
    assert metrics.PRUNED == 0.05


def test_its_scores_are_those_of_its_definitions(code, factors):
    """Written out with NumPy, SciPy and scikit-learn on the same rows."""
    found = disentanglement_lib.scores(code, factors, seed=3, trees=20)
    rows = split_rows(len(code), torch.Generator().manual_seed(3), 10_000, 5_000)
    (x, y), (x_test, y_test) = ((code[part].numpy(), factors[part].numpy()) for part in rows)

    bins = [np.digitize(c, np.histogram(c, 20)[1][:-1]) for c in x.T]
    m = np.array([[mutual_info_score(v, b) for v in y.T] for b in bins])
    top = np.sort(m, axis=0)[::-1]
    gaps = (top[0] - top[1]) / [mutual_info_score(v, v) for v in y.T]
    assert found["mig.discrete_mig"] == pytest.approx(gaps.mean())
    spread = (np.square(m).sum(1) - np.square(m).max(1)) / (np.square(m).max(1) * 2)
    assert found["modularity_explicitness.modularity_score"] == pytest.approx(1 - spread.mean())

    svm = [
        [
            (
                LinearSVC(C=0.01, class_weight="balanced", random_state=0, max_iter=100_000)
                .fit(x[:, [j]], y[:, k])
                .predict(x_test[:, [j]])
                == y_test[:, k]
            ).mean()
            for k in range(3)
        ]
        for j in range(4)
    ]
    top = np.sort(svm, axis=0)[::-1]
    assert found["sap_score.SAP_score"] == pytest.approx((top[0] - top[1]).mean(), abs=0.01)

    models = [GradientBoostingClassifier(n_estimators=20, random_state=3).fit(x, v) for v in y.T]
    r = np.stack([model.feature_importances_ for model in models], axis=1)
    by_latent, by_factor = 1 - entropy(r.T, base=3), 1 - entropy(r, base=4)
    assert found["dci.disentanglement"] == pytest.approx(by_latent @ r.sum(1) / r.sum(), abs=1e-6)
    assert found["dci.completeness"] == pytest.approx(by_factor @ r.sum(0) / r.sum(), abs=1e-6)
    for name, a, b in (("train", x, y), ("test", x_test, y_test)):
        right = [(model.predict(a) == v).mean() for model, v in zip(models, b.T, strict=True)]
        assert found[f"dci.informativeness_{name}"] == pytest.approx(np.mean(right))
    assert 0.5 < found["factor_vae_metric.eval_accuracy"] <= 1


def test_the_preset_asks_for_them(code, factors, monkeypatch):
    asked = []
    monkeypatch.setattr(disentanglement_lib, "scores", lambda *a: asked.append(a) or {"x": 1.0})
    colour = torch.cat([torch.zeros_like(factors[:, :1]), factors], dim=1)
    assert score(code.numpy(), colour, preset="disentanglement_lib", seed=5) == {"x": 1.0}
    ((mean, kept, seed),) = asked
    assert mean.equal(code) and kept.equal(factors) and seed == 5
