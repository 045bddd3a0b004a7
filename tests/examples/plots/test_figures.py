"""figures.py and plots/ on made-up rows: every figure, every way in, every mistake."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

import figures as script
from config import UsageError
from figures import DRAW, main, picture, read_rows
from plots.factors import group_means, latent_factor_plot, representative
from plots.style import color, heading
from sweeps.rows import as_csv, write_row

pytestmark = pytest.mark.slow

FIG5A = ("normal", "normal-0.495", "isa-released", "isa-unit", "isa-4-4", "isa-2.5-3")
FIG5B = ("beta-vae", "beta-tcvae", "isa-beta-vae", "isa-beta-tcvae")


def history(end, exponents, steps=3000):
    """The terms on their way to the end."""
    lines = []
    for step in range(50, steps + 1, 50):
        left = math.exp(-step / 400)
        terms = {"log_px": end["log_px"] - 200 * left, "kl": end["kl"] * (1 - left)}
        moved = {key: p + (2.2 - p) * left for key, p in exponents.items()}
        lines.append({"step": step, "objective": terms["log_px"] - terms["kl"], **terms, **moved})
    return lines


def make_row(experiment, arm, seed, beta, data="dsprites (drawn)"):
    """A run that is a function of its name; every arm with "4-4" has two modes."""
    generator = np.random.default_rng([seed, len(arm), int(10 * beta), arm.startswith("isa")])
    gaps = generator.gamma(2, 0.06 * beta**0.3, size=4) + 0.02
    gaps += 0.25 * (seed % 2) * ("4-4" in arm)
    end = {"log_px": -60 - 9 * beta + generator.normal(0, 2), "kl": 22 / beta**0.5}
    exponents = {f"p{k}": 2.2 + generator.normal(0, 0.1) for k in range(1, 4)}
    learned = "learned" in arm
    return {
        **{"experiment": experiment, "rung": "quick", "arm": arm, "seed": seed, "beta": beta},
        **{"status": "done", "data": data, "evaluated": 1000, "steps": 3000},
        **{"mig": gaps.mean(), **end, "elbo": end["log_px"] - end["kl"], "active_units": 7},
        **dict(zip(["mig_scale", "mig_orientation", "mig_posX", "mig_posY"], gaps, strict=True)),
        **({"p0": 2.0, **exponents} if learned else {}),
        "config": {"prior": "isa", "p": [2.2] if learned else [2.1], "seed": seed, "beta": beta},
        "versions": {"python": "3.11", "torch": "2.13"},
        "history": history(end, exponents if learned else {}),
    }


def diverge(row):
    """The same run without scores or history."""
    kept = {"experiment", "rung", "arm", "seed", "beta", "data", "config"}
    nothing = dict.fromkeys(("evaluated", "steps", "mig", "log_px", "kl"))
    return {key: x for key, x in row.items() if key in kept} | {"status": "diverged"} | nothing


def fig5a(seeds=20):
    rows = [make_row("fig5a-made", arm, s, 1.0) for arm in FIG5A for s in range(seeds)]
    return [diverge(rows[0]), *rows[1:]]


def fig5b(seeds=3, data="faces (stand-in: drawn)"):
    betas = (1.0, 2.0, 4.0, 6.0)
    names = [("factorvae", beta) for beta in (1.0, 4.0, 10.0)]
    names += [(arm, beta) for arm in FIG5B for beta in betas]
    rows = [make_row("fig5b-made", *(arm, s, b), data) for arm, b in names for s in range(seeds)]
    return [*rows[:-1], diverge(rows[-1])]


def fig7(seeds=15):
    betas = (1.0, 4.0)
    return [
        make_row("fig7-made", "isa-beta-vae-learned", s, b) for s in range(seeds) for b in betas
    ]


MADE = {"fig5a": fig5a, "fig5b": fig5b, "fig7": fig7, "exponents": fig7, "training": fig5b}


@pytest.fixture
def folder(tmp_path):
    """Two sweeps, as sweep.py leaves them."""
    for rows in (fig5a(4), fig7(3)):
        place = tmp_path / "sweeps" / rows[0]["experiment"] / "rows"
        place.mkdir(parents=True)
        for row in rows:
            write_row(row, place / f"{row['arm']}-beta{row['beta']:g}-seed{row['seed']}.json")
    return tmp_path / "sweeps"


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_every_figure_is_a_picture(name):
    drawn = picture(DRAW[name](MADE[name]()), "png", 40)
    assert drawn.startswith(b"\x89PNG") and not plt.get_fignums()


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_one_run_is_enough(name):
    rows = [row for row in MADE[name]() if row["status"] == "done"][:1]
    assert picture(DRAW[name](rows), "png", 30)


def texts(figure):
    found = " ".join(text.get_text() for text in figure.findobj(plt.Text))
    plt.close(figure)
    return found


def test_figures_say_what_is_not_as_it_should_be():
    said = heading(fig5a(), "")
    assert "1 diverged (no score)" in said and "STAND-IN" not in said
    assert heading(fig5b(), "").startswith("STAND-IN DATA")
    assert "quick rung" in heading(fig7(), "") and "diverged" not in heading(fig7(), "")
    words = texts(DRAW["fig5a"](fig5a()))
    assert "n = 19, 1 diverged" in words and "one mode: p 0.03" in words


def test_all_diverged_is_drawn_and_said():
    rows = [diverge(row) for row in fig5a(2)]
    assert "12 diverged" in texts(DRAW["fig5a"](rows))
    assert "19 diverged" in texts(DRAW["fig5b"]([diverge(row) for row in fig5b(1)]))


def test_an_arm_has_one_colour_and_an_unknown_one_too():
    assert len({color(arm) for arm in FIG5A}) == len(FIG5A)
    assert color("other") == color("another")


def test_exponents_are_sorted_within_a_run():
    figure = DRAW["fig7"](fig7())
    medians = [float(ax.get_title().split()[-1]) for ax in figure.axes]
    plt.close(figure)
    assert medians == sorted(medians) and len(medians) == 3


def test_figures_of_exponents_count_the_runs_that_learn_them():
    rows = fig7(3) + [row | {"experiment": "fig7-made"} for row in fig5a(2)]
    kept = [row for row in rows if "learned" in row["arm"]]
    assert len(kept) < len(rows)
    for name in ("fig7", "exponents"):
        assert f"{len(kept)} runs" in texts(DRAW[name](rows))


def test_the_parts_of_the_gap_are_those_of_the_factors():
    rows = [row | {"mig_histogram20": 0.1, "mig_histogram20_mig_factors": 0.2} for row in fig5a(2)]
    words = texts(DRAW["fig5a"](rows))
    assert "posX" in words and "histogram" not in words


def test_rows_come_from_a_folder_or_a_table(folder, tmp_path):
    one = read_rows(folder / "fig5a-made")
    assert len(one) == 24 and one == read_rows(folder, start="fig5a")
    assert one == read_rows(folder, experiment="fig5a-made")
    table = tmp_path / "fig5a-made.csv"
    table.write_text(as_csv(one))
    again = {(row["arm"], row["seed"]): row for row in read_rows(table)}
    for row in one:
        other = again[row["arm"], row["seed"]]
        assert other["mig"] == (row["mig"] and pytest.approx(row["mig"], rel=1e-5))
        assert (other["beta"], other["status"]) == (1, row["status"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": None}, "has no arm"),
        ({"status": "running"}, "has the status 'running'"),
        ({"seed": 1}, "occurs twice"),
        ({"beta": "low"}, "beta must be a number, but is 'low'"),
        ({"mig": "n/a"}, "mig must be a number, but is 'n/a'"),
    ],
)
def test_rows_that_cannot_be_right_are_refused(folder, change, message):
    path = next((folder / "fig7-made/rows").glob("*beta1-seed0.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=message):
        read_rows(folder / "fig7-made")


def test_a_line_with_too_many_cells_is_refused(tmp_path):
    table = tmp_path / "fig5a-made.csv"
    table.write_text(as_csv(fig5a(2)).rstrip("\n") + ",7\n")
    with pytest.raises(UsageError, match="more cells than the header"):
        read_rows(table)


@pytest.mark.slow
def test_a_figure_from_flags_to_file(folder, tmp_path, capsys):
    for ending in ("png", "pdf", "svg"):
        out = tmp_path / "new" / f"figure.{ending}"
        assert main(["fig7", str(folder), "--out", str(out), "--dpi", "40"]) == 0
        assert str(out) in capsys.readouterr().out and out.stat().st_size > 1000
    assert {path.suffix for path in out.parent.iterdir()} == {".png", ".pdf", ".svg"}


@pytest.mark.slow
def test_verdicts_from_flags_to_files(folder, tmp_path, capsys):
    assert main(["verdicts", str(folder / "fig5a-made"), "--out", str(tmp_path / "v")]) == 0
    assert "fig5a-made-verdicts.md" in capsys.readouterr().out
    assert len(list((tmp_path / "v").iterdir())) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "fig6 SWEEPS",
            "no runs of fig6 in SWEEPS. To make the runs:\n  python examples",
        ),
        ("fig5a NOWHERE", "sweep.py fig5a"),
        ("fig5a SWEEPS --dpi 0", "--dpi must be positive, but got 0"),
        ("training SWEEPS", "fig5a-made, fig7-made: choose one with --experiment"),
        ("training SWEEPS --experiment fig6", "sweep.py fig6"),
        ("exponents SWEEPS/fig5a-made", "sweep.py fig7-quick"),
        ("training TABLE", "have no training history"),
        ("fig5a SWEEPS --out figure.doc", "--out must end in .png or .pdf or .svg"),
        ("report SWEEPS/fig7-made --out page.pdf", "--out must end in .html"),
        ("verdicts SWEEPS/fig7-made", "has no arms to compare"),
    ],
)
def test_mistakes_are_refused_by_name(argv, message, folder, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text(as_csv(fig5a(2)))
    places = {"SWEEPS": str(folder), "TABLE": str(table), "NOWHERE": str(tmp_path / "no")}
    for name, place in places.items():
        argv, message = argv.replace(name, place), message.replace(name, place)
    assert main(argv.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_of_published_tables_is_told_from_that_of_a_sweep(tmp_path, capsys):
    results = Path(script.__file__).parent / "results"
    assert main(["fig5a", str(results), "--out", str(tmp_path / "a.png")]) == 2
    said = capsys.readouterr().err
    named = [line.split()[-1] for line in said.splitlines() if line.startswith("  python")]
    assert str(results / "fig5a-quick.csv") in named and "fig5b" not in said
    assert main(["fig5a", named[-1], "--out", str(tmp_path / "a.png")]) == 0
    assert main(["report", str(results), "--out", str(tmp_path / "a.html")]) == 2
    assert str(results / "fig5b-quick.csv") in capsys.readouterr().err
    assert main(["fig5a", str(tmp_path)]) == 2  # nothing there that could be meant
    assert "To make the runs" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("--experiment", "--out", "fig5a", "report", "verdicts"))
    with pytest.raises(SystemExit) as stop:
        main(["fig9"])
    assert stop.value.code == 2


@pytest.mark.slow
def test_the_script_as_a_user_runs_it(folder, tmp_path):
    out = tmp_path / "figure.svg"
    argv = [sys.executable, "-W", "error", script.__file__, "exponents", folder, "--out", out]
    argv += ["--experiment", "fig7-made"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout and out.read_text().startswith("<?xml")


def points(*pairs):
    return [
        {"arm": "a", "beta": 1.0, "seed": seed, "mig": mig, "log_px": log_px}
        for seed, (mig, log_px) in enumerate(pairs)
    ]


def test_representative_by_hand():
    rows = points((0.1, -10), (0.1, -12), (0.3, -20), (0.4, -14), (0.35, -16.5))
    # upper 0.5: the last three, mean (0.35, -16.83)
    assert representative(rows, 0.5)["seed"] == 4
    assert representative(rows, 1.0)["seed"] == 3  # the best
    # the scale of a score plays no part
    scaled = [row | {"log_px": 1000 * row["log_px"]} for row in rows]
    assert representative(scaled, 0.5)["seed"] == 4


def test_representative_of_few_or_equal_runs():
    assert representative(points((0.2, -9)))["seed"] == 0
    assert representative(points((0.2, -9), (0.2, -9))[::-1])["seed"] == 0
    assert representative(points((0.1, -9), (0.3, -9)), 0.0)["seed"] == 0  # both are as near
    lost = {"arm": "a", "beta": 1.0, "seed": 0, "mig": None, "log_px": None}
    assert representative([lost, *points((0.2, -9))])["mig"] == 0.2
    with pytest.raises(ValueError, match="no finished run"):
        representative([lost])
    with pytest.raises(ValueError, match="between 0 and 1"):
        representative(points((0.2, -9)), 75)


FACTORS = ("color", "shape", "scale", "orientation", "posX", "posY")


def code():
    """Latents that follow posX + posY, scale by shape, and nothing; classes of a small set."""
    sizes = (1, 3, 6, 8, 7, 5)
    classes = torch.cartesian_prod(*map(torch.arange, sizes))
    unit = (classes / (torch.tensor(sizes) - 1).clamp(min=1) - 0.5) * 3.4
    mean = torch.zeros(len(classes), 4)
    mean[:, 0] = (unit[:, 4] + unit[:, 5]) / 2
    mean[:, 2] = unit[:, 2] * (1 + classes[:, 1]) / 3
    mean[:, 3] = unit[:, 4]
    return mean, torch.full_like(mean, 0.2), classes


@pytest.mark.slow
def test_latents_against_factors_are_drawn(tmp_path):
    path = tmp_path / "factors.png"
    latent_factor_plot(*code(), FACTORS, [2, 2], path)
    assert path.read_bytes().startswith(b"\x89PNG") and not plt.get_fignums()
    mean, std, classes = code()
    faces = classes[:, 2:4], ("azimuth", "elevation")
    latent_factor_plot(mean, std, *faces, [2, 2], path, group=None, title="faces")


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "said"), [([1, 3], "z2, subspace 2"), (None, "z2")])
def test_only_a_prior_that_has_subspaces_names_them(tmp_path, sizes, said):
    path = tmp_path / "factors.svg"
    with plt.rc_context({"svg.fonttype": "none"}):
        latent_factor_plot(*code(), FACTORS, sizes, path)
    assert f">{said}</text>" in path.read_text()


def test_latents_that_cannot_be_drawn_are_refused(tmp_path):
    mean, std, classes = code()
    path = tmp_path / "none.png"
    with pytest.raises(ValueError, match="add up to 4 latents"):
        latent_factor_plot(mean, std, classes, FACTORS, [2, 3], path)
    assert not path.exists()


def test_of_a_collapsed_code_the_least_inactive_latent_is_drawn(tmp_path):
    mean, std, classes = code()
    path = tmp_path / "collapsed.svg"
    with plt.rc_context({"svg.fonttype": "none"}):
        latent_factor_plot(0.05 * mean, std, classes, FACTORS, None, path)
    assert re.findall(r">(z\d[^<]*)</text>", path.read_text()) == ["z3 (inactive)"]


def test_means_of_cells_by_hand():
    means = group_means(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 2]), 3)
    np.testing.assert_array_equal(means, [2, np.nan, 5])


def test_figures_5b_5c_and_6_are_one_kind():
    assert DRAW["fig5b"] is DRAW["fig5c"] is DRAW["fig6"]
