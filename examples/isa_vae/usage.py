"""Errors in command-line flags, reported to the user by flag name."""

import importlib.util

import torch


class UsageError(Exception):
    """An invalid flag, or a problem with a file it names; the message is for the user."""


def flag(key: str) -> str:
    """Return the command-line flag of a config field."""
    return "--" + key.replace("_", "-")


def require_package(what: str, package: str, extra: str) -> None:
    """Raise a UsageError with the install command if a package is missing."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f"{what} needs the package {package}, which is not installed; install it with\n"
            f"  python -m pip install -c constraints.txt -e '.[{extra}]'"
        )


def require(condition: bool, key: str, wanted: str, got: object) -> None:
    """Raise a UsageError about a flag unless the condition holds."""
    if not condition:
        raise UsageError(f"{flag(key)} must be {wanted}, but got {got}")


def find_device(name: str) -> torch.device:
    """Return the named device after checking that it works."""
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
    """Return the first line of an error, without torch's advice to disable weights_only."""
    text = str(error).strip()
    if "weights_only" in text:
        return "it contains something other than tensors, or is damaged"
    return text.splitlines()[0] if text else type(error).__name__
