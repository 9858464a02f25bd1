"""Who is trained on, who is measured on: splits by patient, stratified by grade, the lockbox first.

The unit is never the photograph: it is the patient, or the patients who share a photograph (some public sets have no
patient ids and the same picture twice; some have one person under two ids). Nothing depends on the order of the rows or
on a generator's version: every draw is a hash of the seed and the patient's id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from m2cnn.data.leaks import Twin
from m2cnn.data.manifest import LOCKBOX, Manifest, Row, draw_of, in_lockbox
from m2cnn.errors import DataError, SettingError, did_you_mean

ORDER = ("train", "val", "lockbox", "test")  # who gives way: a test set is published as it is
PROPORTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def assign_splits(
    manifest: Manifest,
    proportions: Mapping[str, float] = PROPORTIONS,
    seed: int = 0,
    lockbox: float = LOCKBOX,
    twins: Sequence[Twin] = (),
) -> Manifest:
    """Give a split to every photograph that has none; those that have one (an official testing set) keep it.

    First the lockbox, see `in_lockbox`; then the rest is dealt out by `proportions` (train, val, test; they sum to 1),
    in every grade alike. A patient with some photographs assigned already gets the rest on the same side.
    twins: photographs that are the same, of find_twins; their patients stay on one side.
    Raises SettingError for impossible proportions, DataError naming a patient who stands on two sides.
    """
    _check_proportions(proportions, lockbox)
    units = units_of(manifest, twins)
    side = {unit: given for unit, rows in units.items() if (given := _given_split(unit, rows))}
    side |= {unit: "lockbox" for unit, rows in units.items() if unit not in side and _is_locked(rows, lockbox)}
    side |= _dealt({unit: rows for unit, rows in units.items() if unit not in side}, proportions, seed)
    return _with_sides(manifest, units, side)


def kfold(
    manifest: Manifest, k: int, seed: int = 0, lockbox: float = LOCKBOX, twins: Sequence[Twin] = ()
) -> list[Manifest]:
    """k manifests; in the i-th, fold i has split "val" and the other folds "train".

    The lockbox is set aside first, exactly as assign_splits does it; photographs of split "test" keep it. Raises
    SettingError when k is below 2 or above the number of patients, DataError for a patient on two sides.
    """
    manifest = _pooled(manifest)
    units, side = _set_aside(manifest, lockbox, twins)
    free = {unit: rows for unit, rows in units.items() if unit not in side}
    if not 2 <= k <= len(free):
        raise SettingError("folds", f"k is {k}", f"2..{len(free)}, the number of patients", "Choose another k.")
    fold = _dealt(free, {str(i): 1 / k for i in range(k)}, seed)
    sides = ({unit: "val" if fold[unit] == str(i) else "train" for unit in free} for i in range(k))
    return [_with_sides(manifest, units, side | free_side) for free_side in sides]


def nested(
    manifest: Manifest, k: int, val: float = 0.1, seed: int = 0, lockbox: float = LOCKBOX, twins: Sequence[Twin] = ()
) -> list[Manifest]:
    """The folds of kfold for measuring: fold i has split "test", and `val` of the other patients "val".

    Photographs of split "test" are left out: they are another measurement. Errors: as kfold.
    """
    _check_share(val)
    return [_measured_on(fold, val, seed, twins) for fold in kfold(manifest, k, seed, lockbox, twins)]


def without_each_source(
    manifest: Manifest, val: float = 0.1, seed: int = 0, lockbox: float = LOCKBOX, twins: Sequence[Twin] = ()
) -> dict[str, Manifest]:
    """A manifest for each source: its photographs have split "test", and `val` of the other patients "val".

    A patient with photographs of several sources is measured on, never trained on. Photographs of split "test" are left
    out. Sources and errors: as free_sources.
    """
    _check_share(val)
    sources = free_sources(manifest, lockbox, twins)
    manifest = _pooled(manifest)
    units, side = _set_aside(manifest, lockbox, twins)
    found = {}
    for source in sources:
        held = {
            unit: "val"
            for unit, rows in units.items()
            if unit not in side and any(row.source == source for row in rows)
        }
        rest = {unit: "train" for unit in units if unit not in side and unit not in held}
        fold = _with_sides(manifest, units, side | held | rest)
        own = tuple(row for row in fold if row.split != "val" or row.source == source)
        found[source] = _measured_on(Manifest(own, manifest.root), val, seed, twins)
    return found


def free_sources(manifest: Manifest, lockbox: float = LOCKBOX, twins: Sequence[Twin] = ()) -> list[str]:
    """The sources with a graded photograph that is neither in the lockbox nor of split "test".

    Raises SettingError where there is one alone.
    """
    units, side = _set_aside(_pooled(manifest), lockbox, twins)
    free = (row for unit, rows in units.items() if unit not in side for row in rows)
    sources = sorted({row.source for row in free if row.grade is not None})
    if len(sources) < 2:
        expected, repair = "two or more", "Join sets: m2cnn data merge."
        raise SettingError("manifest", f"photographs of one source, {sources}", expected, repair)
    return sources


def _pooled(manifest: Manifest) -> Manifest:
    rows = tuple(replace(row, split="") if row.split in ("train", "val") else row for row in manifest)
    return Manifest(rows, manifest.root)


def _set_aside(
    manifest: Manifest, lockbox: float, twins: Sequence[Twin]
) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """The units, and the side of those that are not free: given, or in the lockbox."""
    _check_fraction(lockbox)
    units = units_of(manifest, twins)
    side = {unit: given for unit, rows in units.items() if (given := _given_split(unit, rows))}
    side |= {unit: "lockbox" for unit, rows in units.items() if unit not in side and _is_locked(rows, lockbox)}
    return units, side


def _measured_on(fold: Manifest, val: float, seed: int, twins: Sequence[Twin]) -> Manifest:
    """What was "val" is "test"; of what was "train", the share `val` is "val". No photograph of split "test" stays."""
    rows = [row for row in fold if row.split != "test"]
    learning = Manifest(tuple(row for row in rows if row.split == "train"), fold.root)
    here = {row.image for row in learning}
    units = units_of(learning, [twin for twin in twins if {twin.first, twin.second} <= here])
    side = _dealt(units, {"train": 1 - val, "val": val}, seed)
    learning = _with_sides(learning, units, side)
    split = {row.image: row.split for row in learning} | {row.image: "test" for row in rows if row.split == "val"}
    return Manifest(tuple(replace(row, split=split.get(row.image, row.split)) for row in rows), fold.root)


def check_sides(manifest: Manifest) -> None:
    """DataError naming a patient, or patients who share a picture, with photographs in two splits."""
    for unit, rows in units_of(manifest).items():
        _given_split(unit, rows)


def without_leaks(manifest: Manifest, twins: Sequence[Twin]) -> Manifest:
    """The manifest without the photographs of training (else of validation) whose unit stands on another side too.

    A unit: patients who share photographs, be it through a third.
    """
    out: set[str] = set()
    for rows in units_of(manifest, twins).values():
        splits = sorted({row.split for row in rows if row.split}, key=ORDER.index)
        out |= {row.image for row in rows if row.split in splits[:-1] and row.split in ("train", "val")}
    return Manifest(tuple(row for row in manifest if row.image not in out), manifest.root)


def units_of(manifest: Manifest, twins: Sequence[Twin] = ()) -> dict[str, list[Row]]:
    """The photographs of each unit, by the first of the unit's patient ids in alphabetical order."""
    head = _joined(manifest, twins)
    units: dict[str, list[Row]] = defaultdict(list)
    for row in manifest:
        units[head[row.patient]].append(row)
    return dict(units)


def _joined(manifest: Manifest, twins: Sequence[Twin]) -> dict[str, str]:
    """Patient -> first patient of the unit (union-find over patients that share a photograph)."""
    head = {row.patient: row.patient for row in manifest}

    def find(patient: str) -> str:
        while head[patient] != patient:
            head[patient] = patient = head[head[patient]]
        return patient

    def join(one: str, other: str) -> None:
        first, second = sorted((find(one), find(other)))
        head[second] = first

    owner: dict[str, str] = {}
    for row in manifest:
        if row.sha256:
            join(row.patient, owner.setdefault(row.sha256, row.patient))
    patient = {row.image: row.patient for row in manifest}
    for twin in twins:
        join(patient[twin.first], patient[twin.second])
    return {patient: find(patient) for patient in head}


def _given_split(unit: str, rows: list[Row]) -> str:
    given = {row.split: row for row in rows if row.split}
    if len(given) > 1:
        (one, a), (two, b) = sorted(given.items())[:2]
        who = f'patient "{a.patient}"'
        if a.patient != b.patient:
            who = f'patients "{a.patient}" and "{b.patient}", who share a picture,'
        got = f"{who} on two sides: {a.image} in {one}, {b.image} in {two}"
        raise DataError("manifest", got, "each patient on one side", "Empty the column split for them, or change one.")
    return next(iter(given), "")


def _is_locked(rows: list[Row], fraction: float) -> bool:
    return any(in_lockbox(row.patient, fraction) for row in rows)


def _dealt(units: dict[str, list[Row]], proportions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Unit -> split. Units stand in order of highest grade and number of photographs, by chance where equal; the splits

    are spread evenly over that order, so that each gets its share of every grade.
    """

    def place(unit: str) -> tuple[int, int, float, str]:
        highest = max(-1 if row.grade is None else row.grade for row in units[unit])
        return highest, len(units[unit]), draw_of(f"{seed}:{unit}"), unit

    return dict(zip(sorted(units, key=place), _spread(proportions, len(units)), strict=True))


def _spread(proportions: Mapping[str, float], total: int) -> list[str]:
    """`total` names in proportion, each spread evenly over the list.

    >>> _spread({"train": 0.5, "val": 0.25, "test": 0.25}, 8)
    ['train', 'val', 'test', 'train', 'train', 'val', 'test', 'train']
    """
    shares = largest_remainder(list(proportions.values()), total)
    places = [((n + 0.5) / share, i) for i, share in enumerate(shares) for n in range(share)]
    names = list(proportions)
    return [names[i] for _, i in sorted(places)]


def largest_remainder(proportions: list[float], total: int) -> list[int]:
    """Whole shares that sum to `total`, each the exact share rounded down or up.

    >>> largest_remainder([0.8, 0.1, 0.1], 13)
    [11, 1, 1]
    """
    exact = np.array(proportions) / sum(proportions) * total
    shares = np.floor(exact + 1e-9).astype(int)  # 0.1 * 30 is a little less than 3
    order = np.argsort(-np.round(exact - shares, 9), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return shares.tolist()


def _with_sides(manifest: Manifest, units: dict[str, list[Row]], side: dict[str, str]) -> Manifest:
    split = {row.image: side[unit] for unit, rows in units.items() for row in rows}
    return Manifest(tuple(replace(row, split=split[row.image]) for row in manifest), manifest.root)


def _check_proportions(proportions: Mapping[str, float], lockbox: float) -> None:
    _check_fraction(lockbox)
    for name, share in proportions.items():
        if name not in PROPORTIONS:
            raise SettingError("proportions", f'"{name}"', "train, val, test", did_you_mean(name, PROPORTIONS))
        if not 0 <= share <= 1:
            raise SettingError("proportions", f"{name} is {share}", "0..1", "Give parts of 1.")
    if abs(sum(proportions.values()) - 1) > 1e-6:
        total = f"they sum to {sum(proportions.values()):g}"
        raise SettingError("proportions", total, "1", "The lockbox is not one of them: it comes off first.")


def _check_share(val: float) -> None:
    if not 0 < val < 1:
        raise SettingError("val", f"{val}", "above 0, below 1", "Cuts and passes are chosen on these patients.")


def _check_fraction(lockbox: float) -> None:
    if not 0 <= lockbox < 1:
        raise SettingError("lockbox", f"{lockbox}", "at least 0, below 1", f"The house's lockbox is {LOCKBOX}.")
