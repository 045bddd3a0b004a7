"""Open every page of the built site in headless Chromium, as a reader without a network would.

    python docs/check_site.py docs/_build/html [--screenshots FOLDER]

Fails where a formula is not rendered, the console has an error, anything outside the site is asked
for, a link within the site is broken, a page is wider than a phone, a table is wider than its
place without a bar to scroll it by, or a traceback is published. It needs the package playwright,
and Chromium as the system has it (Debian: ``apt-get install chromium``).
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urljoin, urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

DESKTOP, PHONE = {"width": 1300, "height": 900}, {"width": 390, "height": 844}

# What a page is made of, as its reader's browser sees it.
FACTS = """() => ({
    ids: [...document.querySelectorAll('[id]')].map(e => e.id),
    links: [...document.querySelectorAll('a[href]')].map(e => e.href),
    formulas: document.querySelectorAll('.math').length,
    rendered: document.querySelectorAll('.math mjx-container svg').length,
    wrong: [...document.querySelectorAll('[data-mjx-error], mjx-merror')].map(e => e.outerHTML),
    broken: [...document.images].filter(e => !e.naturalWidth).map(e => e.src),
})"""
TYPESET = "() => !window.MathJax || (MathJax.startup && MathJax.startup.promise)"
TOO_WIDE = """() => {
    const width = document.documentElement.clientWidth;
    return document.documentElement.scrollWidth > width ? document.documentElement.scrollWidth : 0;
}"""


HIDDEN = """() => [...document.querySelectorAll('article table')].filter(table => {
    const around = [];
    for (let e = table; e && e.tagName !== 'ARTICLE'; e = e.parentElement) around.push(e);
    const moves = around.filter(
        e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible');
    return moves.some(e => e.offsetHeight - e.clientHeight < 8);
}).map(table => table.textContent.trim().slice(0, 40).replace(/\\s+/g, ' '))"""
BROKEN = "() => /Traceback \\(most recent call last\\)/.test(document.body.textContent)"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The site at an address of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def open_page(browser: Browser, url: str, root: str, problems: list[str]) -> Page:
    """A page whose complaints and requests to the outside end in ``problems``."""
    page = browser.new_page(viewport=DESKTOP)
    name = url.removeprefix(root)
    page.on(
        "console",
        lambda message: (
            problems.append(f"{name}: console {message.type}: {message.text}")
            if message.type in ("error", "warning")
            else None
        ),
    )
    page.on("pageerror", lambda error: problems.append(f"{name}: {error}"))

    def route(route: object) -> None:
        address = route.request.url
        if address.startswith((root, "data:")):
            route.continue_()
        else:
            problems.append(f"{name}: asks for {address}")
            route.abort()

    page.route("**/*", route)
    page.goto(url, wait_until="load")
    page.evaluate(TYPESET)
    return page


def check_page(page: Page, name: str, problems: list[str]) -> dict:
    """What the page holds; formulas, pictures and both widths are judged here."""
    facts = page.evaluate(FACTS)
    if facts["rendered"] < facts["formulas"]:
        problems.append(f"{name}: {facts['rendered']} of {facts['formulas']} formulas rendered")
    problems.extend(f"{name}: formula: {error[:200]}" for error in facts["wrong"])
    problems.extend(f"{name}: no picture {source}" for source in facts["broken"])
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        width = page.evaluate(TOO_WIDE)
        if width:
            problems.append(f"{name}: {width} px wide in a window of {viewport['width']}")
        for table in page.evaluate(HIDDEN):
            problems.append(
                f"{name}: no bar for the table {table!r} in a window of {viewport['width']}"
            )
    if page.evaluate(BROKEN):
        problems.append(f"{name}: a traceback")
    return facts


def check_links(pages: dict[str, dict], root: str, folder: Path, problems: list[str]) -> None:
    """Every link within the site leads to a file, and to a place in it."""
    for name, facts in pages.items():
        for link in facts["links"]:
            address = urljoin(root + name, link)
            if not address.startswith(root):
                continue
            target = unquote(urlsplit(address).path.lstrip("/")) or "index.html"
            place = unquote(urlsplit(address).fragment)
            if not (folder / target).is_file():
                problems.append(f"{name}: broken link to {target}")
            elif place and target in pages and place not in pages[target]["ids"]:
                problems.append(f"{name}: {target} has no place {place!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of all pages")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium here: install the system's own (Debian: apt-get install chromium)")
    names = sorted(str(p.relative_to(options.site)) for p in options.site.rglob("*.html"))
    names = [name for name in names if not name.startswith("_")]
    problems: list[str] = []
    pages: dict[str, dict] = {}
    with serve(options.site) as root, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox"],
            ignore_default_args=["--hide-scrollbars"],  # a reader sees them
        )
        for name in names:
            page = open_page(browser, root + name, root, problems)
            pages[name] = check_page(page, name, problems)
            if options.screenshots:
                for label, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
                    picture = options.screenshots / f"{name.replace('/', '-')}-{label}.png"
                    page.set_viewport_size(viewport)
                    page.screenshot(path=picture, full_page=True)
            page.close()
        browser.close()
        check_links(pages, root, options.site, problems)
    if not names or not any(facts["formulas"] for facts in pages.values()):
        problems.append(f"{options.site} holds no pages with formulas")
    print(*problems, sep="\n", end="\n" if problems else "")
    formulas = sum(facts["rendered"] for facts in pages.values())
    print(f"{len(names)} pages, {formulas} formulas, {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
