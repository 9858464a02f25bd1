"""m2cnn combine: runs that are trained already become one model."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from m2cnn.bundle import KNOWN, load_bundle
from m2cnn.combine import Mean
from m2cnn.data.known import read_known
from m2cnn.data.manifest import read_manifest, write_manifest
from m2cnn.ensemble import combine_runs
from m2cnn.errors import SettingError
from m2cnn.lock import alone
from m2cnn.predictions import read_predictions


@pytest.fixture(scope="module")
def twins(tiny_run, tmp_path_factory):
    """A run and its copy."""
    folder = tmp_path_factory.mktemp("runs")
    return [shutil.copytree(tiny_run, folder / name) for name in ("one", "two")]


def test_the_mean_of_a_run_and_its_copy_is_the_run(twins, tmp_path):
    bundle = combine_runs(twins, Mean(), tmp_path / "out")
    assert list(bundle.members) == ["one", "two"]
    assert bundle.settings["training"]["runs"]["one"] == load_bundle(twins[0]).hash
    ours = read_predictions(tmp_path / "out/test/predictions.csv")
    theirs = read_predictions(twins[0] / "test/predictions.csv")
    assert ours.image.tolist() == theirs.image.tolist()
    assert np.allclose(ours.severity, theirs.severity, atol=1e-5)
    # The same call again: nothing is lost, nothing changes.
    assert combine_runs(twins, Mean(), tmp_path / "out").hash == bundle.hash
    with pytest.raises(SettingError, match="no finished run"):
        combine_runs([tmp_path / "out"], Mean(), tmp_path / "again")


def test_it_knows_the_photographs_of_all_its_runs(twins, tmp_path):
    other = shutil.copytree(twins[1], tmp_path / "other")
    known = read_known(other / KNOWN)
    more = replace(known, sha256=known.sha256 ^ 1)  # as if it had begun from a model that saw others
    (other / KNOWN).write_bytes(more.to_bytes())
    bundle = combine_runs([twins[0], other], Mean(), tmp_path / "out")
    assert len(bundle.known().sha256) == 2 * len(known.sha256)


def test_runs_that_do_not_fit_are_refused(twins, tmp_path):
    other = shutil.copytree(twins[0], tmp_path / "other")
    manifest = read_manifest(other / "manifest.csv")
    write_manifest(type(manifest)(manifest.rows[1:], manifest.root), other / "manifest.csv")
    with pytest.raises(SettingError, match="other photographs, grades or splits"):
        combine_runs([twins[0], other], Mean(), tmp_path / "out")
    with pytest.raises(SettingError, match='a second run named "one"'):
        combine_runs([twins[0], twins[0]], Mean(), tmp_path / "out")
    with pytest.raises(SettingError, match="no run"):
        combine_runs([], Mean(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_of_others_is_written_over(twins, tmp_path):
    before = (twins[0] / "manifest.csv").read_bytes()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    for out in (twins[1], tmp_path / "mine"):
        with pytest.raises(SettingError, match="holds something else"):
            combine_runs(twins, Mean(), out)
    assert (twins[1] / "manifest.csv").read_bytes() == before and len(list((tmp_path / "mine").iterdir())) == 1


def test_only_one_process_joins_in_a_folder(twins, tmp_path):
    with alone(tmp_path / "out"), pytest.raises(SettingError, match="another process works"):
        combine_runs(twins, Mean(), tmp_path / "out")
