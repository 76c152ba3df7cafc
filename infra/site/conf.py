"""The configuration of Sphinx for `task docs`. The sources are the pages of the repository in their places, so that links agree with those of a git host.

Nothing of a page comes from another server, and a page needs no server: the site works from a folder, its search included.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from pygments.lexers import special
from sphinx import application
from sphinx.util import logging

import fuseml

# The configuration is run as a file; the repository is not on the path of `sphinx-build`.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from infra import diagrams

_LOG = logging.getLogger(__name__)

project = "FuseML"
version = release = fuseml.__version__
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/tools/*.md", "*.md", "infra/*.md", "infra/decisions/*.md", "examples/*.md"]
exclude_patterns = [".*", "shared", "functions", "tests", "knative", "eventing"]

# The anchors of headings, as git hosts make them.
myst_heading_anchors = 4
# Decisions are in the index of ARCHITECTURE.md.
suppress_warnings = ["toc.not_included"]

html_theme = "furo"
html_title = f"FuseML {version}"
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
# A summary is fetched from the page that was found, which browsers refuse in a folder.
html_show_search_summary = False
html_additional_pages = {"index": "to-index.html"}
templates_path = ["."]
# Diagrams are drawn for light paper.
html_static_path = ["static"]
html_css_files = ["diagrams.css"]


def setup(app: application.Sphinx) -> None:
    """Diagrams appear as pictures, which `task diagrams` has drawn: the program that draws them would come from another server."""
    app.add_lexer("mermaid", special.TextLexer)
    app.connect("doctree-read", _show_diagrams)


def _show_diagrams(app: application.Sphinx, doctree: nodes.document) -> None:
    for block in [*doctree.findall(nodes.literal_block)]:
        if block.get("language") != "mermaid":
            continue
        picture = diagrams.picture(block.astext())
        app.env.note_dependency(str(picture))
        if picture.exists():
            block.replace_self(nodes.raw("", f'<div class="diagram">{picture.read_text()}</div>', format="html"))
        else:
            _LOG.warning("the diagram has no picture; `task diagrams` draws it", location=block)
