"""Labels and photographs find each other: listings of folders, names, and pictures that stand twice."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from m2cnn.data.manifest import Manifest, file_hash
from m2cnn.errors import DataError, did_you_mean
from m2cnn.tables import read_text

PHOTOGRAPH = re.compile(r"(?P<stem>.+)\.(jpe?g|png|tiff?|webp)", re.IGNORECASE)
MANIFEST, TWINS = "manifest.csv", "twins.csv"  # ours, in a dataset's folder: of the import, and of the leak guard
PATIENT_EYE = re.compile(r"(?:(?P<patient>.+?)[ _-])?(?P<eye>left|right|[lr]|o[ds])(?:[ _-]?\d+)?", re.IGNORECASE)
EYE_OF = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right"}


class Matching:
    """Pairs a table's rows with photographs, and counts what stays without a partner."""

    def __init__(self, labels: str, photographs: dict[str, str]):
        self.labels, self.photographs = labels, photographs
        self.missing: list[str] = []
        self.taken: dict[str, int] = {}

    def pairs(self, body: list[tuple[int, dict[str, str]]], column: str) -> Iterator[tuple[str, dict[str, str], str]]:
        """(place, cells, image) of each row that has a photograph. Raises DataError for a photograph with two rows."""
        for number, cells in body:
            place, image = f"{self.labels}, row {number}", self.photographs.get(stem_of(cells[column]))
            if image is None:
                self.missing.append(cells[column])
                continue
            if image in self.taken:
                got = f'"{cells[column]}" stands in row {self.taken[image]} already'
                raise DataError(place, got, "one row per photograph", "Remove one of the rows.")
            self.taken[image] = number
            yield place, cells, image

    def notes(self) -> list[str]:
        unlabelled = [image for image in self.photographs.values() if image not in self.taken]
        found = (("labels without a photograph", self.missing), ("photographs without a label", unlabelled))
        return [f"{self.labels}: {len(names)} {what}, left out: {some(names)}" for what, names in found if names]


def photographs_in(folder: Path, subfolder: str) -> dict[str, str]:
    """Photographs of one folder: name without extension -> path from `folder`; {} where there is no such folder.

    One listing, no question per file.
    """
    prefix = f"{subfolder}/" if subfolder else ""
    found: dict[str, str] = {}
    if not (folder / subfolder).is_dir():
        return found
    with os.scandir(folder / subfolder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
    for name in names:
        if match := PHOTOGRAPH.fullmatch(name):
            _add(found, match["stem"], prefix + name, folder)
    return found


def photographs_below(folder: Path) -> dict[str, str]:
    """All photographs below a folder: path without extension -> path."""
    found: dict[str, str] = {}
    for parent, subfolders, names in os.walk(folder, onerror=_closed):
        subfolders.sort()
        for name in sorted(names):
            image = (Path(parent) / name).relative_to(folder).as_posix()
            if PHOTOGRAPH.fullmatch(name) and (folder / image).is_file():
                _add(found, stem_of(image), image, folder)
    return found


def _closed(fault: OSError) -> None:
    repair = "Check its rights: photographs in it would be left out."
    raise DataError(fault.filename, f"cannot be opened ({fault.strerror})", "a readable folder", repair) from fault


def photographs_by_name(folder: Path, subfolder: str) -> dict[str, str]:
    """All photographs below a subfolder: name without extension -> path from `folder`; {} where it is not there.

    Raises DataError when a name stands twice.
    """
    found: dict[str, str] = {}
    for image in photographs_below(folder / subfolder).values():
        _add(found, stem_of(image.rpartition("/")[2]), f"{subfolder}/{image}" if subfolder else image, folder)
    return found


def _add(found: dict[str, str], stem: str, image: str, folder: Path) -> None:
    if stem in found:
        raise DataError(folder, f"{found[stem]} and {image}", "one photograph per name", "Remove one of them.")
    found[stem] = image


def only_file(folder: Path, pattern: str, option: str) -> Path:
    """The one file of a folder that fits a pattern, and is no manifest. Raises DataError for none or several."""
    found = sorted(path for path in folder.glob(pattern) if path.name != MANIFEST)
    if len(found) != 1:
        got = f"{len(found)} files {pattern}" + (f" ({', '.join(path.name for path in found)})" if found else "")
        raise DataError(folder, got, f"one, or the option {option}", f"Give {option}=PATH.")
    return found[0]


def stem_of(name: str) -> str:
    match = PHOTOGRAPH.fullmatch(name)
    return match["stem"] if match else name


def text_rows(path: Path, separators: str) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not blank, for tables without a header or without commas.

    separators: a regular expression. Raises DataError: unreadable, or not UTF-8.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), start=1)]
    return [(number, [cell.strip() for cell in re.split(separators, line)]) for number, line in lines if line]


def subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def patient_and_eye(image: str) -> tuple[str, str]:
    """(patient, eye) of <patient>_<left|right>.jpeg; also l, r, od, os, "-" or a space, any case, and a field number.

    A photograph that is named by its eye alone is of the patient that its folder names; one named otherwise is its own
    patient.

    >>> patient_and_eye("train/10_left.jpeg"), patient_and_eye("0/IDRiD_118.jpg")
    (('10', 'left'), ('IDRiD_118', ''))
    >>> patient_and_eye("10_OD.png"), patient_and_eye("247_l2.jpg")
    (('10', 'right'), ('247', 'left'))
    >>> patient_and_eye("clinic/Schulz/left.jpg"), patient_and_eye("left.jpg")
    (('Schulz', 'left'), ('left', ''))
    """
    folder, patient, eye = _told(image)
    if eye and not patient:
        patient = folder.rpartition("/")[2]
    return (patient, eye) if patient else (stem_of(image.rpartition("/")[2]), "")


def _told(image: str) -> tuple[str, str, str]:
    """(folder, patient, eye), the last two as the photograph's own name tells them, "" where it does not."""
    folder, _, name = image.rpartition("/")
    match = PATIENT_EYE.fullmatch(stem_of(name))
    return (folder, match["patient"] or "", EYE_OF[match["eye"].lower()]) if match else (folder, stem_of(name), "")


def patients_of(images: Sequence[str], told: Sequence[str], place: str) -> tuple[list[str], list[str]]:
    """The patient of each name of a table, and what was guessed in doubt, in sentences that begin with `place`.

    told: what a column says of each; where it is empty, the name tells.

    Two folders that hold one name, or one person's folder name twice, hold different people, whose folders become part
    of what they are called: nobody's result is taken for another's. Names that differ may be one person's, whose
    photographs lie in folders by grade: they stay one patient, and that is said.

    >>> patients_of(["a/7_left.jpg", "b/7_left.jpg", "a/8_left.jpg"], ["", "", ""], "t.csv")[0]
    ['a/7', 'b/7', '8']
    """
    if all(told):
        return list(told), []
    found = [patient_and_eye(image)[0] for image in images]
    homes: dict[str, set[str]] = defaultdict(set)
    seen: dict[tuple[str, str], str] = {}
    apart: set[str] = set()
    for image, patient in zip(images, found, strict=True):
        folder, _, name = image.rpartition("/")
        homes[patient].add(folder)
        if seen.setdefault((patient, stem_of(name)), folder) != folder:
            apart.add(patient)
    asked = {patient for patient, own in zip(found, told, strict=True) if not own}
    notes, repair = [], "a column patient would tell it surely"
    if doubted := sorted(apart & asked):
        what = "patients' names that stand in several folders with equal photographs' names were taken for other people"
        notes.append(f"{place}: {what} ({len(doubted)}): {some(doubted)}; {repair}")
    if together := sorted(patient for patient in asked - apart if len(homes[patient]) > 1):
        what = "patients' names that stand in several folders were taken for one person each"
        notes.append(f"{place}: {what} ({len(together)}): {some(together)}; {repair}")
    return [
        own or (_called(image, patient) if patient in apart else patient)
        for image, patient, own in zip(images, found, told, strict=True)
    ], notes


def _called(image: str, patient: str) -> str:
    """The patient's name behind the folder; the folder itself, where the name came from it."""
    folder, own, eye = _told(image)
    if not folder:
        return patient
    return folder if eye and not own else f"{folder}/{patient}"


def need_columns(place: str, columns: list[str], needed: tuple[str, ...]) -> None:
    for name in needed:
        if name not in columns:
            raise DataError(place, f'no column "{name}"', ", ".join(needed), did_you_mean(name, columns))


def with_hashes_of_twins(manifest: Manifest) -> Manifest:
    """SHA-256 of the photographs that share their length with another, where none is told: only those can be
    byte-identical.

    assign_splits keeps identical photographs on one side, also where a dataset has no patient ids.
    """
    lengths = [manifest.path(row).stat().st_size for row in manifest]
    times = Counter(lengths)
    pairs = zip(manifest.rows, lengths, strict=True)
    rows = (
        replace(row, sha256=file_hash(manifest.path(row))) if times[n] > 1 and not row.sha256 else row
        for row, n in pairs
    )
    return Manifest(tuple(rows), manifest.root)


def twin_notes(source: str, manifest: Manifest) -> list[str]:
    groups = defaultdict(list)
    for row in manifest:
        groups[row.sha256 or row.image].append(row)
    twins = [rows for rows in groups.values() if len(rows) > 1]
    contradicting = [rows[0].image for rows in twins if len({row.grade for row in rows}) > 1]
    firsts = some([rows[0].image for rows in twins])
    notes = [f"{source}: {len(twins)} photographs stand more than once, byte for byte: {firsts}"]
    if contradicting:
        notes.append(f"{source}: {len(contradicting)} of them with different grades: {some(contradicting)}")
    if crossing := [rows[0].image for rows in twins if len({row.split for row in rows}) > 1]:
        notes.append(f"{source}: {len(crossing)} of them on two sides of the official split: {some(crossing)}")
    return notes if twins else []


def some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
