"""Every command line of the README, of docs/install.md and of the example's own page is run.

By a test of this file, with small data and few steps; by .ci/run, which takes it from the page;
or, where it needs a GPU, a cluster or hours, by the test named here, and its flags are known.
"""

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import evaluate
import figures
import gpu_sweep
import mechanism
import rotation
import sweep
import train
from config import PRESETS
from data.cars import draw_cars
from sweeps import engines, experiments
from sweeps.experiments import ARMS, grid, subset

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "isa_vae" / "README.md"
SHRUNK = ["--hidden", "8", "--batch-size", "16", "--steps", "3", "--device", "cpu"]

# Parts of command lines that are run by tests of their own, which do what the line says.
ELSEWHERE = {
    "gpu_sweep.py": "card/test_gpu_sweep.py",
    "sweep.py collect": "card/test_gpu_sweep.py",
    "results/paper.csv": "claims/test_verdicts_paper.py",
    "rotation.py": "turning/test_rotation.py",
    "mechanism.py": "disks/test_mechanism.py",
    "--address auto": "sweeps/test_sweep.py",  # on a cluster of this machine
}
SCRIPTS = {
    **{"train.py": train, "sweep.py": sweep, "evaluate.py": evaluate, "figures.py": figures},
    **{"gpu_sweep.py": gpu_sweep, "rotation.py": rotation, "mechanism.py": mechanism},
}


def fenced(path: Path) -> Iterator[str]:
    """The lines of the blocks of commands, without what is remarked on them."""
    for info, body in re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.M | re.S):
        if info in ("", "bash"):
            yield from (line.partition("  #")[0].strip() for line in body.splitlines())


def tabled(path: Path, heading: str) -> Iterator[str]:
    """The commands at the beginning of the lines of a table."""
    text = path.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    yield from re.findall(r"^\| `([^`]+)` \|", text, re.M)


def told_to_ci() -> set[str]:
    """The lines that .ci/run takes from pages and runs."""
    calls = re.findall(r'told (\S+) "([^"]+)"', (ROOT / ".ci" / "run").read_text())
    lines = {name: (ROOT / name).read_text().splitlines() for name, _ in calls}
    return {next(line for line in lines[name] if key in line) for name, key in calls}


@pytest.mark.parametrize("name", ["README.md", "docs/install.md"])
def test_ci_runs_every_command_of_the_page(name):
    lines = list(fenced(ROOT / name))
    assert len(lines) >= 3 and set(lines) <= told_to_ci()


def test_the_environment_of_the_site_holds_that_of_the_example():
    """So that .ci/run, which installs one after the other, builds it with its extra alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    inner = re.findall(r"lpnested\[([\w,]+)\]", " ".join(project["optional-dependencies"]["docs"]))
    assert {"examples", "pyro"} <= set(",".join(inner).split(","))


OTHERS = [line for line in fenced(EXAMPLE) if "pip install" not in line]
OTHERS += [f"python examples/isa_vae/{line}" for line in tabled(EXAMPLE, "Sweeps")]
TRAININGS = list(tabled(EXAMPLE, "Other trainings"))


def test_the_page_has_the_commands_that_are_looked_for():
    assert len(TRAININGS) > 15 and len(OTHERS) > 15
    lines = "\n".join(OTHERS)
    assert all(f"examples/isa_vae/{name}" in lines for name in SCRIPTS if name != "train.py")
    install = next(line for line in fenced(EXAMPLE) if "pip install" in line)
    assert any(line.startswith(install) for line in told_to_ci())


@pytest.fixture
def place(npz, tmp_path, monkeypatch):
    """A folder with small files under the names of the real ones."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(npz, "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz")
    torch.save(torch.zeros(2, 3, 2, 2, 64, 64, dtype=torch.uint8), "faces.pth")
    return tmp_path


def data_for(line: str, place: Path, npz: Path) -> list[str]:
    """The small data of the set that a line names."""
    if "--data-set cars3d" in line:
        draw_cars(place, models=2)
        npz = next(path.parents[2] for path in place.rglob("list.txt"))
    if "--data-set faces" in line:
        npz = place / "faces.pth"
    return ["--data", str(npz)]


@pytest.mark.slow
@pytest.mark.parametrize("line", TRAININGS)
def test_every_training_of_the_page_runs(line, place, npz):
    if "--tensorboard" in line:
        pytest.importorskip("tensorboard")
    flags, small = shlex.split(line), [*data_for(line, place, npz), *SHRUNK]
    if line == "--help":
        with pytest.raises(SystemExit) as stop:
            train.main(flags)
        assert stop.value.code == 0
    elif "--resume" in line:
        assert train.main(small) == 0
        (place / flags[-1] / "metrics.json").unlink()
        assert train.main(flags) == 0 and (place / flags[-1] / "metrics.json").exists()
    else:
        assert train.main([*small, *flags]) == 0
        assert len(list(place.glob("runs/*/metrics.json"))) == 1


@pytest.fixture
def small_sweeps(monkeypatch):
    """The experiments that the page names, with tiny runs, and no processes."""
    base = PRESETS["small"]
    base = experiments.replace(base, hidden=8, batch_size=16, steps=60, sizes=(2, 2))
    arms = subset(["normal", "isa-released", "isa-unit"], ARMS)
    names = {"fig5a-quick": "quick", "smoke": "smoke"}
    table = {name: grid(name, rung, base, arms, seeds=3) for name, rung in names.items()}
    monkeypatch.setattr(sweep, "experiments", lambda: table)
    monkeypatch.setattr(
        sweep, "in_pool", lambda tasks, function, *_: ((task, function(task)) for task in tasks)
    )
    return table


@pytest.mark.slow
@pytest.mark.parametrize("line", [x for x in OTHERS if not any(part in x for part in ELSEWHERE)])
def test_every_other_command_of_the_page_runs(line, place, npz, small_sweeps, monkeypatch):
    _, script, *flags = shlex.split(line.replace("NAME", "fig5a-quick"))
    assert (ROOT / script).is_file()
    main, data = SCRIPTS[Path(script).name].main, ["--data", str(npz)]
    if Path(script).name == "train.py":
        assert train.main([*flags, *data, *SHRUNK]) == 0
    elif "--gpus" in flags:  # it gives each run a share of what there is
        given = []
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(engines.torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(sweep, "engine_of", lambda _: "pool")
        monkeypatch.setattr(sweep, "in_pool", lambda *found: iter(given.append(found) or ()))
        assert main([*flags, *data]) == 0 and len(given[0][3]) == 4
    elif Path(script).name == "sweep.py":
        assert main(flags if flags == ["list"] else [*flags, *data]) == 0
    else:
        assert sweep.main(["fig5a-quick", "--keep-models", *data]) == 0
        folders = sorted(map(str, place.glob("runs/sweeps/fig5a-quick/runs/*")))[:2]
        more = data if Path(script).name == "evaluate.py" or "a5" in flags else []
        at = [x for flag in flags for x in (folders if flag == "FOLDER" else [flag]) if x != "..."]
        assert main([*at, *more]) == 0


@pytest.mark.parametrize("line", [x for x in OTHERS if any(part in x for part in ELSEWHERE)])
def test_the_flags_of_every_command_that_is_run_elsewhere_are_known(line, capsys):
    place = next(test for part, test in ELSEWHERE.items() if part in line)
    name = Path(shlex.split(line)[1]).name
    assert SCRIPTS[name].__name__ in (Path(__file__).parent / place).read_text()
    with pytest.raises(SystemExit) as stop:
        SCRIPTS[name].main(["--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(flag in said for flag in re.findall(r"--[a-z-]+", line))


def test_the_table_of_extras_is_complete():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "install.md").read_text(), re.M)
    assert sorted(rows) == sorted(extras["optional-dependencies"])
