"""Imports of the example, read from its sources, against the floor plan in its README."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
SUITE = EXAMPLES / "isa_vae"
MODULES = {
    ".".join(path.relative_to(SUITE).with_suffix("").parts): path
    for path in SUITE.rglob("*.py")
    if path.name != "__init__.py"
}
PLAN = (SUITE / "README.md").read_text(encoding="utf-8").split("```text\n")[-1].split("\n```")[0]
FLOOR = {room: k for k, rooms in enumerate(reversed(PLAN.splitlines())) for room in rooms.split()}


def room_of(module):
    """A folder, or a module at the root."""
    return module.split(".")[0]


def imported_by(path):
    """Modules of the example that a file imports, by their dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES.keys()) or {node.module}
    return {name for name in found if name in MODULES or name == "metrics"}


IMPORTS = {module: imported_by(path) for module, path in MODULES.items()}
ARROWS = {
    (room_of(module), room_of(other))
    for module, others in IMPORTS.items()
    for other in others
    if room_of(module) != room_of(other)
}


def test_every_room_has_a_floor():
    assert {room_of(module) for module in MODULES} == FLOOR.keys()


def test_no_arrow_runs_upward():
    upward = [f"{above} -> {below}" for above, below in ARROWS if FLOOR[above] <= FLOOR[below]]
    assert upward == []


def test_there_is_no_circle_of_modules():
    TopologicalSorter({module: names - {module} for module, names in IMPORTS.items()}).prepare()


def test_no_two_modules_of_the_examples_share_a_name():
    names = Counter(
        path.stem for path in EXAMPLES.rglob("*.py") if path.name not in ("__init__.py",)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_the_metrics_import_nothing_of_the_example():
    assert [below for above, below in ARROWS if above == "metrics"] == []


def test_modules_stay_short():
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > 250} == {}
