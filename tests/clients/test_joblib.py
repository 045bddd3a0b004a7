"""joblib: what is cached by the hash of its arguments."""

import pytest
import torch

from cases import Case, each


@pytest.fixture
def joblib(bring):
    return bring("joblib")


@each()
def test_a_hash_stays_when_the_distribution_is_used(joblib, case: Case):
    dist = case.make()
    before = joblib.hash(dist)
    dist.log_prob(dist.sample())
    dist.mean, dist.variance, repr(dist)
    assert joblib.hash(dist) == before


def test_memory_answers_from_the_cache_and_processes_from_a_dump(joblib, tmp_path):
    from lpnested import ISA

    calls = []

    @joblib.Memory(tmp_path, verbose=0).cache
    def mean_score(dist, x):
        calls.append(1)
        return dist.log_prob(x).mean().item()

    dist, x = ISA([2, 2], 1.1, [2.0, 0.7]), torch.randn(6, 4)
    assert mean_score(dist, x) == mean_score(dist, x)
    assert len(calls) == 1
    joblib.dump(dist, tmp_path / "dist.joblib")
    assert torch.equal(joblib.load(tmp_path / "dist.joblib").log_prob(x), dist.log_prob(x))
