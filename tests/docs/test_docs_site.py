"""The web site of the documentation: what is in it, where its links lead, and that a broken page fails the build."""

from __future__ import annotations

import re
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.docs_site import build, conf

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).parents[2]
# What shows diagrams. Without it their source is shown.
DIAGRAMS = "/mermaid@"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository with pages that link to each other."""
    for name, text in {
        "README.md": "# Web\n\n[Guide](docs/guide.md), [alerts](docs/alerts/README.md), [licence](LICENSE)\n",
        "CHANGELOG.md": "# Changes\n",
        "LICENSE": "Free.\n",
        "docs/guide.md": "# Guide\n\n## A part\n\n[Here](#a-part), [up](../README.md), [role](../roles/web/README.md#variables)\n",
        "docs/other.md": "# Other\n",
        "docs/alerts/README.md": "# Alerts\n\n[One](One.md)\n",
        "docs/alerts/One.md": "# One\n\n[Why](../guide.md#a-part)\n",
        "roles/web/README.md": "# web\n",
        "files/list.yml": "a: b\n",
    }.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "checkout"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](other.md)", "[a](other.md)"),
        ("[a](other.md#part)", "[a](other.md#part)"),
        ("[a](#part)", "[a](#part)"),
        ("[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("[a](../README.md)", "[a](../index.md)"),
        ("[`web`](../roles/web/README.md#variables)", "[`web`](../collections/web_role.rst)"),
        ("[a](../files/list.yml)", "[a](../files/list.yml)"),
        ("`[a](../README.md)`", "`[a](../README.md)`"),
        ("```text\n[a](../README.md)\n```", "```text\n[a](../README.md)\n```"),
    ],
)
def test_links_of_a_page(checkout: Path, link: str, expected: str) -> None:
    text, files = build.site_text("docs/guide.md", link, checkout)
    assert text == expected
    assert files == ({"files/list.yml"} if "list.yml" in link else set())


@pytest.mark.parametrize("target", ["../files", "gone.md"])
def test_a_link_that_the_site_cannot_show_is_refused(checkout: Path, target: str) -> None:
    with pytest.raises(build.SiteError, match=f"docs/guide.md links to {target}"):
        build.site_text("docs/guide.md", f"[a]({target})", checkout)


def test_navigation(checkout: Path) -> None:
    added = build.navigation(build.find_pages(checkout), (checkout / "README.md").read_text(encoding="utf-8"))
    assert sorted(added) == ["README.md", "docs/alerts/README.md"]
    assert ":caption: Guide\n\ndocs/guide.md\ndocs/alerts/README.md\ndocs/other.md\n" in added["README.md"]
    assert ":caption: Project\n\nCHANGELOG.md\n" in added["README.md"]
    assert "\nOne.md\n" in added["docs/alerts/README.md"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("common_return_values", "reference_appendices/common_return_values.html"),
        ("ansible_collections.ansible.builtin.uri_module", "collections/ansible/builtin/uri_module.html"),
        (
            "ansible_collections.community.postgresql.postgresql_db_module__parameter-login_host",
            "collections/community/postgresql/postgresql_db_module.html#parameter-login_host",
        ),
        ("ansible_collections.selfhosted.prefect.gone_module", None),
        ("gone", None),
    ],
)
def test_links_to_ansible(label: str, expected: str | None) -> None:
    assert conf.ansible_url(label) == (f"{conf.ANSIBLE}/{expected}" if expected else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "text", "problem"),
    [
        ("docs/other.md", "# Other\n", None),
        ("docs/other.md", "# Other\n\n[Gone](guide.md#gone)\n", "gone"),
        ("docs/other.md", "# Other\n\n```unknown\nx\n```\n", "unknown"),
        ("docs/alerts/sub/lost.md", "# Lost\n\n# Twice\n\n### Too deep\n", "lost.md"),
    ],
)
def test_a_broken_page_fails_the_build(checkout: Path, tmp_path: Path, page: str, text: str, problem: str | None) -> None:
    path = checkout / page
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    source = tmp_path / "pages"
    for name in ("index", "web_role"):
        (source / build.REFERENCE).mkdir(parents=True, exist_ok=True)
        (source / build.REFERENCE / f"{name}.rst").write_text(":orphan:\n\nTitle\n=====\n", encoding="utf-8")
    build.write_sources(checkout, source)
    if problem is None:
        build.write_site(source, tmp_path / "doctrees", tmp_path / "site")
        assert (tmp_path / "site" / "docs" / "other.html").is_file()
    else:
        with pytest.raises(build.SiteError, match=problem):
            build.write_site(source, tmp_path / "doctrees", tmp_path / "site")


class Page(HTMLParser):
    """What a page of the site has for others to link to, what it links to, and what a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.has_contents = False
        self.in_script = False
        self.feed(text)

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.loaded.update(re.findall(r"https?://[^\s\"'`]+", data))

    def handle_endtag(self, tag: str) -> None:
        self.in_script = self.in_script and tag != "script"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.in_script = tag == "script"
        values = {name: value for name, value in attrs if value}
        self.has_contents |= "contents" in values.get("class", "").split()
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif "src" in values or tag == "link":
            self.loaded |= {values[name] for name in ("src", "href") if name in values}


@pytest.fixture(scope="module")
def site(commands: Commands) -> dict[Path, Page]:
    """The site of this checkout, page by page."""
    commands.run([sys.executable, "tools/docs_site/build.py"])
    return {path.relative_to(build.OUTPUT): Page(path.read_text(encoding="utf-8")) for path in sorted(build.OUTPUT.rglob("*.html"))}


@pytest.mark.slow
def test_everything_has_a_page(site: dict[Path, Page]) -> None:
    expected = {"index.html", "CONTRIBUTING.html", "CHANGELOG.html"}
    expected |= {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    # The variables of the role common are documented with the roles whose names they begin with, so it has no specs of its own.
    roles = {path.name for path in (ROOT / "roles").glob("*/")} - {"common"}
    assert roles == {path.parents[1].name for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")}
    expected |= {f"{build.REFERENCE}/{name}_role.html" for name in roles}
    for folder, kind in (("modules", "module"), ("filter", "filter"), ("lookup", "lookup")):
        names = [path.stem for path in (ROOT / "plugins" / folder).glob("*.yml" if kind == "filter" else "*.py")]
        assert names
        expected |= {f"{build.REFERENCE}/{name}_{kind}.html" for name in names}
    assert not sorted(expected - {path.as_posix() for path in site})


@pytest.mark.slow
def test_no_page_has_contents_of_its_own(site: dict[Path, Page]) -> None:
    """The theme shows them at the side, and an error in their place, without a warning."""
    assert not [path for path, page in site.items() if page.has_contents]


@pytest.mark.slow
def test_every_link_leads_somewhere(site: dict[Path, Page]) -> None:
    broken = []
    for path, page in site.items():
        for link in page.links | page.loaded:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            name = urllib.parse.unquote(parts.path)
            target = (build.OUTPUT / path.parent / name).resolve() if name else build.OUTPUT / path
            linked = site.get(target.relative_to(build.OUTPUT)) if target.is_relative_to(build.OUTPUT) else None
            if not target.is_file() or (linked and parts.fragment and urllib.parse.unquote(parts.fragment) not in linked.anchors):
                broken.append(f"{path}: {link}")
    assert not broken


@pytest.mark.slow
def test_a_browser_loads_nothing_else_from_elsewhere(site: dict[Path, Page]) -> None:
    outside = {(path, address) for path, page in site.items() for address in page.loaded if urllib.parse.urlsplit(address).netloc}
    assert not sorted(address for _path, address in outside if DIAGRAMS not in address)
    # The search shows parts of any page.
    assert {path.as_posix() for path, _address in outside} <= {"docs/architecture.html", "search.html"}


@pytest.mark.slow
def test_links_to_roles_lead_to_the_pages_made_from_their_specifications(site: dict[Path, Page]) -> None:
    assert any(link.startswith("../collections/prefect_role.html") for link in site[Path("docs/variables.html")].links)
