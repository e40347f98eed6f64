"""Check the built site: every link and anchor leads somewhere, and the search's index has every page."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).parents[2] / "build" / "docs" / "site"


class Page(HTMLParser):
    """What a page links to, and the names of its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Gather links and anchors."""
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if (tag, name) in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")) and value:
                self.links.append(value)


def broken(site: Path = SITE) -> list[str]:
    """Links within the site that lead nowhere, each with its page; links to other sites are not followed."""
    pages = {file: Page(file.read_text()) for file in site.rglob("*.html") if file.name != "404.html"}
    wrong = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            found = (
                pages[target].anchors if target in pages else {parts.fragment} if target.is_file() else set()
            )
            if unquote(parts.fragment) not in found:
                wrong.append(f"{file.relative_to(site)}: {link}")
    return wrong


def not_found(words: list[str], site: Path = SITE) -> list[str]:
    """Words that the search's index has not."""
    index = json.dumps(json.loads((site / "search.json").read_text()), ensure_ascii=False)
    return [word for word in words if word not in index]


if __name__ == "__main__":
    errors = [
        *broken(),
        *(f"the search does not find {word}" for word in not_found(["keep_prob", "noise_shape"])),
    ]
    print(
        "\n".join(errors) or f"{len(list(SITE.rglob('*.html')))} pages, all links and anchors lead somewhere"
    )
    sys.exit(bool(errors))
