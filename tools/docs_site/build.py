"""Build the documentation as a web site in build/docs-site.

Usage: python tools/docs_site/build.py

The pages are README.md, CONTRIBUTING.md, CHANGELOG.md and those of docs/. antsibull-docs adds a page for each role, module and plugin, made
from its specification. What Sphinx reads is in build/docs-site-work. Nothing is downloaded, and each warning is an error.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "docs-site"
WORK = ROOT / "build" / "docs-site-work"
COLLECTION = "selfhosted.prefect"
# Where antsibull-docs writes, below the source folder.
REFERENCE = "collections"
FRONT = "README.md"
PROJECT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")

# A link's target, after what is code and has to stay as it is.
CODE_OR_TARGET = re.compile(
    r"^ *(?P<fence>```|~~~).*?^ *(?P=fence)[^\n]*$|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)|\]\((?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)
# The theme shows the contents of each page at its side, and an error where a page has them too.
CONTENTS = re.compile(r"^\.\. contents::\n(?: +\S.*\n)*", re.MULTILINE)
ROLE_PAGE = re.compile(r"roles/(\w+)/README\.md")
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:|#")


class SiteError(Exception):
    """The site cannot be built; the text says which page or command, and why."""


def find_pages(root: Path) -> list[str]:
    """The pages of the repository that the site shows, relative to its root."""
    project = [name for name in (FRONT, *PROJECT_PAGES) if (root / name).is_file()]
    return [*project, *sorted(path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md"))]


def site_path(path: str) -> str:
    """Where the site has a file of the repository: a role has the page made from its specification."""
    role = ROLE_PAGE.fullmatch(path)
    if role:
        return f"{REFERENCE}/{role[1]}_role.rst"
    return "index.md" if path == FRONT else path


def site_text(page: str, text: str, root: Path) -> tuple[str, set[str]]:
    """The text of a page, with links as the site needs them, and the files beside the pages that it links to."""
    folder = PurePosixPath(page).parent.as_posix()
    files: set[str] = set()

    def replace(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or EXTERNAL.match(target):
            return found[0]
        name, _hash, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, name))
        if not (root / path).is_file():
            raise SiteError(f"{page} links to {target}, and the site shows files alone: link to a file, or name it as code")
        shown = site_path(path)
        if shown == path and not path.endswith(".md"):
            files.add(path)
        # Headings of a generated page are its own.
        suffix = f"#{anchor}" if anchor and shown.endswith(".md") else ""
        return f"]({posixpath.relpath(shown, folder)}{suffix})"

    return CODE_OR_TARGET.sub(replace, text), files


def toctree(caption: str, entries: Iterable[str]) -> str:
    """A part of the navigation, which the theme shows at the side of each page."""
    title = f":caption: {caption}\n" if caption else ""
    return "\n".join(["", "```{toctree}", f":hidden:\n{title}", *entries, "```", ""])


def navigation(pages: Sequence[str], readme: str) -> dict[str, str]:
    """What has to be added to which page, so that each page is found: pages in the order in which the README names them."""
    listed = [path for path in dict.fromkeys(re.findall(r"\]\((docs/[^)#]+\.md)", readme)) if path in pages]
    folders = {PurePosixPath(path).parent: path for path in listed if path.endswith(f"/{FRONT}")}
    added: dict[str, str] = {}
    below: set[str] = set()
    for folder, overview in folders.items():
        members = [path for path in pages if PurePosixPath(path).parent == folder and path != overview]
        added[overview] = toctree("", (PurePosixPath(path).name for path in members))
        below.update(members)
    others = [path for path in pages if path.startswith("docs/") and path not in {*listed, *below}]
    parts = {
        "Guide": [*listed, *others],
        "Reference": [f"Roles, modules and plugins <{REFERENCE}/index>"],
        "Project": [path for path in PROJECT_PAGES if path in pages],
    }
    added[FRONT] = "".join(toctree(caption, entries) for caption, entries in parts.items() if entries)
    return added


def write_sources(root: Path, source: Path) -> None:
    """Lay out what Sphinx reads, but for the pages that antsibull-docs makes."""
    pages = find_pages(root)
    added = navigation(pages, (root / FRONT).read_text(encoding="utf-8"))
    linked: set[str] = set()
    for page in pages:
        text, files = site_text(page, (root / page).read_text(encoding="utf-8"), root)
        linked |= files
        target = source / site_path(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + added.get(page, ""), encoding="utf-8")
    for name in sorted(linked):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, source / name)


def run(arguments: Sequence[str | Path], **variables: str) -> None:
    """Run a tool of the virtual environment; its output is only shown when it fails."""
    program, *rest = (str(argument) for argument in arguments)
    beside = Path(sys.executable).parent
    environment = {**os.environ, **variables, "PATH": os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)])}
    result = subprocess.run(
        [beside / program, *rest], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise SiteError(f"{program} ended with {result.returncode}:\n{result.stdout}{result.stderr}")


def write_reference(source: Path) -> None:
    """Have antsibull-docs write a page for each role, module and plugin of this checkout."""
    folder = source / REFERENCE
    # It refuses a folder that others may write to.
    folder.mkdir(mode=0o755, parents=True)
    run(
        ["antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--fail-on-error", "--dest-dir", folder, COLLECTION],
        ANSIBLE_COLLECTIONS_PATH=str(ROOT / "build" / "collections"),
        ANSIBLE_HOME=str(ROOT / "build" / "ansible-home"),
    )
    for page in folder.glob("*.rst"):
        page.write_text(CONTENTS.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")


def write_site(source: Path, doctrees: Path, output: Path) -> None:
    """Have Sphinx make the site. All of it anew: a page that is not read again would keep its warnings to itself."""
    options: list[str | Path] = ["--fail-on-warning", "--fresh-env", "--jobs=auto", "-c", Path(__file__).parent, "-d", doctrees]
    run(["sphinx-build", *options, source, output])


def main() -> int:
    """Build the site; 0 when it is there, 1 with the reason when it is not."""
    for folder in (OUTPUT, WORK):
        shutil.rmtree(folder, ignore_errors=True)
    source = WORK / "pages"
    try:
        write_reference(source)
        write_sources(ROOT, source)
        write_site(source, WORK / "doctrees", OUTPUT)
    except SiteError as error:
        print(f"docs-site: {error}", file=sys.stderr)
        return 1
    print(f"The documentation is in {OUTPUT / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
