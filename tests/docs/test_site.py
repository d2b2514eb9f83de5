# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The built site leads nowhere that does not exist. Links to other sites are not followed: that would need them."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(os.environ["SITE"])


class Page(HTMLParser):
    """The links and the places to link to of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value and tag != "meta":
                self.places.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    return {path: Page(path) for path in SITE.rglob("*.html")}


def test_site_has_every_page(pages: dict[Path, Page]) -> None:
    names = {path.relative_to(SITE).as_posix() for path in pages}
    names_of_guides = ("guide", "restore", "precache", "protections", "troubleshooting", "nova_options")
    guides = {f"docsite/{name}.html" for name in names_of_guides}
    plugins = {"image_cache_facts_module.html", "image_cache_prune_module.html", "image_cache_role.html"}
    assert {"index.html", *guides, *plugins} <= names


def test_every_link_within_the_site_leads_somewhere(pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            is_lost = not target.is_file()
            if not is_lost and parts.fragment and target in pages:
                is_lost = unquote(parts.fragment) not in pages[target].places
            if is_lost:
                lost.append((path.name, link))
    assert lost == []
