"""The examples in the docstrings of the installed package run as they stand."""

import doctest
import importlib
import pkgutil

import pytest

import fastlstm

MODULES = [
    module.name
    for module in pkgutil.walk_packages(fastlstm.__path__, "fastlstm.")
    if module.name.rpartition(".")[2] not in ("__main__", "_core")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(examples) > 40
