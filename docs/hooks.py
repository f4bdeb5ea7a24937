"""What MkDocs calls while it builds: a page that would load something from another host stops the build."""

import re
from pathlib import Path
from typing import Any

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\ssrc\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*\srel\s*=\s*["']?(?:stylesheet|preconnect|preload|icon))[^>]*\shref\s*=\s*["']?(?:https?:)?//\S+"""
    r"""|\bimport\s*\(?\s*["'](?:https?:)?//[^"']+"""
    r"""|\burl\(\s*["']?(?:https?:)?//[^"')]+""",
    re.IGNORECASE,
)

DIAGRAMS = re.compile(r'<script type="module">.*?</script>', re.DOTALL)
"""What nbconvert puts into every notebook: a script of another host, for diagrams that no notebook here has."""


def on_page_content(html: str, **_: Any) -> str:
    """A page without the script for diagrams."""
    return DIAGRAMS.sub("", html)


def on_post_build(config: Any, **_: Any) -> None:
    """Look at every page that was built. Raises ValueError, which names the page and the address."""
    site = Path(config["site_dir"])
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        if found := LOADED.search(path.read_text(encoding="utf-8")):
            raise ValueError(f"{path} would load {found[0]!r} from another host: ship the file, or leave it out")
