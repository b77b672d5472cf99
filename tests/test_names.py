"""What ``import editable`` offers in a notebook: a dozen names, and nothing is imported before it is asked for."""

import ast
import subprocess
import sys

import pytest

import editable
from tests.paths import ROOT


def test_nothing_heavy_is_imported():
    code = (
        "import sys, editable; dir(editable); print([n for n in ('torch', 'lightning', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", editable.__all__)
def test_each_name_is_there_and_says_what_it_is(name: str):
    assert getattr(editable, name).__doc__
    assert name in dir(editable)


def test_type_checkers_see_the_same_names():
    stub = ast.parse((ROOT / "editable" / "__init__.pyi").read_text())
    imported = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    (listed,) = [ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign)]
    assert imported == set(listed) == set(editable.__all__)
    assert len(editable.__all__) == 12


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'editable' has no attribute 'edt'"):
        _ = editable.edt


def test_configurations_name_classes_by_their_rooms():
    """What a notebook calls so is no path of a class in a configuration."""
    assert editable.editors.RMSProp.__module__.startswith("editable.editing")
    assert not hasattr(editable, "RMSProp")
