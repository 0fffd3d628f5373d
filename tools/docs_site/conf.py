"""How Sphinx builds the documentation (`make docs-site`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from docutils import nodes
from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "selfhosted.prefect"
author = "selfhosted.prefect maintainers"
release = version = str(yaml.safe_load((Path(__file__).parents[2] / "galaxy.yml").read_text(encoding="utf-8"))["version"])

extensions = ["myst_parser", "sphinx_antsibull_ext", "sphinxcontrib.mermaid"]
# Links that lead nowhere are warnings, and warnings are errors.
nitpicky = True
highlight_language = "text"

# Headings get the anchors that forges give them, so that one link does in both places.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
antsibull_ext_color_scheme = "default-autodark"

# Ansible's own documentation is linked and not asked: its list of labels would have to be downloaded for each build.
ANSIBLE = "https://docs.ansible.com/ansible/latest"
LABELS = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "collections_keyword": "collections_guide/collections_using_playbooks.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}
PLUGIN_LABEL = re.compile(r"ansible_collections\.(\w+)\.(\w+)\.(\w+?)(?:__([\w/-]+))?")


def ansible_url(label: str) -> str | None:
    """Where Ansible's documentation has a label that the generated pages refer to; None for what belongs to this site."""
    if label in LABELS:
        return f"{ANSIBLE}/{LABELS[label]}"
    found = PLUGIN_LABEL.fullmatch(label)
    if found is None or f"{found[1]}.{found[2]}" == project:
        return None
    anchor = f"#{found[4]}" if found[4] else ""
    return f"{ANSIBLE}/collections/{found[1]}/{found[2]}/{found[3]}.html{anchor}"


def link_to_ansible(_app: Sphinx, _env: BuildEnvironment, node: pending_xref, content: nodes.TextElement) -> nodes.reference | None:
    """Resolve what this site does not have; None leaves it to Sphinx, which warns."""
    url = ansible_url(str(node.get("reftarget", "")))
    return nodes.reference("", "", content, internal=False, refuri=url) if url else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", link_to_ansible)
    # A language that Pygments does not know.
    app.add_lexer("haproxy", TextLexer)
