"""Packaged models: found by name, hidden by a folder of that name, and in the wheel whole."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import m2cnn.packaged
from m2cnn.bundle import load_bundle
from m2cnn.cli import OK, REFUSED, main
from m2cnn.combine import Mean
from m2cnn.data.terms import terms_of
from m2cnn.errors import BundleError
from m2cnn.export import Origin, save_combined

ROOT = Path(__file__).parents[1]


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty place for packaged models, and a working directory of its own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(m2cnn.packaged, "HOME", tmp_path / "home")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture
def packed(home, tiny_run):
    """The tiny model, packaged as default; of EyePACS, as far as its terms go."""
    shutil.copytree(tiny_run / "bundle", home / "default")
    edit(home / "default", terms=terms_of(["eyepacs", "idrid"]).to_dict())
    return home / "default"


def edit(folder, **changes):
    path = folder / "system.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_packaged_model_is_found_by_its_name(packed):
    bundle = load_bundle("default")
    assert bundle.folder == packed
    assert bundle.to_text() == f"model {bundle.hash} (m2cnn, packaged as default); weights: for research only"


def test_a_folder_of_that_name_wins(packed, tiny_run):
    shutil.copytree(tiny_run / "bundle", "default")
    bundle = load_bundle("default")
    assert bundle.folder == Path("default") and "packaged" not in bundle.to_text()
    Path("default/system.json").unlink()
    with pytest.raises(BundleError, match='A folder named "default" hides the packaged one'):
        load_bundle("default")


def test_a_path_is_never_taken_for_a_name(packed, tmp_path):
    for path in (tmp_path / "default", "other/default"):
        with pytest.raises(BundleError, match="no such file"):
            load_bundle(path)


def test_what_is_not_packaged_is_named_with_what_is(packed, home):
    with pytest.raises(BundleError, match=r"free/system\.json: no such file.* Packaged models: default\.$"):
        load_bundle("free")
    shutil.rmtree(home / "default")
    with pytest.raises(BundleError, match="Packaged models: none in this copy of m2cnn"):
        load_bundle("free")


def test_grade_without_a_model_takes_the_default_and_says_so(capsys, packed, rendered):
    photograph, bundle = rendered.path(rendered.rows[0]), load_bundle("default")
    code, out, _ = run(capsys, "grade", photograph)
    assert code == OK
    assert out.splitlines()[-1].startswith(f"{bundle.to_text()}. Does not detect")
    code, out, err = run(capsys, "grade", photograph, "--json")
    assert json.loads(out)["model"] == bundle.hash and bundle.to_text() in err


def test_grade_without_a_model_where_none_is_packaged_says_what_to_do(capsys, home):
    code, _, err = run(capsys, "grade", "x.jpg")
    assert code == REFUSED
    assert 'no "default" is packaged; expected --model BUNDLE' in err and "Packaged models: none" in err


def test_every_verb_that_takes_a_model_takes_the_name(capsys, packed, rendered):
    data = ("--data", rendered.root / "manifest.csv")
    assert run(capsys, "evaluate", "default", *data, "--out", "e", "--replicates", 20)[0] == OK
    before = (packed / "system.json").read_bytes()
    code, _, err = run(capsys, "calibrate", "default", *data, "--out", "c")
    assert code == OK, err
    assert (packed / "system.json").read_bytes() == before and load_bundle("c").calibration.photographs
    settings = ("stages.0.epochs=1", "precision=32")
    code, _, err = run(capsys, "train", "--from", "default", *data, "--out", "r", *settings)
    assert code == OK, err
    assert load_bundle("r").terms.use == "research only"


def test_the_packaged_models_are_listed_with_hash_size_and_terms(capsys, packed):
    code, out, _ = run(capsys, "systems", "models")
    size = sum(path.stat().st_size for path in packed.iterdir()) / 1e6
    assert code == OK
    assert out.startswith(f"default: m2cnn, {load_bundle('default').hash}, {size:.1f} MB. Weights: for research only (")
    shutil.rmtree(packed)
    assert "holds no model" in run(capsys, "systems", "models")[1]


def test_the_size_counts_members(tiny_run, tmp_path):
    bundle = load_bundle(tiny_run)
    joined = save_combined(tmp_path / "joined", {"a": bundle}, Mean(), b"", Origin("x", "y", {}, b""))
    whole = sum(path.stat().st_size for path in joined.folder.rglob("*") if path.is_file())
    assert joined.bytes == whole > bundle.bytes


def test_a_wheel_holds_packaged_models_whole(tmp_path, tiny_run):
    """Built as `pip wheel` does, from a copy of the sources with a model and one of members in it."""
    pytest.importorskip("setuptools", "77")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    home = tmp_path / "src" / "m2cnn" / "packaged"
    for name in ("default", "free"):  # what the sources hold is large
        shutil.rmtree(home / name)
    for folder in (home / "one", home / "several" / "members" / "a"):
        shutil.copytree(tiny_run / "bundle", folder)
    shutil.copy(home / "one" / "system.json", home / "several" / "system.json")
    (home / "one" / "card.json").write_text("{}")
    (home / "one" / "pictures").mkdir()
    (home / "one" / "pictures" / "0.jpg").write_bytes(b"picture")
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {path.relative_to(tmp_path / "src").as_posix() for path in home.rglob("*") if path.is_file()}
    assert wanted <= held and len(wanted) == 12


def test_the_package_itself_holds_whole_models():
    """Whatever bundles lie there: small enough, and of known terms."""
    bundles = {name: load_bundle(m2cnn.packaged.HOME / name) for name in m2cnn.packaged.names()}
    assert all(bundle.bytes <= 25e6 for bundle in bundles.values())
    assert all(bundle.terms.use != "unknown" for bundle in bundles.values())
    assert "free" not in bundles or bundles["free"].terms.use in ("free", "attribution")
