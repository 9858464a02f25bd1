"""Imports only point down, third parties have one home, and the base install never needs torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import m2cnn

ROOT = Path(m2cnn.__file__).parent
# As docs/explanation/architecture.md draws them, lowest first.
LAYERS = [
    "errors grades tables onnx_session",
    "parallel checks packaged weights_header overrides lock",
    "plots metrics cuts bootstrap endpoints reliability budget intervals simulated tasks predictions",
    "calibration conformal planning panel field photograph preprocess fingerprint synthetic wording",
    "data models quality_measures kept",
    "quality recipe summary eyes combine photograph_features reader foreign_cells truth foreign",
    "systems",
    "bundle compare bar half checkpoint optimiser precision onnx_export blend_net work",
    "fit export grader combine_fit entry",
    "evaluate report join patients subgroups disclosure",
    "part recalibrate finetune provenance",
    "profile explain",
    "card_groups card card_evidence card_page",
    "reporting",
    "site",
    "train",
    "ensemble",
    "paper",
    "demo crossval",
    "cli_verb",
    "cli_card cli_grade cli_data cli_table cli_systems cli_patients cli_explain cli_report cli_site",
    "cli",
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer.split()}
HOMES = {"lightning": {"fit"}, "timm": {"models.timm_trunk"}, "onnxruntime": {"onnx_session"}, "matplotlib": {"plots"}}
HOMES |= {"fsspec": {"data.files"}, "scipy": {"paper.decisions", "bootstrap", "calibration", "intervals", "simulated"}}
HOMES |= {"reportlab": {"reporting.pdf"}}
HOMES |= {"sklearn": {"combine_fit"}, "skl2onnx": {"combine_fit"}}
HOMES |= {"onnx": {"onnx_export"}, "onnxscript": {"onnx_export"}}
BASE = (
    "recipe",
    "grader",
    "metrics",
    "endpoints",
    "reliability",
    "budget",
    "intervals",
    "conformal",
    "simulated",
    "planning",
    "panel",
    "predictions",
    "foreign",
    "patients",
    "subgroups",
    "disclosure",
    "compare",
    "summary",
    "data",
    "quality",
    "evaluate",
    "synthetic",
    "bundle",
    "profile",
    "combine",
    "photograph_features",
    "calibration",
    "recalibrate",
    "packaged",
    "card_page",
    "plots",
    "reporting",
    "site",
)


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.parse(path.read_text(encoding="utf-8"))


def typing_only(tree):
    """The imports under `if TYPE_CHECKING:`, which nothing runs."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {id(inner) for block in blocks for inner in ast.walk(block)}


def imports(tree):
    skipped = typing_only(tree)
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "m2cnn":
            yield from (f"m2cnn.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_every_module_stands_in_the_plan():
    assert {name.split(".")[0] for name, _ in modules()} - {"__init__", "recipes"} == set(RANK)


def test_imports_point_down():
    for name, tree in modules():
        own = name.split(".")[0]
        for target in imports(tree):
            parts = target.split(".")
            if parts[0] == "m2cnn" and len(parts) > 1 and own in RANK and parts[1] in RANK:
                assert RANK[parts[1]] <= RANK[own], f"{name} imports {target}"


def test_third_parties_have_one_home():
    for name, tree in modules():
        for target in imports(tree):
            party = target.split(".")[0]
            assert name in HOMES.get(party, {name}), f"{name} imports {party}"


def test_the_drawing_is_true():
    text = (ROOT.parents[1] / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    for layer in LAYERS:
        assert f"    {layer}\n" in text


@pytest.mark.parametrize("name", BASE)
def test_the_base_install_needs_no_torch(name):
    hidden = ("torch", "lightning", "timm", "safetensors", "sklearn", "skl2onnx", "onnx", "fsspec")
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); import m2cnn.{name}"
    subprocess.run([sys.executable, "-c", code], check=True)
