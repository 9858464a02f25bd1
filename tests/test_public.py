"""The public names, all of them and no others."""

import subprocess
import sys
from pathlib import Path

import pytest

import m2cnn

NAMES = """Bundle Grader Grading Manifest Preprocess Predictions Recipe System __version__ load_bundle load_recipe
open_data quadratic_weighted_kappa read_predictions render"""


def test_the_public_names_are_these():
    assert sorted(m2cnn.__all__) == sorted(NAMES.split())
    assert dir(m2cnn) == sorted(NAMES.split())


@pytest.mark.parametrize("name", NAMES.split())
def test_every_public_name_is_there_and_documented(name):
    subject = getattr(m2cnn, name)
    assert name == "__version__" or subject.__doc__


def test_no_public_name_is_also_a_module():
    assert not set(NAMES.split()) & {path.stem for path in Path(m2cnn.__file__).parent.iterdir()}


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Graader'"):
        _ = m2cnn.Graader


def test_grading_works_without_torch(tiny_run, rendered):
    hidden = ("torch", "torchvision", "lightning", "timm", "safetensors", "sklearn")
    path = rendered.path(rendered.rows[0])
    code = f"""
import sys; sys.modules.update(dict.fromkeys({hidden}))
from m2cnn import Grader
from m2cnn.cli import main
assert Grader.load({str(tiny_run)!r}).grade({str(path)!r}).gradable
assert main(["grade", {str(path)!r}, "--model", {str(tiny_run)!r}]) == 0
sys.exit(main(["grade", {str(path)!r}, "--model", {str(tiny_run)!r}, "--backend", "torch"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "pip install 'm2cnn[train]'" in done.stderr
