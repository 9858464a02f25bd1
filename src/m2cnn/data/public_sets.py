"""Public datasets as their archives unpack: one function each. DeepDRiD and RetinaMNIST have files of their own.

The layouts are those of the publishers; docs/reference/datasets.md has them in a table, with what to mind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from m2cnn.data.imported import OWN_PATIENT, Imported, absent, check_parts, imported, ungradable_notes
from m2cnn.data.manifest import Row, row_from_cells
from m2cnn.data.pairing import (
    Matching,
    need_columns,
    patient_and_eye,
    photographs_in,
    some,
    stem_of,
    subfolders,
    text_rows,
)
from m2cnn.errors import DataError
from m2cnn.tables import read_table

# Kaggle 2015

USAGES = {"Public": "eyepacs-public", "Private": "eyepacs-private"}  # the parts of the official test set
UNPROCESSABLE = ("492_left", "492_right", "25313_right", "27096_right")


def eyepacs(folder: str | Path) -> Imported:
    """Kaggle 2015: trainLabels.csv (image, level) and train/<patient>_<left|right>.jpeg.

    Without train/ the photographs lie beside the CSV. retinopathy_solution.csv (image, level, Usage) and test/ join as
    split "test"; the column source tells the Public part from the Private. Raises DataError for another Usage and for a
    patient in two parts.
    """
    folder = Path(folder)
    rows: list[Row] = []
    notes: list[str] = []
    for labels, part in (("trainLabels.csv", "train"), ("retinopathy_solution.csv", "test")):
        if (folder / labels).is_file():
            part_rows, part_notes = _eyepacs_part(folder, labels, part)
            rows, notes = rows + part_rows, notes + part_notes
        else:
            notes.append(absent("eyepacs", part, labels))
    check_parts(folder, rows)
    return imported("eyepacs", folder, rows, notes + _unprocessable_note(rows))


def _eyepacs_part(folder: Path, labels: str, subfolder: str) -> tuple[list[Row], list[str]]:
    columns, table = read_table(folder / labels)
    need_columns(labels, columns, ("image", "level"))
    split = "test" if subfolder == "test" else ""
    matching = Matching(labels, photographs_in(folder, _eyepacs_photographs(folder, subfolder)))
    rows = [_eyepacs_row(place, cells, image, split) for place, cells, image in matching.pairs(table, "image")]
    notes = matching.notes()
    if split and "Usage" not in columns:
        notes.append(f"{labels}: no column Usage, so its Public and Private parts cannot be told apart")
    return rows, notes


def _eyepacs_photographs(folder: Path, subfolder: str) -> str:
    beside = subfolder == "train" and not (folder / subfolder).is_dir()
    return "" if beside else subfolder


def _eyepacs_row(place: str, cells: dict[str, str], image: str, split: str) -> Row:
    patient, eye = patient_and_eye(image)
    if not eye:
        got = f'image is "{cells["image"]}"'
        raise DataError(place, got, "<patient>_left or <patient>_right", 'Other names: use the importer "table".')
    usage = cells.get("Usage") if split else None
    if usage is not None and usage not in USAGES:
        raise DataError(place, f'Usage is "{usage}"', " or ".join(USAGES), "Compare the file with the official one.")
    source = USAGES.get(usage, "eyepacs")
    values = {"image": image, "patient": patient, "eye": eye, "grade": cells["level"], "split": split, "source": source}
    return row_from_cells(values, place)


def _unprocessable_note(rows: list[Row]) -> list[str]:
    known = [row.image for row in rows if stem_of(row.image.rpartition("/")[2]) in UNPROCESSABLE]
    why = "the instructions of B. Graham's entry to the contest call them unprocessable; kept as the files label them"
    return (
        [f"eyepacs: {len(known)} photographs are known to be blank or damaged ({some(known)}): {why}"] if known else []
    )


# IDRiD


def idrid(folder: str | Path) -> Imported:
    """IDRiD's "B. Disease Grading", itself or the folder that has it. The official testing set is split "test"."""
    folder = Path(folder)
    inner = "B. Disease Grading/" if (folder / "B. Disease Grading").is_dir() else ""
    rows: list[Row] = []
    notes = [f"idrid: photographs {OWN_PATIENT}"]
    for part, kind, split in (("a. Training Set", "Training", ""), ("b. Testing Set", "Testing", "test")):
        images = f"{inner}1. Original Images/{part}"
        labels = sorted((folder / inner / "2. Groundtruths").glob(f"*{kind}*.csv"))
        if labels and (folder / images).is_dir():
            part_rows, part_notes = _idrid_part(folder, labels[0], images, split)
            rows, notes = rows + part_rows, notes + part_notes
        else:
            notes.append(absent("idrid", kind.lower(), f'"{images}" and its labels'))
    return imported("idrid", folder, rows, notes)


def _idrid_part(folder: Path, labels: Path, images: str, split: str) -> tuple[list[Row], list[str]]:
    columns, table = read_table(labels)
    need_columns(labels.name, columns, ("Image name", "Retinopathy grade", "Risk of macular edema"))
    matching = Matching(labels.name, photographs_in(folder, images))
    rows = []
    for place, cells, image in matching.pairs(table, "Image name"):
        # Both sets count from IDRiD_001: without the prefix two strangers would be one patient.
        patient = ("testing_" if split else "") + cells["Image name"]
        grade, dme = cells["Retinopathy grade"], cells["Risk of macular edema"]
        values = {"image": image, "patient": patient, "grade": grade, "dme": dme, "split": split}
        rows.append(row_from_cells(values, place))
    return rows, matching.notes()


# APTOS 2019


def aptos(folder: str | Path) -> Imported:
    """APTOS 2019: train.csv (id_code, diagnosis) and train_images/<id_code>.png. test.csv has no grades: left out."""
    folder = Path(folder)
    columns, table = read_table(folder / "train.csv")
    need_columns("train.csv", columns, ("id_code", "diagnosis"))
    matching = Matching("train.csv", photographs_in(folder, "train_images"))
    rows = []
    for place, cells, image in matching.pairs(table, "id_code"):
        values = {"image": image, "patient": cells["id_code"], "grade": cells["diagnosis"]}
        rows.append(row_from_cells(values, place))
    notes = [f"aptos: photographs {OWN_PATIENT}", *matching.notes()]
    if (folder / "test.csv").is_file():
        tested = len(read_table(folder / "test.csv")[1])
        notes.append(f"aptos: the {tested:,} photographs of test.csv have no published grades, left out")
    return imported("aptos", folder, rows, notes)


# Messidor-2

# adjudicated_dme is 0 or 1: hard exudates within one disc diameter of the macula. IDRiD's risk 2 says the same; its
# risks 0 and 1 are one value here.
RISK_OF_DME = {"0": "0", "1": "2", "": ""}


def messidor2(folder: str | Path) -> Imported:
    """Messidor-2: messidor_data.csv (adjudicated grades), IMAGES/, and messidor-2.csv, which pairs the two eyes.

    Photographs without a grade, or with adjudicated_gradable 0, are ungradable. dme is 2 where referable macular oedema
    was seen, 0 where not (IDRiD's 0 or 1). A patient is named by his left photograph.
    """
    folder = Path(folder)
    labels = "messidor_data.csv"
    columns, table = read_table(folder / labels)
    needed = ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")
    need_columns(labels, columns, needed)
    images = next((name for name in subfolders(folder) if name.lower() == "images"), "IMAGES")
    matching = Matching(labels, photographs_in(folder, images))
    eyes = _messidor2_eyes(folder / "messidor-2.csv")
    pairs = list(matching.pairs(table, "image_id"))
    rows = [_messidor2_row(place, cells, image, eyes) for place, cells, image in pairs]
    dropped = [cells["image_id"] for (_, cells, _), row in zip(pairs, rows, strict=True) if _disagree(cells, row)]
    notes = [*matching.notes(), *_messidor2_notes(rows, eyes), *ungradable_notes("messidor2", rows)]
    if dropped:
        notes.append(f"{labels}: {len(dropped)} rows whose grade and adjudicated_gradable disagree: {some(dropped)}")
    return imported("messidor2", folder, rows, notes)


def _messidor2_row(place: str, cells: dict[str, str], image: str, eyes: dict[str, tuple[str, str]]) -> Row:
    stem = stem_of(cells["image_id"])
    patient, eye = eyes.get(stem, (stem, ""))
    gradable, grade, dme = (_number(cells[f"adjudicated_{name}"]) for name in ("gradable", "dr_grade", "dme"))
    if gradable not in ("0", "1"):
        raise DataError(place, f'adjudicated_gradable is "{gradable}"', "0 or 1", "Compare the file with its source.")
    if dme not in RISK_OF_DME:
        raise DataError(place, f'adjudicated_dme is "{dme}"', "0, 1 or empty", "Compare the file with its source.")
    values = {"image": image, "patient": patient, "eye": eye, "grade": grade, "dme": RISK_OF_DME[dme]}
    if gradable == "0" or not grade:
        return row_from_cells(values | {"grade": "", "quality": "ungradable"}, place)
    return row_from_cells(values | {"quality": "gradable"}, place)


def _number(cell: str) -> str:
    """pandas writes 3 as 3.0 when another cell of the column is empty."""
    return cell.removesuffix(".0")


def _disagree(cells: dict[str, str], row: Row) -> bool:
    return (_number(cells["adjudicated_gradable"]) == "1") != bool(cells["adjudicated_dr_grade"])


def _messidor2_eyes(path: Path) -> dict[str, tuple[str, str]]:
    """Photograph's name without extension -> (patient, eye), from the rows "left;right" of messidor-2.csv.

    {} without that file. Raises DataError for other columns, and for a photograph in two pairs.
    """
    if not path.is_file():
        return {}
    lines = text_rows(path, "[;,]")
    columns = [name.lower() for name in lines[0][1]] if lines else []
    if not {"left", "right"} <= set(columns):
        got = f"columns {', '.join(columns)}" if columns else "the file is empty"
        raise DataError(path.name, got, "left;right", "Take the file of the archive.")
    eyes: dict[str, tuple[str, str]] = {}
    for number, cells in lines[1:]:
        pair = {eye: stem_of(cell) for eye, cell in zip(columns, cells, strict=False) if eye in ("left", "right")}
        for eye, photograph in pair.items():
            whose = (pair.get("left") or photograph, eye)
            if photograph and eyes.setdefault(photograph, whose) != whose:
                got = f"{photograph} stands in another pair already"
                raise DataError(f"{path.name}, row {number}", got, "each photograph in one pair", "Remove one row.")
    return eyes


def _messidor2_notes(rows: list[Row], eyes: dict[str, tuple[str, str]]) -> list[str]:
    alone = sum(not row.eye for row in rows)
    if not eyes:
        return [f"messidor2: messidor-2.csv, which pairs the eyes, is absent: photographs {OWN_PATIENT}"]
    return [f"messidor2: {alone} of {len(rows)} photographs {OWN_PATIENT}"] if alone else []


# DDR

DDR_UNGRADABLE = "5"


def ddr(folder: str | Path) -> Imported:
    """DDR: DR_grading/{train,valid,test}/ and {train,valid,test}.txt ("007-0004-000.jpg 0"), also inside DDR-dataset/.

    Grade 5 is ungradable: no grade, quality "ungradable". The official parts are splits train, val and test.
    """
    folder = Path(folder)
    inner = next((name for name in ("DDR-dataset/DR_grading/", "DR_grading/") if (folder / name).is_dir()), "")
    rows: list[Row] = []
    notes = [f"ddr: photographs {OWN_PATIENT}. The publishers count 9,598 patients: the official parts may share some"]
    for part, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        labels = f"{inner}{part}.txt"
        if (folder / labels).is_file():
            matching = Matching(labels, photographs_in(folder, f"{inner}{part}"))
            rows += list(_ddr_rows(matching, _ddr_labels(folder / labels, labels), split))
            notes += matching.notes()
        else:
            notes.append(absent("ddr", part, labels))
    check_parts(folder, rows)
    return imported("ddr", folder, rows, notes + ungradable_notes("ddr", rows))


def _ddr_labels(path: Path, place: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in text_rows(path, r"\s+"):
        if len(cells) != 2:
            raise DataError(
                f"{place}, row {number}", f"{len(cells)} words", "photograph and grade", "Correct the line."
            )
        yield number, {"image": cells[0], "grade": cells[1]}


def _ddr_rows(matching: Matching, table: Iterator[tuple[int, dict[str, str]]], split: str) -> Iterator[Row]:
    for place, cells, image in matching.pairs(table, "image"):
        values = {"image": image, "patient": stem_of(cells["image"]), "grade": cells["grade"], "split": split}
        if cells["grade"] == DDR_UNGRADABLE:
            values |= {"grade": "", "quality": "ungradable"}
        yield row_from_cells(values, place)
