"""The command as a user runs it: files, Ctrl-C and what follows, mistakes, help."""

import csv
import json

import numpy as np
import pytest
import torch

import images
from densities.candidates import EXPECTED, FITS
from findings.kept import load_fit
from findings.published import FILES
from findings.redundancy import FACTORIZED
from findings.words import table
from images_config import PRESETS, Config, UsageError, parse

pytestmark = pytest.mark.slow

QUICK = ["--preset", "smoke", "--size", "3", "--train", "400", "--test", "400"]
QUICK += ["--iterations", "3", "--resamples", "50"]


def made(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupts."""
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("whole")
    assert images.main([*QUICK, "--out", str(folder)]) == 0
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def results(whole):
    return json.loads((whole / "results.json").read_text())


def test_all_files_are_made_and_nothing_else(whole):
    assert {path.name for path in whole.iterdir()} == {*FILES, "fits"}
    assert len(list((whole / "fits").iterdir())) == len(FITS)
    for path in whole.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_results_hold_settings_versions_and_every_model(results):
    assert results["config"]["size"] == 3 and results["config"]["seed"] == 0
    assert {"python", "torch", "numpy", "scikit-learn", "lpnested"} == set(results["versions"])
    assert [line["model"] for line in results["models"]] == list(EXPECTED)
    assert [line["model"] for line in results["redundancy"]] == list(FACTORIZED)
    for line in results["models"]:
        assert line["bits"]["low"] <= line["bits"]["mean"] <= line["bits"]["high"]


def test_gains_are_differences_of_the_means(results):
    means = {line["model"]: line["bits"]["mean"] for line in results["models"]}
    for step in results["steps"]:
        expected = means[step["worse"]] - means[step["better"]]
        assert step["gain"]["mean"] == pytest.approx(expected, abs=2e-5)
    for line in results["models"]:
        gain = means["gaussian"] - means[line["model"]]
        assert line["gain_over_gaussian"]["mean"] == pytest.approx(gain, abs=2e-5)


def test_of_several_starts_the_best_fit_counts(whole, results):
    with (whole / "fits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple((row["model"], row["start"]) for row in rows) == FITS
    models = {line["model"]: line for line in results["models"]}
    for name in EXPECTED[1:]:
        mine = {row["start"]: float(row["train_bits"]) for row in rows if row["model"] == name}
        assert models[name]["train_bits"] == min(mine.values())
        assert mine[models[name]["start"]] == min(mine.values())


def test_the_table_is_that_of_the_results(whole, results):
    text = (whole / "table.md").read_text(encoding="utf-8")
    assert text == f"{table(results)}\n"
    for line in results["models"]:
        assert f"| {line['title']} | {line['bits']['mean']:.3f} [" in text


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    whole, tmp_path, monkeypatch, capsys
):
    done, save_fit = [], images.save_fit

    def until(content, path):
        if len(done) == 7:
            raise KeyboardInterrupt
        save_fit(content, path)
        done.append(path.name)

    argv = [*QUICK, "--out", str(tmp_path)]
    monkeypatch.setattr(images, "save_fit", until)
    assert images.main(argv) == 130
    assert f"finished fits are in {tmp_path / 'fits'}" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "fits").iterdir()) == sorted(done)
    assert not (tmp_path / "results.json").exists()

    again = []
    monkeypatch.setattr(
        images, "save_fit", lambda content, path: again.append(save_fit(content, path))
    )
    assert images.main(argv) == 0
    assert len(again) == len(FITS) - 7
    assert made(tmp_path) == made(whole)
    assert f"Written to {tmp_path}" in capsys.readouterr().out


def test_fits_of_other_settings_are_refused_by_name(whole, tmp_path, capsys):
    argv = [*QUICK, "--seed", "1", "--out", str(tmp_path), "--fits", str(whole / "fits")]
    assert images.main(argv) == 2
    assert "other settings: seed was 0, now 1" in capsys.readouterr().err


def test_a_spoiled_fit_is_named(tmp_path):
    path = tmp_path / "ica-from-rotation.pt"
    path.write_bytes(b"half a file")
    with pytest.raises(UsageError, match=r"ica-from-rotation\.pt is not a saved fit"):
        load_fit(path, {})
    assert load_fit(tmp_path / "other.pt", {}) is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--size 2", "--size must be 3 or more"),
        ("--size 40", "--tile must be at least --size, 40"),
        ("--train 100", "--train must be at least 256 for patches of 64 pixels"),
        ("--iterations 0", "--iterations must be 1 or more"),
        ("--factorized 20001", "--factorized must be between 4 and 10000"),
        ("--seed -1", "--seed must be 0 or more"),
        ("--test 1000000", "photograph 0 has"),
    ],
)
def test_mistakes_are_refused_by_name(argv, message, capsys, tmp_path):
    assert images.main([*argv.split(), "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_file_in_place_of_the_fits_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "fits").touch()
    assert images.main(["--out", str(tmp_path)]) == 2
    assert "--fits must be a folder" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        images.main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert "under ten minutes" in told and "--preset" in told and "Ctrl-C" in told


def test_flags_override_their_preset():
    assert parse([]) == PRESETS["whole"] == Config()
    config = parse(["--preset", "smoke", "--size", "5"])
    assert config.size == 5 and config.iterations == PRESETS["smoke"].iterations
    assert config.fits_folder == config.out / "fits"


def test_a_kept_fit_gives_the_model_that_was_scored(whole):
    config = parse([*QUICK, "--out", str(whole)])
    data = images.load(config)
    content = load_fit(whole / "fits" / "nested-deep-from-ica.pt", config.fit_settings())
    model = images.rebuild("nested-deep", content, data, config)
    found = model(torch.as_tensor(data.y)).numpy()
    assert np.allclose(found, content["test"].numpy(), rtol=1e-12)
