"""The README as the description of the package, which is shown where there is no checkout."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

FENCED = re.compile(r"(^```.*?^```$)", re.M | re.S)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
ANYWHERE = re.compile(r"[a-z]+:|#")


def shown_elsewhere(text: str, address: str | None) -> str:
    """The text with no link that leads into a checkout.

    Those lead to the repository, if it has a public address. If it has none, a link becomes its
    words, and a picture is left out.
    """

    def replaced(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        if ANYWHERE.match(target):
            return match[0]
        if address is None:
            return "" if picture else words
        return f"{picture}[{words}]({address}/{'raw' if picture else 'blob'}/main/{target})"

    parts = FENCED.split(text)  # what stands between fences has an odd number
    return "".join(x if k % 2 else LINK.sub(replaced, x) for k, x in enumerate(parts))


class CustomMetadataHook(MetadataHookInterface):
    """Sets `readme`; the public address is the one of `Source` in `project.urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Change the metadata in place."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address = metadata.get("urls", {}).get("Source")
        shown = shown_elsewhere(text, address and address.rstrip("/"))
        metadata["readme"] = {"content-type": "text/markdown", "text": shown}
