"""The pages of the docs site that name what is in the package: docs/formulas.md and docs/reference.md."""

import ast
import re
from pathlib import Path

import pytest

import hf_canary
from hf_canary import models

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "formulas.md").read_text(encoding="utf-8")


def entries(page):
    """(file, its names) of each place that a table of the page gives: `file.py`: `name`, `Class.name`."""
    found = re.findall(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)", page)
    return [(file, re.findall(r"`([\w.]+)`", names)) for file, names in found]


def defined(source):
    """The functions and classes of a file, methods by their class."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


@pytest.mark.parametrize(("file", "names"), entries(PAGE))
def test_what_the_index_names_is_there(file, names):
    """Each file is in the package, and each name in that file."""
    assert set(names) <= defined((ROOT / "hf_canary" / file).read_text(encoding="utf-8"))


def test_every_place_is_read():
    """No line of a table names a file without a name in it, or in a form that the test above overlooks."""
    assert sum(len(names) for _, names in entries(PAGE)) >= 35
    assert PAGE.count(".py`") == len(entries(PAGE))


@pytest.mark.parametrize("part", ["§4.1", "Definition 1", "Definition 2", "Definition 3", "Definition 4", "Theorem 1"])
def test_the_definitions_of_the_paper_are_there(part):
    """... each with its line."""
    assert f"| {part}, " in PAGE


def test_the_reference_has_every_public_name():
    """... of the package and of its models, each once."""
    listed = re.findall(r"^::: (.+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    public = [f"hf_canary.{name}" for name in hf_canary.__all__] + [
        f"hf_canary.models.{name}" for name in models.__all__
    ]
    others = ["hf_canary.decoding.CheapestFills", "hf_canary.extraction.Candidate", "hf_canary.extraction.iter_extract"]
    assert sorted(listed) == sorted(public + others)


def test_every_page_is_in_the_menu():
    """mkdocs.yml names each page of docs/; mkdocs itself refuses one that is not there."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert re.search(rf"[-:] {re.escape(page.name)}$", menu, re.MULTILINE), page.name
