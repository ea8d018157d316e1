"""The repository as a site: what stands outside docs/ and is linked from there, under the addresses that the site has.

Knows three rules. Files of the root are pages of the site beside those of docs/, the README as the first of them. Links
stand in the repository as GitHub follows them; here docs/ is the root, so that `docs/` and `../` fall away.
An example in a docstring stands under `Example:`, and is a section of code for the reader of docstrings, too.
"""

import re
from pathlib import Path

from griffe import Extension
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md"} | {
    name: name for name in ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")
}


def on_files(files, config):
    """The files of docs/, and those of the root."""
    linked = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "LICENSE", ROOT / "CITATION.cff", *ROOT.glob("examples/**/*.py"))
    ]
    for source, target in (PAGES | dict(zip(linked, linked, strict=True))).items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """The page with the links of the site."""
    markdown = re.sub(r"\]\((?:docs/|\.\./)", "](", markdown)
    return markdown.replace("](README.md", "](index.md")


class Examples(Extension):
    """`Example:` read as `Examples:`, which alone is a section to griffe."""

    def on_object(self, *, obj, **_):
        """The object, its docstring changed."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
