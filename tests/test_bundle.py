"""Bundles: whole, unchanged and of a known kind, or refused; both backends say the same."""

import json
import shutil

import numpy as np
import pytest

from m2cnn.bundle import KNOWN, copy_bundle, load_bundle, load_network
from m2cnn.combine import Mean
from m2cnn.errors import BundleError, SettingError
from m2cnn.export import Origin, _check_agreement, save_combined
from m2cnn.grades import DISCLAIMER


@pytest.fixture
def copy(tiny_run, tmp_path):
    return shutil.copytree(tiny_run / "bundle", tmp_path / "bundle")


def edit(folder, **changes):
    path = folder / "system.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_says_what_it_is(tiny_run):
    bundle = load_bundle(tiny_run)
    settings = bundle.settings
    assert (bundle.system, bundle.size, settings["cells"]) == ("m2cnn", 112, 1)
    assert set(settings["files"]) == {"weights.safetensors", "model.onnx", "photographs.npy"}
    assert [label["number"] for label in settings["labels"]] == [0, 1, 2, 3, 4]
    assert settings["disclaimer"] == DISCLAIMER
    assert settings["training"]["recipe"]["system"] == "m2cnn"
    assert len(bundle.hash) == 16


def test_onnx_and_torch_agree_for_any_batch(tiny_run):
    bundle = load_bundle(tiny_run)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)
    onnx, torch = bundle.answers("onnx"), bundle.answers("torch")
    for count in (1, 2, 5):
        for theirs, ours in zip(onnx(pictures[:count]), torch(pictures[:count]), strict=True):
            assert np.abs(theirs - ours).max() < 1e-4


@pytest.mark.parametrize("name", ["weights.safetensors", "model.onnx", "photographs.npy"])
def test_a_changed_file_is_refused(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name}.*sha256"):
        load_bundle(copy)


def test_a_missing_file_is_refused(copy):
    (copy / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: no such file"):
        load_bundle(copy)


def test_a_file_outside_the_bundle_is_refused(copy):
    (copy.parent / "outside").write_text("x")
    edit(copy, files=json.loads((copy / "system.json").read_text())["files"] | {"../outside": "0"})
    with pytest.raises(BundleError, match="no such file in the bundle"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "m2cnn.bundle/9"}, "newer m2cnn"),
        ({"files": None}, "names no files"),
        ({"size": None, "task": None}, "unusable|task"),
    ],
)
def test_unknown_settings_are_refused(copy, changes, words):
    edit(copy, **changes)
    with pytest.raises((BundleError, SettingError), match=words):
        load_bundle(copy)


def test_what_is_no_bundle_is_refused(copy, tmp_path):
    with pytest.raises(BundleError, match="no such file"):
        load_bundle(tmp_path / "nowhere")
    (copy / "system.json").write_text("{")
    with pytest.raises(BundleError, match="not JSON"):
        load_bundle(copy)


def test_another_backend_is_refused(tiny_run):
    with pytest.raises(SettingError, match='Did you mean "torch"'):
        load_bundle(tiny_run).answers("trch")


def test_the_hash_covers_everything(copy, tiny_run):
    before = load_bundle(tiny_run).hash
    edit(copy, licence="another")
    assert load_bundle(copy).hash != before


def test_what_all_members_know_is_stored_once(tiny_run, tmp_path):
    member = load_bundle(tiny_run)
    known = (member.folder / KNOWN).read_bytes()
    joined = save_combined(tmp_path / "joined", {"a": member}, Mean(), b"", Origin("x", "y", {}, known))
    assert list(joined.folder.rglob(KNOWN)) == [joined.folder / KNOWN]
    within = joined.members["a"]
    assert within.hash == member.hash and within.known().to_bytes() == known
    assert joined.bytes == sum(path.stat().st_size for path in joined.folder.rglob("*") if path.is_file())
    alone = load_bundle(copy_bundle(load_bundle(within.folder), tmp_path / "alone"))
    assert alone.hash == member.hash and (alone.folder / KNOWN).read_bytes() == known
    shutil.copy(member.folder / KNOWN, within.folder)  # as it once was: one in each
    assert load_bundle(joined.folder).hash == joined.hash


def test_a_member_that_knows_other_photographs_keeps_its_own(tiny_run, tmp_path):
    members = {"a": load_bundle(tiny_run)}
    joined = save_combined(tmp_path / "joined", members, Mean(), b"", Origin("x", "y", {}, b"others"))
    assert (joined.folder / "members" / "a" / KNOWN).read_bytes() == (tiny_run / "bundle" / KNOWN).read_bytes()
    (joined.folder / "members" / "a" / KNOWN).unlink()
    with pytest.raises(BundleError, match=r"photographs\.npy: sha256"):
        load_bundle(joined.folder)


def test_disagreement_of_onnx_and_torch_is_found(tiny_run):
    import torch

    bundle = load_bundle(tiny_run)
    network = load_network(bundle)
    _check_agreement(bundle, network)
    with torch.no_grad():
        network.classif.bias += 0.01
    with pytest.raises(BundleError, match="differs from torch by"):
        _check_agreement(bundle, network)


def test_a_bundle_that_hides_a_file_from_its_hashes_is_refused(copy):
    edit(copy, files={})
    with pytest.raises(BundleError, match="it has no hash of"):
        load_bundle(copy)
