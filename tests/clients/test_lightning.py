"""Lightning: a Learnable as part of a module that a Trainer fits, saves and loads."""

import pytest
import torch
from torch.utils.data import DataLoader

from lpnested import ISA
from lpnested.nn import Learnable


@pytest.fixture
def lightning(bring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return bring("pytorch_lightning")


@pytest.fixture
def density(lightning):
    class Density(lightning.LightningModule):
        def __init__(self, p0: float = 2.0) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.prior = Learnable(ISA, [2, 2], p0=p0, p=[2.0, 2.0], learn=("p0", "p"))

        def training_step(self, batch, _):
            return -self.prior().log_prob(batch).mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.05)

    return Density


def trainer(lightning, **how):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(accelerator="cpu", devices=1, max_epochs=8, **quiet, **how)


def test_fit_finds_the_exponent_and_a_checkpoint_restores_it(lightning, density, tmp_path):
    truth = ISA([2, 2], p0=1.0, p=[1.0, 4.0])
    data = DataLoader(truth.sample((2000,)), batch_size=125, shuffle=True)
    model, fit = density(), trainer(lightning)
    fit.fit(model, data)
    assert abs(model.prior.p0.item() - 1) < 0.15
    fit.save_checkpoint(tmp_path / "last.ckpt")
    twin = density.load_from_checkpoint(tmp_path / "last.ckpt")
    x = torch.randn(5, 4)
    assert torch.equal(twin.prior().log_prob(x), model.prior().log_prob(x))


def test_autocast_leaves_the_parameters_alone(lightning, density):
    data = DataLoader(ISA([2, 2], 1.0, 2.0).sample((50,)), batch_size=25)
    model = density()
    trainer(lightning, precision="bf16-mixed", enable_checkpointing=False).fit(model, data)
    assert model.prior.p0.dtype == torch.float32 and model.prior.p0.isfinite()


def test_a_model_all_in_bfloat16_is_refused_in_plain_words(lightning, density):
    data = DataLoader(torch.zeros(4, 4), batch_size=2)
    with pytest.raises(TypeError, match="p0 must be float32 or float64, but got torch.bfloat16"):
        trainer(lightning, precision="bf16-true", enable_checkpointing=False).fit(density(), data)
