"""Mistakes in the flags, told to the user by name."""

import importlib.util

import torch


class UsageError(Exception):
    """A mistake in the flags, or in a file they name; the message is for the user."""


def flag(key: str) -> str:
    """Name of a field on the command line."""
    return "--" + key.replace("_", "-")


def require_package(what: str, package: str, extra: str) -> None:
    """Raise a UsageError that says how to install a package that is missing."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f"{what} needs the package {package}, which is not installed here; it comes with\n"
            f"  python -m pip install -c constraints.txt -e '.[{extra}]'"
        )


def require(condition: bool, key: str, wanted: str, got: object) -> None:
    """Raise a UsageError about one flag unless the condition holds."""
    if not condition:
        raise UsageError(f"{flag(key)} must be {wanted}, but got {got}")


def find_device(name: str) -> torch.device:
    """The device of that name, proved to work."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} is not available here: {reason}") from error
    return device


def reason(error: Exception) -> str:
    """The first line of an error, without torch's advice to load such a file with its code."""
    text = str(error).strip()
    if "weights_only" in text:
        return "it holds something else than tensors, or is damaged"
    return text.splitlines()[0] if text else type(error).__name__
