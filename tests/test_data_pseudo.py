"""Pseudo-labels: who gets one, and that nobody who measures anything does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m2cnn.data import Manifest, Row, in_lockbox
from m2cnn.data.pseudo import pseudo_labelled
from m2cnn.errors import DataError
from m2cnn.predictions import Predictions

FREE = [name for name in map(str, range(50)) if not in_lockbox(name)]
BOXED = next(name for name in map(str, range(500)) if in_lockbox(name))
ROWS = (
    Row("graded.jpg", FREE[0], grade=1, split="train", source="eyepacs"),
    Row("fresh.jpg", FREE[1], source="eyepacs-private", eye="left"),
    Row("trained.jpg", FREE[2], split="train", source="mine"),
    Row("dark.jpg", FREE[3], split="train", quality="ungradable"),
    Row("odd.jpg", FREE[4], split="train"),
    Row("silent.jpg", FREE[5]),
    Row("measured.jpg", FREE[6], grade=2, split="val"),
)


def said(images, decoded, gradable=None):
    gradable = [True] * len(images) if gradable is None else gradable
    n = len(images)
    return Predictions(
        image=images,
        patient=["p"] * n,
        eye=[""] * n,
        split=[""] * n,
        grade=[-1] * n,
        probabilities=np.full((n, 5), np.nan),
        severity=[float(d) if g else np.nan for d, g in zip(decoded, gradable, strict=True)],
        decoded=[d if g else -1 for d, g in zip(decoded, gradable, strict=True)],
        gradable=gradable,
        reason=["" if g else "blurred" for g in gradable],
        system=["ens-105"] * n,
        bundle=[""] * n,
    )


def test_ungraded_photographs_teach_what_was_said_of_them():
    names = ["graded.jpg", "fresh.jpg", "trained.jpg", "dark.jpg", "odd.jpg", "measured.jpg", "elsewhere.jpg"]
    predictions = said(names, [4, 3, 0, 2, 0, 4, 1], [True] * 4 + [False, True, True])
    labelled = pseudo_labelled(Manifest(ROWS, Path()), predictions)
    changed = {new.image: new for old, new in zip(ROWS, labelled, strict=True) if old != new}
    assert changed == {
        "fresh.jpg": replace(ROWS[1], grade=3, split="train"),
        "trained.jpg": replace(ROWS[2], grade=0),
    }


@pytest.mark.parametrize("split", ["val", "test", "lockbox"])
def test_nobody_who_is_measured_gets_one(split):
    other = Row("other.jpg", FREE[1], grade=0, split=split)
    with pytest.raises(DataError, match=f'"fresh.jpg" is of patient "{FREE[1]}" in {split}; expected .*train'):
        pseudo_labelled(Manifest((*ROWS, other), Path()), said(["fresh.jpg"], [3]))
    with pytest.raises(DataError, match=f"in {split}"):
        pseudo_labelled(Manifest((replace(ROWS[1], split=split),), Path()), said(["fresh.jpg"], [3]))


def test_who_will_be_in_the_lockbox_gets_none():
    with pytest.raises(DataError, match="in lockbox"):
        pseudo_labelled(Manifest((Row("new.jpg", BOXED),), Path()), said(["new.jpg"], [3]))


def test_names_that_do_not_meet_are_refused():
    with pytest.raises(DataError, match="none of 1 graded predictions is of an ungraded photograph"):
        pseudo_labelled(Manifest(ROWS, Path()), said(["folder/fresh.jpg"], [3]))
