"""Build hooks: compile the kernels, if there is a compiler, and use the README as description.

``python hatch_build.py`` compiles the kernels in place, as an editable install does.
"""

import os
import platform
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

FENCED = re.compile(r"(^```.*?^```$)", re.M | re.S)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
ABSOLUTE = re.compile(r"[a-z]+:|#")


def with_absolute_links(text: str, address: str | None) -> str:
    """Replace the relative links in a text, which only work in a checkout.

    They are made absolute if the repository has a public address. Otherwise a link is reduced to
    its text, and an image is removed.
    """

    def replace(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        if ABSOLUTE.match(target):
            return match[0]
        if address is None:
            return "" if image else label
        return f"{image}[{label}]({address}/{'raw' if image else 'blob'}/main/{target})"

    sections = FENCED.split(text)  # fenced code is at the odd indices
    return "".join(x if k % 2 else LINK.sub(replace, x) for k, x in enumerate(sections))


class CustomMetadataHook(MetadataHookInterface):
    """Sets `readme`; the public address is `Source` in `project.urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Change the metadata in place."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address = metadata.get("urls", {}).get("Source")
        text = with_absolute_links(text, address and address.rstrip("/"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


# The compiler flags and the vector width in bytes of each instruction set.
INSTRUCTION_SETS = {
    "x86_64": {
        "avx2": ("-mavx2 -mfma", 32),
        "avx512": ("-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma", 64),
    },
    "aarch64": {"neon": ("", 16)},
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
FLAGS = (
    "-fno-fast-math -std=c++17 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-math-errno "
    "-fno-trapping-math -ffp-contract=fast -fwrapv -D_REENTRANT -Wall -Wextra -Wno-psabi"
)


def compile_kernels(root: Path) -> str:
    """Compile the kernels in a source tree. Return why that failed, or an empty string."""
    if platform.system() == "Windows":
        return "there are no kernels for Windows"
    ops = root / "lpnested" / "ops"
    machine = platform.machine().lower()
    targets = INSTRUCTION_SETS.get(MACHINES.get(machine, machine))
    if targets is None:
        return f"{machine} is not supported"
    chosen = os.environ.get("CXX", "").strip()
    names = [chosen] if chosen else ["c++", "g++", "clang++"]
    found = next((name for name in names if shutil.which(shlex.split(name)[0])), None)
    if found is None:
        return f"no C++ compiler was found ({', '.join(names)})"
    compiler = [*shlex.split(found), *shlex.split(os.environ.get("CXXFLAGS", "")), *FLAGS.split()]
    jobs = [("interface.cpp", [f'-DSOURCE="{digest(ops / "native")}"'])]
    for name, (flags, width) in targets.items():
        own = [*flags.split(), f"-DTARGET={name}", f"-DBYTES={width}"]
        jobs += [("kernels.cpp", own), ("draws.cpp", own)]
    with tempfile.TemporaryDirectory() as folder:
        objects = [str(Path(folder, f"{k}.o")) for k in range(len(jobs))]
        library = str(Path(folder, "library"))
        failure = run_all(
            [*compiler, *flags, "-c", str(ops / "native" / file), "-o", target]
            for (file, flags), target in zip(jobs, objects, strict=True)
        ) or run_all([[*compiler, "-shared", *objects, "-o", library]])
        if not failure:
            unfinished = ops / f"_kernels.so.{os.getpid()}"
            shutil.copyfile(library, unfinished)
            unfinished.replace(ops / "_kernels.so")
    return failure


def run_all(commands: Iterable[list[str]]) -> str:
    """Run commands in parallel. Return the error output of the first that failed, or nothing."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    running = [(command, subprocess.Popen(command, **pipes)) for command in commands]
    finished = [(command, process.communicate()[1], process) for command, process in running]
    failed = (f"{shlex.join(c)} failed:\n{text}" for c, text, x in finished if x.returncode)
    return next(failed, "")


def digest(sources: Path) -> str:
    """Compute the digest with the library's own module, which runs without torch."""
    return str(runpy.run_path(str(sources.parent / "digest.py"))["digest"](sources))


class CustomBuildHook(BuildHookInterface):
    """Compiles the kernels. Without a compiler, the package is pure Python and still works."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to a wheel, or to the checkout of an editable install."""
        if self.target_name != "wheel":
            return
        why_not = compile_kernels(Path(self.root))
        if why_not:
            (Path(self.root) / "lpnested" / "ops" / "_kernels.so").unlink(missing_ok=True)
            self.app.display_warning(f"lpnested is built without compiled kernels: {why_not}")
            return
        build_data["pure_python"] = False
        platform_tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform_tag}"
        build_data["artifacts"].append("/lpnested/ops/_kernels.so")


if __name__ == "__main__":
    why_not = compile_kernels(Path(__file__).parent)
    sys.exit(f"hatch_build.py: {why_not}" if why_not else None)
