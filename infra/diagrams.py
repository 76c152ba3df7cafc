"""`task diagrams`: draws the Mermaid diagrams of the pages as pictures of the site, which then needs neither network nor JavaScript.

Needs the program `chromium` and the file `mermaid.min.js` of the npm package `mermaid`, whose path is the argument. A picture is named by the digest of
its diagram, so that the site refuses a picture of another text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "infra" / "site" / "diagrams"
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECONDS = 120

# The document of the browser becomes the picture in Base64: its serialisation as HTML would be no SVG.
_PAGE = """<!doctype html><meta charset="utf-8"><body><script src="{script}"></script><script>
mermaid.initialize({{startOnLoad: false, securityLevel: "strict", theme: "neutral", deterministicIds: true, fontFamily: "sans-serif"}});
mermaid.render("{name}", {text}).then(
  drawn => {{
    const picture = new DOMParser().parseFromString(drawn.svg, "text/html").querySelector("svg");
    const bytes = new TextEncoder().encode(new XMLSerializer().serializeToString(picture));
    document.body.textContent = "drawn:" + btoa(String.fromCharCode(...bytes)) + ":end";
  }},
  error => {{ document.body.textContent = "refused:" + error; }});
</script></body>"""


def diagrams() -> Iterator[str]:
    """The texts of all diagrams in the pages of the repository's root and of docs/."""
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        yield from _BLOCK.findall(page.read_text())


def picture(text: str) -> Path:
    """The file of a diagram's picture, whether it exists or not."""
    return FOLDER / f"{hashlib.sha256(text.strip().encode()).hexdigest()[:16]}.svg"


def draw(text: str, script: Path) -> str:
    """The picture of a diagram as SVG. Raises ValueError with Mermaid's message for a faulty one."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(_PAGE.format(script=script.resolve().as_uri(), name=f"d{picture(text).stem}", text=json.dumps(text)))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", f"--user-data-dir={folder}/profile"]
        shown = subprocess.run(
            ["chromium", *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout
    match = re.search(r"drawn:([A-Za-z0-9+/=]+):end", shown)
    if match is None:
        raise ValueError(f"the diagram cannot be drawn: {shown[:500]}")
    return base64.b64decode(match[1]).decode()


def main(arguments: list[str]) -> int:
    """Draw the diagrams that have no picture, and delete pictures without a diagram. Returns the exit code."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        sys.stderr.write("usage: task diagrams -- PATH/mermaid.min.js (of `npm install mermaid`)\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    texts = {picture(text): text for text in diagrams()}
    for path in set(FOLDER.glob("*.svg")) - texts.keys():
        path.unlink()
    for path, text in texts.items():
        if not path.exists():
            path.write_text(draw(text, Path(arguments[0])) + "\n")
            sys.stdout.write(f"{path.relative_to(ROOT)} is drawn\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
