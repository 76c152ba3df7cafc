"""The configuration of Sphinx for `task docs`. The sources are the pages of the repository in their places, so that links agree with those of a git host.

Nothing of a page comes from another server, and a page needs no server: the site works from a folder, its search included.
"""

from __future__ import annotations

from pygments.lexers import special
from sphinx import application

import fuseml

project = "FuseML"
version = release = fuseml.__version__
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/tools/*.md", "*.md", "infra/*.md", "infra/decisions/*.md"]
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


def setup(app: application.Sphinx) -> None:
    """Diagrams appear as their text: the program that draws them would come from another server."""
    app.add_lexer("mermaid", special.TextLexer)
