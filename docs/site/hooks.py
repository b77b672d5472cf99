"""What the site adds to the pages: notebooks, files that they link to, and formulas as MathML.

Pages link to files of the repository, since they are read there too; here each such file becomes a page of its own.
Formulas become MathML when the site is made, so that no page needs a script for them.
"""

import posixpath
import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.append(str(Path(__file__).parent))  # a hook is a file by itself, whose folder is no package
import notebooks

_LINK = re.compile(r"\]\((?![a-z]+:|#)([\w./-]+?)(#[\w-]+)?\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".sbatch": "bash"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file outside the folder of pages that a page links to, and for those that these link to."""
    root = Path(config.config_file_path).parent
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text = notebooks.markdown_of(root / "docs" / notebook.src_uri)
        files.append(File.generated(config, notebook.src_uri.replace(".ipynb", ".md"), content=text))
    pages = [file for file in files if file.is_documentation_page()]
    for page in pages:  # grows
        for link, _ in _LINK.findall(page.content_string):
            path = _aim(page, link)
            if not path.startswith("docs/") and files.get_file_from_path(_place(path)) is None:
                pages.append(File.generated(config, _place(path), content=_shown(root / path, path)))
                files.append(pages[-1])
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to such files lead to their pages."""

    def link(match: re.Match[str]) -> str:
        aim = posixpath.relpath(_place(_aim(page.file, match[1])), posixpath.dirname(page.file.src_uri) or ".")
        return f"]({aim}{match[2] or ''})"

    return _LINK.sub(link, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Write formulas as MathML."""
    return _FORMULA.sub(
        lambda match: convert(unescape(match[2]), display="inline" if match[1] == "span" else "block"), html
    )


def _aim(page: File, link: str) -> str:
    """The path in the repository that a page's link leads to."""
    own = page.src_uri.removeprefix("files/") if page.src_uri.startswith("files/") else f"docs/{page.src_uri}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(own), link))


def _place(path: str) -> str:
    """Where the site has a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace(".ipynb", ".md")
    return f"files/{path}" if path.endswith(".md") else f"files/{path}.md"


def _shown(path: Path, name: str) -> str:
    if path.is_dir():
        return f"# {name}\n\n" + "\n".join(f"- `{file.name}`" for file in sorted(path.glob("[!._]*")))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return (
        f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n````{_LANGUAGES.get(path.suffix, 'text')}\n{text}\n````\n"
    )
