"""What a bug report begins with."""

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import lpnested
from lpnested.__main__ import report
from lpnested.ops import library


def rows() -> dict[str, str]:
    """The report by the words at the left, which two spaces part from those at the right."""
    pairs = (line.split("  ", 1) for line in report().splitlines())
    return {name: value.strip() for name, value in pairs}


def test_it_names_versions_devices_and_backends() -> None:
    found = rows()
    assert found["lpnested"] == lpnested.__version__
    assert found["torch"] == torch.__version__
    assert found["python"].startswith(platform.python_version())
    assert found["device, cpu"].startswith(f"{torch.get_num_threads()} threads, ")
    for kind, name in lpnested.backends().items():
        assert found[f"backend, {kind}"] == name


def test_the_command_prints_it_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    command = [sys.executable, "-W", "error", "-m", "lpnested"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{report()}\n"


def test_why_the_kernels_do_not_serve_is_said() -> None:
    with library.using("off"):
        assert rows()["backend, cpu"] == "reference (switched off by LPNESTED_KERNELS)"


def test_of_the_environment_it_shows_what_concerns_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPNESTED_KERNELS", "avx2")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SOMEBODYS_SECRET", "hunter2")
    found = rows()
    assert found["LPNESTED_KERNELS"] == "avx2" and found["OMP_NUM_THREADS"] == "3"
    assert "hunter2" not in report()


@pytest.mark.parametrize("named", [True, False])
def test_every_accelerator_has_a_line(monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """Such as CUDA's devices, which have names, and Apple's, which has none."""
    module = SimpleNamespace(**{"get_device_name": lambda k: f"Card {k}"} if named else {})
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "get_device_module", lambda kind: module)
    found = rows()
    expected = ["Card 0", "Card 1"] if named else ["no name", "no name"]
    assert [found["device, cuda:0"], found["device, cuda:1"]] == expected


def test_without_one_the_cpu_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert [name for name in rows() if name.startswith("device")] == ["device, cpu"]
