"""The public list: complete, documented, quick to import."""

import ast
import doctest
import inspect
from pathlib import Path

import pytest

import hf_canary

CONTRACT = {
    "Canary",
    "CanaryError",
    "CanaryFormat",
    "CanarySet",
    "EXPOSURE_METRIC",
    "Exposure",
    "ExposureCallback",
    "Extraction",
    "FormatLogitsProcessor",
    "InjectCanaries",
    "check_presence",
    "exact_rank",
    "extract",
    "log_perplexity",
    "measure_exposure",
}


def test_the_list_is_the_contract():
    """What is exported, what is promised, and what type checkers see are one list."""
    tree = ast.parse(Path(hf_canary.__file__).read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.asname for node in checked.body for alias in node.names}
    assert set(hf_canary.__all__) == CONTRACT == typed
    assert set(dir(hf_canary)) >= CONTRACT


@pytest.mark.parametrize("name", sorted(CONTRACT - {"EXPOSURE_METRIC"}))
def test_public_names_are_documented(name):
    """A docstring that names its arguments; what is called with keywords alone takes them so."""
    value = getattr(hf_canary, name)
    documentation = inspect.getdoc(value)
    assert documentation
    parameters = inspect.signature(value).parameters
    for parameter in parameters:
        assert f"{parameter}:" in documentation or name in ("CanarySet", "Extraction"), parameter
    if inspect.isfunction(value):
        assert "Raises:" in documentation
        assert "bits" in documentation or name == "check_presence"  # which counts copies


@pytest.mark.parametrize(
    "value",
    [
        hf_canary.CanaryFormat,
        hf_canary.CanarySet.draw,
        hf_canary.CanarySet.inject,
        hf_canary.Canary.seen_as,
        hf_canary.InjectCanaries,
        hf_canary.ExposureCallback,
        hf_canary.check_presence,
        hf_canary.extract,
        hf_canary.log_perplexity,
        hf_canary.measure_exposure,
    ],
)
def test_public_calls_have_an_example(value):
    """The examples themselves run with the doctests."""
    assert doctest.DocTestParser().get_examples(inspect.getdoc(value))


def test_a_name_that_is_not_there_is_an_attribute_error():
    """... as of any module."""
    with pytest.raises(AttributeError, match="exact_bank"):
        _ = hf_canary.exact_bank
