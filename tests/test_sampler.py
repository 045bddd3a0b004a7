"""The compiled sampler and torch's Gamma in its place: laws, seeds, threads, tracers, edges.

Seeds are fixed, so a pass stays a pass until the sampler changes.
"""

import math
from collections.abc import Iterator

import mpmath as mp
import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.testing import assert_close

from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree
from lpnested import functional as F
from lpnested.ops import draw_calls, library, sampling

f32, f64 = torch.float32, torch.float64
ALPHA = 1e-4
TREES = {
    "isa": LpNestedTree.isa([4] * 5),
    "ragged": LpNestedTree(((3, (0, 5)), 1, (2, 4))),
    "one_child": LpNestedTree((((2,),), (0, (1, 3)))),
    "line": LpNestedTree.flat(1),
}
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
each_dtype = pytest.mark.parametrize("dtype", [f32, f64], ids=str)
compiled = pytest.mark.skipif(not library.in_use(), reason="no compiled kernels here")


@pytest.fixture(params=[pytest.param("kernel", marks=compiled), "torch"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with library.using("off" if request.param == "torch" else library.in_use()):
        yield request.param


@pytest.fixture
def any_threads(one_thread: None) -> None:
    """A test may set the number of threads: it is put back."""


def log_gamma(a: float, count: int, dtype: torch.dtype) -> np.ndarray:
    return sampling.log_gamma(torch.tensor(a, dtype=f64), (count,), dtype).numpy()


def exponents_of(tree: LpNestedTree, p: float, dtype: torch.dtype = f32) -> Tensor:
    return p + 0.3 * torch.arange(tree.num_nodes, dtype=dtype)


def seed_of(number: int) -> Tensor:
    return torch.tensor([number])


# Gamma variables --------------------------------------------------------------------------------


def goodness(counts: np.ndarray, edges: np.ndarray, draws: np.ndarray) -> None:
    counts += np.bincount(np.searchsorted(edges, draws), minlength=len(counts))


def tail_edges(a: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges of log G at a thousand quantiles and far in both tails, and the mass between them."""
    law, tail = scipy.stats.gamma(a), np.array([1e-5, 3e-5, 1e-4, 3e-4])
    low = np.concatenate([tail, np.arange(1, 500) / 1000])
    edges = np.concatenate([law.ppf(low), law.ppf([0.5]), law.isf(low[::-1])])
    mass = np.diff(np.concatenate([[0], low, [0.5], 1 - low[::-1], [1]]))
    mass[-len(low) :] = -np.diff(np.concatenate([low[::-1], [0]]))
    return np.log(edges), mass


@pytest.mark.slow
@each_dtype
@pytest.mark.parametrize("a", [0.05, 1 / 2.2, 1.0, 2.9, 50.0, 1e4])
def test_gamma_draws_pass_goodness_of_fit(a: float, dtype: torch.dtype, backend: str) -> None:
    count = 10**6 if backend == "kernel" else 10**5
    edges, mass = tail_edges(a)
    counts = np.zeros(len(mass))
    draws = log_gamma(a, count, dtype)
    goodness(counts, edges, draws)
    kept = mass * count > 5
    expected = mass[kept] / mass[kept].sum() * counts[kept].sum()
    assert scipy.stats.chisquare(counts[kept], expected).pvalue > ALPHA
    assert scipy.stats.kstest(np.exp(draws[:200_000]), scipy.stats.gamma(a).cdf).pvalue > ALPHA


@pytest.mark.slow
@compiled
@each_dtype
def test_gamma_draws_pass_goodness_of_fit_at_ten_million(dtype: torch.dtype) -> None:
    edges, mass = tail_edges(1 / 2.2)
    counts = np.zeros(len(mass))
    for _ in range(10):
        goodness(counts, edges, log_gamma(1 / 2.2, 10**6, dtype))
    assert scipy.stats.chisquare(counts, mass * counts.sum()).pvalue > 1e-3


@each_dtype
@pytest.mark.parametrize("a", [1e-6, 1e-4, 0.01])
def test_tiny_shapes_have_their_law_in_logarithms(
    a: float, dtype: torch.dtype, backend: str
) -> None:
    """P(G < e^(t / a)) by 30 digits; a log G is of order 1 where G is below any float."""
    draws, count = a * log_gamma(a, 10**5, dtype), 10**5
    assert np.isfinite(draws).all()
    for t in (-9.0, -3.0, -1.0, -0.3, -0.01):
        with mp.workdps(30):
            share = float(mp.gammainc(a, 0, mp.exp(mp.mpf(t) / a), regularized=True))
        error = math.sqrt(share * (1 - share) / count)
        assert abs((draws < t).mean() - share) < 4.5 * error, t


@each_dtype
@pytest.mark.parametrize("a", [1e6, 3e6, 1e9, 1e12])
def test_huge_shapes_have_their_law(a: float, dtype: torch.dtype, backend: str) -> None:
    draws = np.exp(log_gamma(a, 10**5, dtype) - math.log(a))
    probabilities = scipy.special.gammainc(a, a * draws)
    assert scipy.stats.kstest(probabilities, "uniform").pvalue > ALPHA


def test_shapes_broadcast_to_the_size_and_keep_their_places(backend: str) -> None:
    a = torch.tensor([1.0, 5.0, 50.0], dtype=f64).reshape(3, 1, 1)
    for shape, size in ((a, (3, 2000, 2)), (a.expand(3, 20, 2), (100, 3, 20, 2))):
        draws = sampling.log_gamma(shape, size, f32).exp()
        means = draws.mean([k for k in range(draws.dim()) if k != draws.dim() - 3])
        assert ((means - a.flatten()).abs() < 4.5 * (a.flatten() / 4000).sqrt()).all()


@compiled
def test_what_is_no_shape_gives_nan_and_an_end() -> None:
    wrong = torch.tensor([math.nan, -1.0, 0.0, math.inf, 2.0], dtype=f64)
    draws = sampling.log_gamma(wrong, (3, 5), f32)
    assert draws[:, :4].isnan().all() and draws[:, 4].isfinite().all()


# Nested draws -----------------------------------------------------------------------------------


def rotated(x: int, by: int, size: int) -> int:
    return (x << by | x >> (size - by)) % 2**size


def threefry(counter: list[int], key: list[int], size: int) -> list[int]:
    """As the paper has it, of 20 rounds, on four words of 32 or 64 bits."""
    by_size = {
        32: [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)],
        64: [(14, 16), (52, 57), (23, 40), (5, 37), (25, 33), (46, 12), (58, 22), (32, 32)],
    }
    parity = {32: 0x1BD11BDA, 64: 0x1BD11BDAA9FC1A22}[size]
    for word in key:
        parity ^= word
    keys, x = [*key, parity], [(a + b) % 2**size for a, b in zip(counter, key, strict=True)]
    for turn in range(20):
        for pair, by in enumerate(by_size[size][turn % 8]):
            i, j = 2 * pair, (2 * pair + (3 if turn % 2 else 1)) % 4
            x[i] = (x[i] + x[j]) % 2**size
            x[j] = rotated(x[j], by, size) ^ x[i]
        if turn % 4 == 3:
            add = (turn + 1) // 4
            x = [(word + keys[(add + i) % 5]) % 2**size for i, word in enumerate(x)]
            x[3] = (x[3] + add) % 2**size
    return x


@pytest.mark.slow
@compiled
def test_the_generator_is_threefry() -> None:
    """A sole coordinate on the unit sphere is a sign: the lowest bit of a word of its row."""
    assert threefry([0] * 4, [0] * 4, 32) == [0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8]
    assert threefry([0] * 4, [0] * 4, 64) == [
        0x09218EBDE6C85537,
        0x55941F5266D86105,
        0x4BD25E16282434DC,
        0xEE29EC846BD2E40B,
    ]  # the vectors that its authors publish
    seed, ones = 0x123456789ABCDEF0, torch.ones(1, 1)
    for dtype, size in ((f32, 32), (f64, 64)):
        draws = draw_calls.nested(
            ones, None, None, None, None, seed_of(seed), 200, "((0,),)", dtype
        )
        key = [seed % 2**32, seed >> 32, 0, 0] if size == 32 else [seed, 0, 0, 0]
        signs = [1 - 2 * (threefry([row, 0, 0, 0], key, size)[3] % 2) for row in range(200)]
        assert_close(draws.flatten(), torch.tensor(signs, dtype=dtype), rtol=0, atol=0)


@pytest.mark.slow
@each_dtype
@pytest.mark.parametrize("p", [0.1, 0.7, 2.2, 50.0])
def test_coordinates_with_one_exponent_are_independent_and_generalized_normal(
    p: float, dtype: torch.dtype, backend: str
) -> None:
    count = 50_000 if backend == "kernel" else 20_000
    tree = TREES["ragged"]
    one = torch.tensor(1.0, dtype=dtype)
    x = sampling.gamma_nested(one.expand(4) * p, None, one * p, one * 0.8, tree, (count,))
    assert x.dtype == dtype
    law = scipy.stats.gennorm(float(one * p), scale=float(one * 0.8))
    x = x.double().numpy()
    scores = scipy.stats.norm.ppf(scipy.stats.rankdata(x, axis=0) / (count + 1))
    sizes = scipy.stats.norm.ppf(scipy.stats.rankdata(np.abs(x), axis=0) / (count + 1))
    for k in range(6):
        assert scipy.stats.kstest(x[:, k], law.cdf).pvalue > ALPHA
    # over places, over rows that lie in one vector or block, and between sizes and signs
    for a in (scores, sizes):
        for b in (a, *(np.roll(a, lag, axis=0) for lag in (1, 2, 8, 64, 512))):
            between = a.T @ b / count - (np.eye(6) if a is b else 0)
            assert np.abs(between).max() < 5 / math.sqrt(count)
    assert np.abs(sizes.T @ np.sign(x) / count).max() < 5 / math.sqrt(count)


@pytest.mark.slow
@compiled
@each_dtype
@every_tree
@pytest.mark.parametrize("p", [0.2, 1.7, 60.0])
def test_the_compiled_sampler_has_the_law_of_torchs_gamma(
    tree: LpNestedTree, p: float, dtype: torch.dtype
) -> None:
    exponents, three = exponents_of(tree, p, dtype), torch.tensor(3.0, dtype=dtype)
    draws = []
    for name in (library.in_use(), "off"):
        with library.using(name):
            draws.append(
                sampling.gamma_nested(exponents, three, three * 0.4, three, tree, (30_000,))
            )
    ours, theirs = (x.double().numpy() for x in draws)
    leaves = range(min(tree.dim, 6))
    for i in leaves:
        assert scipy.stats.ks_2samp(ours[:, i], theirs[:, i]).pvalue > ALPHA / 100
        for j in range(i):
            ratios = (np.log(np.abs(x[:, i] / x[:, j])) for x in (ours, theirs))
            assert scipy.stats.ks_2samp(*ratios).pvalue > ALPHA / 100


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3,), (2, 3), (3, 50, 4)], ids=str)
def test_every_row_of_a_batch_has_its_own_parameters(shape: tuple[int, ...], backend: str) -> None:
    """With p0 = p the coordinates are generalized normal, so that their powers are gamma."""
    tree, p, one = (
        LpNestedTree((0, (1,), (2, 3))),
        10 ** (2 * torch.rand(shape) - 1),
        torch.ones(()),
    )
    repeated = p[..., :1].expand(shape), p[:1].expand(shape)
    num = 30_000 // p.numel()
    for power, scale in ((p, one), (p, p + 1), (repeated[0], p + 1), (repeated[1], one)):
        exponents = power.unsqueeze(-1).expand(*shape, 3)
        x = sampling.gamma_nested(exponents, None, power, scale, tree, (num,))
        assert x.shape == (num, *shape, 4)
        logs = (x.double() / scale.unsqueeze(-1)).abs().log() * power.unsqueeze(-1)
        shapes = (1 / power.double()).unsqueeze(-1).expand(logs.shape)
        probabilities = torch.special.gammainc(shapes, logs.exp()).flatten()
        assert scipy.stats.kstest(probabilities.numpy(), "uniform").pvalue > ALPHA


@each_dtype
def test_a_batch_at_a_given_radius_has_it(dtype: torch.dtype, backend: str) -> None:
    tree = TREES["ragged"]
    exponents = torch.stack([exponents_of(tree, p, dtype) for p in (0.7, 2.0, 5.0)])
    log_radius = 10 * torch.randn(500, 3, dtype=f64)
    x = sampling.nested(exponents, tree, (500,), log_radius)
    assert x.dtype == dtype
    eps = torch.finfo(dtype).eps
    assert_close(
        F.log_norm(x.double(), exponents.double(), tree), log_radius, atol=1e2 * eps, rtol=eps
    )


# Ends of scale ----------------------------------------------------------------------------------


@each_dtype
def test_draws_beyond_the_dtype_are_its_largest_number_or_zero(
    dtype: torch.dtype, backend: str
) -> None:
    exponents = torch.tensor([2.0], dtype=dtype)
    log_radius = torch.tensor([1e5, -1e5, 1e300, -1e300, 0.0], dtype=f64)
    x = sampling.nested(exponents, LpNestedTree.flat(2), (5,), log_radius).abs()
    assert (x[[0, 2]] == torch.finfo(dtype).max).all() and (x[[1, 3]] == 0).all()
    assert (x[4] > 0).all() and x.isfinite().all()


@each_dtype
def test_subnormal_draws_are_right(dtype: torch.dtype, backend: str) -> None:
    tiny = torch.finfo(dtype).tiny
    scale = torch.tensor(tiny / 1000, dtype=dtype)
    x = sampling.signed_gamma(
        torch.ones((), dtype=dtype), torch.ones((), dtype=dtype), scale, (20_000,)
    )
    ratio = x.double().abs() / scale.double()
    assert ratio.mean().item() == pytest.approx(1, abs=0.03)


def share_below(a: float, log_g: np.ndarray) -> np.ndarray:
    """P(G < e^x), also where e^x underflows."""
    small = log_g < -30
    first_term = np.exp(np.where(small, a * log_g - math.lgamma(1 + a), 0))
    return np.where(small, first_term, scipy.special.gammainc(a, np.exp(np.maximum(log_g, -30))))


@each_dtype
@pytest.mark.parametrize(
    ("n", "p"), [(1e6, 0.4), (1e12, 1.0), (0.05, 10.0), (1e-4, 1.0), (30.0, 1e4), (2.0, 0.05)]
)
def test_radii_of_extreme_shapes_have_their_law(
    n: float, p: float, dtype: torch.dtype, backend: str
) -> None:
    """At thresholds between which many numbers of the dtype lie, and that it holds."""
    count, a = 50_000, float(torch.tensor(n, dtype=dtype)) / float(torch.tensor(p, dtype=dtype))
    log_scale = -float(mp.digamma(a)) / p if a > 1 else 0.0
    scale = torch.tensor(math.exp(log_scale), dtype=dtype)
    parameters = (torch.tensor(x, dtype=dtype) for x in (n, p))
    r = sampling.signed_gamma(*parameters, scale, (count,)).abs().double()
    spread, eps = math.sqrt(float(mp.psi(1, a))) / p, torch.finfo(dtype).eps
    center = float(mp.digamma(a)) / p + math.log(scale)
    for k in (-2.0, -1.0, -0.3, 0.0, 0.3, 1.0):
        at = center + k * spread
        if at < math.log(torch.finfo(dtype).tiny):
            continue
        share = share_below(a, np.array((at - math.log(scale)) * p))
        error = 4.5 * math.sqrt(share * (1 - share) / count) + eps / spread
        assert abs((r.log() < at).double().mean().item() - share) < error, k


@compiled
def test_invalid_parameters_give_nan_in_their_own_rows() -> None:
    good = torch.ones(7, 1)
    wrong = good.clone()
    wrong[1], wrong[4], wrong[5] = math.nan, -1.0, math.inf
    tree, bad = LpNestedTree.flat(3), [1, 4, 5]
    one = torch.ones(7)
    for given in ((wrong, one, one), (good, wrong[:, 0], one), (good, one, wrong[:, 0])):
        x = sampling.gamma_nested(given[0], None, *given[1:], tree, (40,))
        assert x[:, bad].isnan().all()
        assert x[:, [k for k in range(7) if k not in bad]].isfinite().all()
    radius = torch.zeros(40, 7, dtype=f64)
    radius[3, 2] = math.nan
    x = sampling.nested(good, tree, (40,), radius)
    assert x[3, 2].isnan().all() and x.isnan().sum() == 3


# Seeds and threads ------------------------------------------------------------------------------


def drawn(dtype: torch.dtype, rows: int) -> list[Tensor]:
    """Calls of every kind, for shapes that are and are not multiples of a block."""
    one = torch.ones((), dtype=dtype)
    batch = 1 + torch.rand(7, dtype=dtype, generator=torch.Generator().manual_seed(0))
    tree = TREES["isa"]
    exponents = exponents_of(tree, 1.7, dtype)
    many = exponents.expand(7, -1) * batch.unsqueeze(-1)
    radius = torch.zeros(rows, dtype=f64)
    return [
        sampling.gamma_nested(exponents, None, one * 2, one, tree, (rows,)),
        sampling.gamma_nested(many, batch, batch, one, tree, (rows // 7,)),
        sampling.nested(exponents, tree, (rows,), radius),
        sampling.nested(many, tree, (rows // 7,)),
        sampling.signed_gamma(batch, one, one, (rows,)),
        sampling.log_gamma(batch.double(), (rows, 7), dtype),
        sampling.log_gamma(one.double(), (rows,), dtype),
    ]


@compiled
@each_dtype
@pytest.mark.parametrize("rows", [1, 15, 64, 65, 5000])
def test_draws_are_the_same_for_any_number_of_threads(
    rows: int, dtype: torch.dtype, any_threads: None
) -> None:
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        torch.manual_seed(5)
        results.append(drawn(dtype, rows))
    for one, *others in zip(*results, strict=True):
        assert all(torch.equal(one, x) for x in others)


@compiled
@each_dtype
def test_a_row_is_the_same_however_many_there_are(dtype: torch.dtype) -> None:
    """A draw depends on its row, its place and the seed alone, not on the block it is drawn in."""
    for tree in (*TREES.values(), LpNestedTree.isa([3] * 300)):
        exponents = exponents_of(tree, 0.7, dtype).unsqueeze(0)
        one = torch.ones(1, dtype=dtype)
        few, many = (
            draw_calls.nested(exponents, one, one, one, None, seed_of(9), n, tree.code, dtype)
            for n in (3, 1000)
        )
        assert torch.equal(few, many[:3])


def test_the_seed_decides(backend: str) -> None:
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(drawn(f32, 50))
    for first, again, other in zip(*results, strict=True):
        assert torch.equal(first, again) and not torch.equal(first, other)
    for first, next_ in zip(drawn(f32, 50), drawn(f32, 50), strict=True):
        assert not torch.equal(first, next_)


@compiled
def test_a_call_takes_one_number_of_torchs_generator() -> None:
    dist = ISA([2, 2], 1.5, 2.0)
    for rows in (0, 1, 1000):
        torch.manual_seed(3)
        dist.sample((rows,))
        after = torch.rand(2)
        torch.manual_seed(3)
        torch.randint(2**63 - 1, (1,))
        assert torch.equal(after, torch.rand(2))


# Shapes, tracers and transforms -----------------------------------------------------------------


@each_dtype
def test_empty_draws_have_their_shape(dtype: torch.dtype, backend: str) -> None:
    tree, none, one = TREES["ragged"], torch.ones(0, 4, dtype=dtype), torch.ones(4, dtype=dtype)
    assert sampling.nested(none, tree, (3,)).shape == (3, 0, 6)
    assert sampling.nested(one, tree, (0, 2)).shape == (0, 2, 6)
    radius = none[:, 0], none[:, 1]
    assert sampling.gamma_nested(none, None, *radius, tree, ()).shape == (0, 6)
    assert sampling.gamma_nested(one, None, *radius, tree, (2,)).shape == (2, 0, 6)
    assert sampling.signed_gamma(none[:, 0], *radius, (3,)).shape == (3, 0)
    assert sampling.log_gamma(none.double(), (2, 0, 4), dtype).shape == (2, 0, 4)
    assert sampling.log_gamma(one.double(), (0, 4), dtype).shape == (0, 4)


@pytest.mark.slow
@compiled
def test_the_operations_pass_torchs_own_checks() -> None:
    ones, seed = torch.ones(2, 2), seed_of(1)
    tree, radius = LpNestedTree((0, (1,))).code, torch.zeros(3, 2, dtype=f64)
    for arguments in (
        (ones, None, ones[0], ones[1], None, seed, 3, tree, f64),
        (ones, None, None, None, radius, seed, 3, tree, f32),
    ):
        torch.library.opcheck(draw_calls.nested, arguments)
    torch.library.opcheck(draw_calls.log_gamma, (torch.ones(3, dtype=f64), seed, 4, f32))


@compiled
def test_the_operations_refuse_what_does_not_fit() -> None:
    ones, seed, flat = torch.ones(2, 1), seed_of(1), "((0, 1),)"
    for arguments in (
        (torch.ones(2, 2), None, None, None, None, seed, 3, flat, f32),
        (ones.int(), None, None, None, None, seed, 3, flat, f32),
        (ones, None, ones[0], ones[0], None, seed, 3, flat, f32),
        (ones, None, ones[:, 0], ones.double()[:, 0], None, seed, 3, flat, f32),
        (ones, None, ones[:, 0], None, None, seed, 3, flat, f32),
        (ones, None, None, None, torch.zeros(3, 2), seed, 3, flat, f32),
        (ones, None, None, None, torch.zeros(2, 2, dtype=f64), seed, 3, flat, f32),
        (ones, None, None, None, None, seed.int(), 3, flat, f32),
        (ones, None, None, None, None, seed, 3, flat, torch.float16),
    ):
        with pytest.raises(ValueError, match="expected"):
            draw_calls.nested(*arguments)
    for shape, dtype in ((torch.ones(3), f32), (torch.ones(3, dtype=f64), torch.float16)):
        with pytest.raises(ValueError, match="expected"):
            draw_calls.log_gamma(shape, seed, 2, dtype)


DISTRIBUTIONS = {
    "isa": lambda p: ISA([2, 1], p, 2.0, validate_args=False),
    "nested": lambda p: LpNested(
        LpNestedTree((0, (1, 2))),
        torch.stack([p, p]),
        torch.distributions.LogNormal(0.0, 1.0),
        validate_args=False,
    ),
    "normal": lambda p: GeneralizedNormal(0.0, 1.0, p, validate_args=False),
    "gamma": lambda p: GeneralizedGamma(3.0, p, 1.0, validate_args=False),
}


@pytest.mark.parametrize("make", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_vmap_draws_as_its_randomness_says(make, backend: str) -> None:  # type: ignore[no-untyped-def]
    p = torch.tensor([1.5, 1.5, 0.5])

    def draw(p: Tensor) -> Tensor:
        return make(p).sample((5,))

    different = torch.vmap(draw, randomness="different")(p)
    assert different.shape[:2] == (3, 5) and different.unique().numel() == different.numel()
    fixed = torch.vmap(lambda _: draw(torch.tensor(1.5)), randomness="same")(p)
    assert torch.equal(fixed[0], fixed[1]) and torch.equal(fixed[0], fixed[2])
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(draw)(p)
