"""What other services read, against what it names: sessions, versions, files, schemas of ours."""

import ast
import re
import tomllib
from itertools import product
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="workflows are read with PyYAML: the extra test")

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
FORMS = sorted(path for path in GITHUB.glob("ISSUE_TEMPLATE/*.yml") if path.stem != "config")
HOOKS = ROOT / ".pre-commit-config.yaml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PINS = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M))
NOXFILE = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path):
    return yaml.safe_load(path.read_text("utf-8"))


def constant(name):
    """A list of noxfile.py, which is not imported: nox is not among what tests need."""
    [value] = [
        node.value
        for node in NOXFILE.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]
    return ast.literal_eval(value)


def sessions():
    """Their names, as functions and with each version of torch."""
    names = {
        node.name
        for node in NOXFILE.body
        if isinstance(node, ast.FunctionDef)
        and any("nox.session" in ast.unparse(x) for x in node.decorator_list)
    }
    return names | {f"core(torch='{x}')" for x in constant("TESTED")}


def combinations(job):
    """What a matrix runs, as one dictionary for each job."""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    extra = matrix.pop("include", [])
    return [dict(zip(matrix, row, strict=True)) for row in product(*matrix.values())] + extra


def steps(workflow):
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for chosen in combinations(job):
                yield step, chosen


def named_sessions(command):
    """What ``nox -s`` is told to run."""
    rest = re.search(r"nox (?:--no-venv )?-s (.*?)(?: --.*)?$", command, re.M)
    return re.findall(r'"([^"]+)"|(\S+)', rest[1]) if rest else []


def filled(text, values):
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda match: values[match[1]], text)


def test_there_are_workflows_and_forms():
    assert {path.stem for path in WORKFLOWS} == {"ci", "release"}
    assert {path.stem for path in FORMS} == {"bug", "idea"}


@each_workflow
def test_every_session_that_a_workflow_names_exists(path):
    known, named = sessions(), set()
    for step, chosen in steps(read(path)):
        found = named_sessions(filled(step.get("run", ""), chosen))
        named |= {quoted or plain for quoted, plain in found}
    assert named and named <= known, named - known


def test_ci_and_the_workflows_share_their_sessions():
    text = (ROOT / ".ci" / "run").read_text("utf-8")
    named = {name for line in text.splitlines() for pair in named_sessions(line) for name in pair}
    jobs = read(GITHUB / "workflows" / "ci.yml")["jobs"]
    one = {name for row in combinations(jobs["one"]) for name in row["session"].split()}
    assert named - {""} == {"lint", "packages"} <= one <= sessions()


def test_ci_runs_each_python_with_the_oldest_and_the_newest_torch_on_each_system():
    core = combinations(read(GITHUB / "workflows" / "ci.yml")["jobs"]["core"])
    classifiers = PROJECT["project"]["classifiers"]
    pythons = [x.rpartition(" ")[2] for x in classifiers if re.search(r":: 3\.\d+$", x)]
    ends = [constant("TESTED")[k] for k in (0, -1)]
    run = {(row["os"].partition("-")[0], row["python"], row["torch"]) for row in core}
    assert run == set(product(["ubuntu", "macos", "windows"], pythons, ends))
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    minors = [int(x.partition(".")[2]) for x in pythons]
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_the_versions_that_are_said_to_be_tested_are():
    tested = constant("TESTED")
    [torch] = [x for x in PROJECT["project"]["dependencies"] if x.startswith("torch")]
    assert tested[0].startswith(re.search(r">=([\d.]+)", torch)[1])
    assert PINS["torch"] in tested
    said = f"{', '.join(tested[:-1])} and {tested[-1]}"
    for name in ("docs/install.md", "pyproject.toml"):
        assert said in (ROOT / name).read_text("utf-8"), name


@pytest.mark.parametrize("name", ["docs/install.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_pages_name_the_pythons_that_are_tested(name):
    listed = [x for x in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", x)]
    first, last = (listed[k].rpartition(" ")[2] for k in (0, -1))
    assert f"{first} to {last}" in (ROOT / name).read_text("utf-8")


@each_workflow
def test_a_workflow_may_do_what_it_needs_and_ends(path):
    """Read only, unless a job says more; a limit of time; no token left beside the sources."""
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
    for step, _ in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


def test_a_release_is_published_by_a_tag_alone_and_without_a_token():
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    writing = {name: job["permissions"] for name, job in jobs.items() if "permissions" in job}
    assert writing == {"publish": {"id-token": "write"}, "announce": {"contents": "write"}}
    assert jobs["publish"]["if"] == "github.event_name == 'push'"
    assert jobs["publish"]["needs"] == "check" and jobs["check"]["needs"] == ["sources", "wheels"]
    assert "secrets." not in (GITHUB / "workflows" / "release.yml").read_text("utf-8")


@each_workflow
def test_what_a_workflow_runs_or_reads_is_there(path):
    text = path.read_text("utf-8")
    for name in re.findall(r"python (\S+\.py)|(?:^| )(constraints\.txt|pyproject\.toml)", text):
        assert (ROOT / "".join(name)).is_file(), name


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_have_one_id_for_each_question(path):
    form = read(path)
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in asked}) == len(asked)
    assert any(part.get("validations", {}).get("required") for part in asked)


def test_the_form_for_bugs_asks_for_what_the_package_prints():
    from lpnested.__main__ import report

    parts = {part.get("id"): part for part in read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"]}
    asked = parts["versions"]
    assert "python -m lpnested" in asked["attributes"]["description"]
    assert asked["validations"]["required"] and parts["input"]["validations"]["required"]
    shown, printed = (
        {re.split(r" {2,}", line)[0] for line in text.splitlines()}
        for text in (asked["attributes"]["placeholder"], report())
    )
    assert shown == {x for x in printed if "cuda:" not in x and not x.isupper()}
    example = parts["input"]["attributes"]["placeholder"]
    exec(compile(example, "bug.yml", "exec"), {})


def test_hooks_have_the_versions_of_ci():
    hooks = [hook for repo in read(HOOKS)["repos"] for hook in repo["hooks"]]
    wanted = {package for hook in hooks for package in hook["additional_dependencies"]}
    assert wanted == {f"{name}=={PINS[name]}" for name in ("ruff", "pre-commit-hooks")}


def test_read_the_docs_builds_as_ci_does():
    jobs = read(ROOT / ".readthedocs.yaml")["build"]["jobs"]
    [install], [build] = jobs["install"], jobs["build"]["html"]
    assert "-c constraints.txt -e '.[docs]'" in install
    site = " docs docs/_build/html"
    assert build.replace('docs "$READTHEDOCS_OUTPUT/html"', site.strip()) in (
        (ROOT / "docs" / "install.md").read_text("utf-8")
    )
    assert constant("SITE").removesuffix(site) in build


def test_dependabot_leaves_the_range_of_torch_to_people():
    updates = {x["package-ecosystem"]: x for x in read(GITHUB / "dependabot.yml")["updates"]}
    assert set(updates) == {"github-actions", "pip"}
    assert {"torch"} <= {x["dependency-name"] for x in updates["pip"]["ignore"]}
