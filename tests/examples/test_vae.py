"""The small VAE: its bound and pictures, its training, its command line."""

import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt
from scipy import stats
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

import vae
from lpnested import ISA

pytestmark = pytest.mark.usefixtures("one_thread")

SCRIPT = Path(vae.__file__)
NORMAL = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
WITH_DIRECTIONS = ISA.unit_variance([2], p0=4.0, p=4.0)


@pytest.fixture
def x():
    return vae.draw_disks(2 * torch.rand(5, 2) - 1)


def test_disks_are_where_and_as_large_as_they_should_be():
    places = torch.tensor([[0.0, 0.0], [1.0, -1.0], [-0.5, 0.25]])
    pictures = vae.draw_disks(places).view(3, vae.SIZE, vae.SIZE)  # rows first
    assert_close(pictures.sum((1, 2)), torch.full((3,), math.pi * 9), rtol=0.03, atol=0)
    ticks = torch.arange(vae.SIZE) - 5.5
    for k, along in enumerate((1, 2)):  # summed over rows: x
        centre = (pictures.sum(along) @ ticks) / pictures.sum((1, 2))
        assert_close(centre, places[:, k] * vae.SPAN / 2, rtol=0, atol=0.05)


def test_elbo_is_likelihood_minus_the_divergence_from_a_normal_prior(x):
    """The mean over many z: the divergence in closed form, the likelihood pixel by pixel."""
    model, draws = vae.VAE(), 4000
    with torch.no_grad():
        model.encoder[-1].bias += torch.tensor([1.5, -1.0, -1.0, -0.5])  # far from the prior
        bounds = vae.elbo(x.expand(draws, 5, -1), model, NORMAL).double()
        mean, log_std = model.encoder(x).double().chunk(2, -1)
        z = mean + log_std.exp() * torch.randn(draws, 5, 2)
        logits = model.decoder(z.float()).double()
    likelihood = (x * logits - torch.log1p(logits.exp())).sum(-1)
    divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(-1)
    assert_close(kl_divergence(model.encode(x), NORMAL).double(), divergence)
    expected = likelihood - divergence
    error = ((bounds.var(0) + expected.var(0)) / draws).sqrt()
    assert ((bounds.mean(0) - expected.mean(0)).abs() < 4 * error).all()
    assert error.max() < 0.03 * divergence.min()  # a wrong or missing term would show


def test_elbo_at_a_known_z(x):
    """A posterior without width: every term at z = mean by scipy, the prior by its formula."""
    model = vae.VAE()
    last, narrow = model.encoder[-1], 1e-4
    with torch.no_grad():
        last.weight[2:], last.bias[2:] = 0, math.log(narrow)
        torch.manual_seed(3)
        found = vae.elbo(x, model, WITH_DIRECTIONS).double()
        torch.manual_seed(3)
        mean = model.encoder(x)[:, :2]
        noise = torch.randn(5, 2)
        z = mean + narrow * noise
        logits = model.decoder(z).double()
    marginal = stats.gennorm(4, scale=(math.gamma(1 / 4) / math.gamma(3 / 4)) ** 0.5)  # var 1
    rate = stats.norm.logpdf(noise, scale=1) - math.log(narrow) - marginal.logpdf(z)
    expected = (x * logits - torch.log1p(logits.exp())).sum(-1) - torch.tensor(rate).sum(-1)
    assert_close(found, expected.double(), rtol=1e-5, atol=1e-4)


def test_p_2_is_the_commented_alternative(x):
    model = vae.VAE()
    torch.manual_seed(1)
    bound = vae.elbo(x, model, ISA.unit_variance([2], p0=2.0, p=2.0))
    torch.manual_seed(1)
    assert_close(bound, vae.elbo(x, model, NORMAL))
    assert f"# prior = {'Independent(Normal(torch.zeros(2), torch.ones(2)), 1)'}" in (
        SCRIPT.read_text()
    )


@pytest.mark.parametrize("prior", [WITH_DIRECTIONS, NORMAL], ids=["isa", "normal"])
def test_gradients_reach_every_weight(prior, x):
    model = vae.VAE()
    vae.elbo(x, model, prior).sum().backward()
    for weight in model.parameters():
        assert weight.grad.isfinite().all()
        assert weight.grad.any()


def test_training_raises_the_bound():
    model, pictures = vae.VAE(), vae.draw_disks(2 * torch.rand(500, 2) - 1)
    with torch.no_grad():
        before = vae.elbo(pictures, model, WITH_DIRECTIONS).mean()
    vae.train(model, WITH_DIRECTIONS, 150)
    with torch.no_grad():
        after = vae.elbo(pictures, model, WITH_DIRECTIONS).mean()
    blank = pictures.mean(0)  # the best that a decoder can do which looks at no z
    constant = torch.distributions.Bernoulli(blank, validate_args=False).log_prob(pictures)
    assert after > constant.sum(-1).mean() + 10 > before


def test_ctrl_c_keeps_the_model(monkeypatch, capsys):
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return elbo(*arguments)

    elbo, model = vae.elbo, vae.VAE()
    before = [weight.clone() for weight in model.parameters()]
    monkeypatch.setattr(vae, "elbo", interrupted)
    vae.train(model, NORMAL, 1000)
    assert len(calls) == 3
    assert "Stopped early" in capsys.readouterr().out
    assert not any(map(torch.equal, before, model.parameters()))


def test_colours_tell_places_apart():
    ticks = torch.linspace(-1, 1, 5)
    colours = vae.colours(torch.cartesian_prod(ticks, ticks))
    assert ((colours >= 0) & (colours <= 1)).all()
    assert torch.pdist(colours).min() > 0.15


def test_a_disk_has_the_colour_of_its_place():
    places = 1.8 * torch.rand(36, 2) - 0.9
    _, ax = plt.subplots()
    vae.tile(ax, vae.draw_disks(places), "disks")
    (image,) = ax.images
    shown, side = torch.as_tensor(image.get_array()), vae.SIZE + 1
    plt.close()
    assert shown.shape == (6 * side, 6 * side, 3)
    for k, (column, row) in enumerate((places * vae.SPAN / 2 + (vae.SIZE - 1) / 2).round().int()):
        at = shown[k // 6 * side + row, k % 6 * side + column]
        assert_close(at, vae.colours(places[k]).to(at.dtype), rtol=0, atol=0.02)


@pytest.mark.slow
def test_command_line_ends_with_the_bound_and_the_picture(tmp_path):
    command = [sys.executable, str(SCRIPT), "--p", "3", "--steps", "20", "--out", "new/disks.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"ELBO -\d+\.\d\d nats\. Samples and code are in \S+\.png\n", done.stdout)
    height, width, _ = plt.imread(tmp_path / "new" / "disks.png").shape
    assert (width, height) == (1000, 360)


def test_a_seed_is_a_picture(monkeypatch, capsys, tmp_path):
    def run(seed, name):
        flags = ["--steps", "3", "--seed", seed, "--out", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", ["vae.py", *flags])
        vae.main()
        plt.close()
        return capsys.readouterr().out.split(" nats")[0], (tmp_path / name).read_bytes()

    first = run("7", "first.png")
    assert run("7", "again.png") == first
    assert run("8", "other.png")[0] != first[0]


def test_help_teaches(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vae.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        vae.main()
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--p ", "--steps ", "--seed ", "--out "))
    assert "one latent" in shown and "normal prior" in shown


@pytest.mark.parametrize(
    "flags", ["--p 0", "--p nan", "--p inf", "--steps 0", "--out picture", "--seed x"]
)
def test_flags_that_cannot_work_are_refused_at_once(flags, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vae.py", *flags.split()])
    with pytest.raises(SystemExit, match="2"):
        vae.main()
    assert flags.split()[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_file_that_can_be_read_at_one_sitting():
    lines = SCRIPT.read_text().splitlines()
    assert len(lines) <= 120
    imports = {line.split()[1].split(".")[0] for line in lines if line[:5] in ("impor", "from ")}
    assert imports == {"argparse", "pathlib", "matplotlib", "torch", "tqdm", "lpnested"}
