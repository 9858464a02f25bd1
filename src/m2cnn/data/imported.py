"""What an importer is and returns: the manifest, notes of what was found and is missing, and the published counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from m2cnn.data.manifest import Manifest, Row
from m2cnn.data.pairing import twin_notes, with_hashes_of_twins
from m2cnn.errors import DataError
from m2cnn.grades import NUM_GRADES

OWN_PATIENT = "without a patient's id; each counts as its own patient: say so beside every result"
AS_PUBLISHED = "as published"  # how the note of a part ends that has every photograph, and no other


@dataclass(frozen=True)
class Imported:
    """A manifest and what the user should know of it; the first note has the counts."""

    manifest: Manifest
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """How many photographs a part of a dataset has.

    grades: photographs of grade 0..4; ungraded: those without a grade. basis: where the numbers come from; `confirmed`
    is False where they were recalled or derived, neither counted nor read. split, source: what the manifest's rows of
    this part have; an empty source is the importer's name.
    """

    part: str
    grades: tuple[int, ...]
    basis: str
    ungraded: int = 0
    split: str = ""
    source: str = ""
    confirmed: bool = True

    @property
    def photographs(self) -> int:
        return sum(self.grades) + self.ungraded


@dataclass(frozen=True)
class Importer:
    """A row of IMPORTERS.

    read: folder and options -> Imported. layout: what a folder is known by, in words; `fits` looks for it.
    terms: what the publisher says of who may use it; `use`: that in a word of m2cnn.data.terms.USES.
    """

    read: Callable[..., Imported]
    title: str
    layout: str
    fits: Callable[[Path], bool]
    terms: str = ""
    published: tuple[Published, ...] = ()
    use: str = "unknown"


def imported(source: str, folder: Path, rows: list[Row], notes: list[str]) -> Imported:
    """The manifest of `rows`, which get `source` where they have none. Raises DataError when there are none."""
    if not rows:
        raise DataError(folder, "no photograph with a label", f"the layout of {source}", "; ".join(notes))
    manifest = Manifest(tuple(row if row.source else replace(row, source=source) for row in rows), folder)
    manifest = with_hashes_of_twins(manifest)
    return Imported(manifest, (counts(manifest), *notes, *twin_notes(source, manifest)))


def counts(manifest: Manifest) -> str:
    """One line: photographs, patients, and photographs per grade."""
    per_grade = Counter(row.grade for row in manifest)
    patients = len({row.patient for row in manifest})
    rest = f", {per_grade[None]} without grade" if per_grade[None] else ""
    return f"{len(manifest)} photographs of {patients} patients, grades 0/1/2/3/4: {_by_grade(manifest)}{rest}"


def _by_grade(rows: Iterable[Row]) -> str:
    per_grade = Counter(row.grade for row in rows)
    return "/".join(str(per_grade[grade]) for grade in range(NUM_GRADES))


# Notes that several datasets share


def own_patient_note(name: str, rows: list[Row]) -> list[str]:
    """Photographs without an eye: their names said nothing of a patient."""
    alone = sum(not row.eye for row in rows)
    return [f"{name}: {alone} of {len(rows)} photographs {OWN_PATIENT}"] if alone else []


def absent(name: str, part: str, where: str) -> str:
    return f"{name}: the {part} set is absent ({where})"


def ungradable_notes(name: str, rows: list[Row]) -> list[str]:
    """How many photographs are marked ungradable, and how many of these have a grade all the same."""
    marked = [row for row in rows if row.quality == "ungradable"]
    graded = sum(row.grade is not None for row in marked)
    kept = f"; {graded} of them keep their grade: training leaves them out, evaluation counts them" if graded else ""
    return [f"{name}: {len(marked)} photographs are marked ungradable{kept}"] if marked else []


def check_parts(place: object, rows: Iterable[Row]) -> None:
    """DataError naming a patient with photographs in two official parts (splits or sources)."""
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.patient, row)
        if _part(other) != _part(row):
            where = f"{other.image} in {_part(other)}, {row.image} in {_part(row)}"
            got = f'patient "{row.patient}" stands in two parts: {where}'
            raise DataError(
                place, got, "each patient in one official part", "Compare the label files with their source."
            )


def _part(row: Row) -> str:
    return " ".join(filter(None, (row.source, row.split or "training")))


# Against the published counts


def published_notes(name: str, manifest: Manifest, parts: Iterable[Published]) -> list[str]:
    """A note for each part of which there is a photograph: "as published", or what differs from which numbers."""
    notes = []
    for part in parts:
        rows = [row for row in manifest if (row.split, row.source) == (part.split, part.source or name)]
        if rows:
            differing = "; ".join(_differences(part, rows))
            said = differing or f"{len(rows):,} photographs, grades {_by_grade(rows)}, "
            basis = f" (published: {part.basis}" + (")" if part.confirmed else ", unconfirmed)")
            agreed = AS_PUBLISHED if part.confirmed else AS_PUBLISHED + basis
            notes.append(f"{name} {part.part}: {said}" + (basis if differing else agreed))
    return notes


def _differences(part: Published, rows: list[Row]) -> Iterable[str]:
    per_grade = Counter(row.grade for row in rows)
    pairs = [(f"grade {grade}", part.grades[grade], per_grade[grade]) for grade in range(NUM_GRADES)]
    pairs = [*pairs, ("without grade", part.ungraded, per_grade[None])]
    differing = [f"{what}: {said:,} published, {found:,} found" for what, said, found in pairs if said != found]
    if differing:
        yield f"{part.photographs:,} published, {len(rows):,} found"
        yield from differing
