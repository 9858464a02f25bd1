"""From a dataset's folder to a manifest: the importers by name, and those of layouts that are nobody's in particular.

A new dataset is one function (public_sets.py has most) and one row in IMPORTERS. Nothing is copied or changed; image
paths start from the folder that was given. What does not fit together (labels without a photograph, photographs without
a label) is left out and counted in the notes; what cannot be understood is a DataError.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from m2cnn.data.deepdrid import deepdrid
from m2cnn.data.imported import Imported, Importer, Published, imported, own_patient_note, published_notes
from m2cnn.data.manifest import Row, row_from_cells
from m2cnn.data.pairing import (
    EYE_OF,
    TWINS,
    Matching,
    need_columns,
    only_file,
    patient_and_eye,
    photographs_below,
    photographs_in,
    subfolders,
)
from m2cnn.data.public_sets import aptos, ddr, eyepacs, idrid, messidor2
from m2cnn.data.retinamnist import retinamnist
from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.tables import read_table

GRADE_FOLDERS = {
    0: ("no_dr", "nodr", "no_apparent_retinopathy", "no_retinopathy", "normal", "healthy"),
    1: ("mild", "mild_dr", "mild_npdr"),
    2: ("moderate", "moderate_dr", "moderate_npdr"),
    3: ("severe", "severe_dr", "severe_npdr"),
    4: ("proliferate_dr", "proliferative_dr", "proliferative", "proliferate", "pdr"),
}
GRADE_OF_NAME = {name: grade for grade, names in GRADE_FOLDERS.items() for name in names}

SOLUTION = "counted in retinopathy_solution.csv"
DDR_COUNTS = "public code that reads the set, and the publishers' sizes of the parts"
MESSIDOR2_COUNTS = "counted in a copy of messidor_data.csv without its ungradable"
DEEPDRID_REST = "the totals of a dataset card less the other parts"
RETINAMNIST_COUNTS = "counted in retinamnist.npz, which was drawn from this part"


def folders(folder: str | Path) -> Imported:
    """A folder per grade: 0..4, a name of GRADE_FOLDERS in any spelling ("No DR"), or both ("0 - No DR")."""
    folder = Path(folder)
    rows = []
    for subfolder in subfolders(folder):
        photographs = photographs_in(folder, subfolder)
        grade = grade_of_folder(subfolder)
        if (folder / subfolder / TWINS).is_file():
            continue  # what the leak guard wrote
        if photographs and grade is None:
            expected = "0..4 or a grade's name"
            raise DataError(folder / subfolder, "not a grade", expected, did_you_mean(_plain(subfolder), GRADE_OF_NAME))
        for image in photographs.values():
            patient, eye = patient_and_eye(image)
            rows.append(Row(image, patient, eye, grade))
    taken = {row.image for row in rows}
    left = [image for image in photographs_below(folder).values() if image not in taken and not image.startswith(".")]
    notes = [f"folders: {len(left)} photographs outside the folders of grades, left out"] if left else []
    return imported("folders", folder, rows, notes + own_patient_note("folders", rows))


def grade_of_folder(name: str) -> int | None:
    """The grade that a folder's name says, None when it says none.

    >>> [grade_of_folder(name) for name in ("3", "No_DR", "0 - No DR", "Proliferate_DR", "masks")]
    [3, 0, 0, 4, None]

    Raises DataError when number and name contradict each other.
    """
    number, words = re.fullmatch(r"([0-4]?)(.*)", _plain(name)).groups()
    words = words.strip("_")
    named = GRADE_OF_NAME.get(words)
    if not number or not words:
        return int(number) if number else named
    if named is not None and named != int(number):
        raise DataError(name, f"number {number} but the name of grade {named}", "one grade", "Rename the folder.")
    return named


def table(
    folder: str | Path,
    csv: str | Path | None = None,
    image: str = "image",
    patient: str | None = None,
    eye: str | None = None,
    grade: str | None = None,
    dme: str | None = None,
    quality: str | None = None,
    split: str | None = None,
    sha256: str | None = None,
    source: str | None = None,
) -> Imported:
    """Any CSV, its columns given by name; `folder` has the photographs, image cells may lack the extension.

    csv: by default the only CSV in the folder. None: the column of just the option's own name, where there is one; an
    empty name: none. Without a patient, patient and eye come from <patient>_<left|right>, where a column "eye" that was
    taken for its name has nothing to say, else each photograph is its own patient.
    """
    folder = Path(folder)
    path = Path(csv) if csv is not None else only_file(folder, "*.csv", "csv")
    given = {"patient": patient, "eye": eye, "grade": grade, "dme": dme, "quality": quality, "split": split}
    given |= {"sha256": sha256, "source": source}
    columns, body = read_table(path)
    taken = [name for name, theirs in given.items() if theirs is None and name in columns]
    names = {name: theirs for name, theirs in given.items() if theirs} | {name: name for name in taken}
    need_columns(path.name, columns, (image, *names.values()))
    matching = Matching(path.name, photographs_below(folder))
    told, rows = "patient" in names, []
    ways = {name: f"The column was taken for its name: the option {name}= leaves it out." for name in taken}
    missed = [(name, each) for name in given if name not in names for each in columns if each.lower() == name != each]
    for place, cells, name in matching.pairs(body, image):
        from_name = {} if told else dict(zip(("patient", "eye"), patient_and_eye(name), strict=True))
        own = {ours: cells[theirs] for ours, theirs in names.items() if cells[theirs] or ours not in taken}
        values = {"image": name, "patient": "", **from_name, **own}
        values["eye"] = EYE_OF.get(values.get("eye", "").lower(), values.get("eye", ""))
        values["sha256"] = values.get("sha256", "").lower()
        rows.append(row_from_cells(values, place, ways))
    notes = matching.notes() + [f'column "{each}" was not taken: {name}={each} takes it' for name, each in missed]
    return imported("table", folder, rows, notes + ([] if told else own_patient_note("table", rows)))


def grade_folders(folder: Path) -> bool:
    return any(grade_of_folder(name) is not None for name in subfolders(folder))


def has(*names: str) -> Callable[[Path], bool]:
    """Whether a folder has a file or folder of one of these names (patterns of glob)."""
    return lambda folder: any(True for name in names for _ in folder.glob(name))


IMPORTERS: dict[str, Importer] = {
    "eyepacs": Importer(
        eyepacs,
        "Kaggle 2015 (EyePACS)",
        "trainLabels.csv or retinopathy_solution.csv",
        has("trainLabels.csv", "retinopathy_solution.csv"),
        "Kaggle's rules of the contest: research only",
        (
            Published("train", (25810, 2443, 5292, 873, 708), "counted in trainLabels.csv"),
            Published("public", (8130, 720, 1579, 237, 240), SOLUTION, split="test", source="eyepacs-public"),
            Published("private", (31403, 3042, 6282, 977, 966), SOLUTION, split="test", source="eyepacs-private"),
            Published("test", (39533, 3762, 7861, 1214, 1206), SOLUTION, split="test"),
        ),
        use="research only",
    ),
    "aptos": Importer(
        aptos,
        "APTOS 2019",
        "train.csv and train_images/",
        lambda folder: has("train.csv")(folder) and has("train_images")(folder),
        "Kaggle's rules of the contest: research only",
        (Published("train", (1805, 370, 999, 193, 295), "counted in train.csv"),),
        use="research only",
    ),
    "idrid": Importer(
        idrid,
        "IDRiD, B. Disease Grading",
        '"B. Disease Grading"',
        has("B. Disease Grading", "2. Groundtruths"),
        "CC BY 4.0",
        (
            Published("training", (134, 20, 136, 74, 49), "counted in the training labels"),
            Published("testing", (34, 5, 32, 19, 13), "public code that reads the set", split="test"),
        ),
        use="attribution",
    ),
    "messidor2": Importer(
        messidor2,
        "Messidor-2, adjudicated grades",
        "messidor_data.csv",
        has("messidor_data.csv"),
        "photographs: ADCIS, research and education only, no redistribution; grades: see their page at Kaggle",
        (Published("all", (1017, 270, 347, 75, 35), MESSIDOR2_COUNTS, 4),),
        use="research only",
    ),
    "ddr": Importer(
        ddr,
        "DDR, DR_grading",
        "DR_grading or DDR-dataset",
        has("DR_grading", "DDR-dataset", "valid.txt"),
        "its repository states none: ask the publishers",
        (
            Published("train", (3133, 315, 2238, 118, 456), DDR_COUNTS, 575, "train"),
            Published("valid", (1253, 126, 895, 47, 182), DDR_COUNTS, 230, "val"),
            Published("test", (1880, 189, 1344, 71, 275), DDR_COUNTS, 346, "test"),
        ),
    ),
    "deepdrid": Importer(
        deepdrid,
        "DeepDRiD, regular fundus photographs",
        "regular_fundus_images",
        has("regular_fundus_images", "regular-fundus-training"),
        "Creative Commons; sources name CC BY 4.0 and CC BY-SA 4.0: see its repository",
        (
            Published("train", (540, 140, 234, 214, 72), RETINAMNIST_COUNTS, split="train"),
            Published("val", (174, 46, 92, 68, 20), RETINAMNIST_COUNTS, split="val"),
            Published("test", (120, 78, 68, 96, 38), DEEPDRID_REST, split="test", confirmed=False),
        ),
        use="share alike",
    ),
    "retinamnist": Importer(
        retinamnist,
        "RetinaMNIST (MedMNIST v2)",
        "retinamnist*.npz",
        has("retinamnist*.npz"),
        "CC BY 4.0",
        (
            Published("train", (486, 128, 206, 194, 66), "counted in retinamnist.npz", split="train"),
            Published("val", (54, 12, 28, 20, 6), "counted in retinamnist.npz", split="val"),
            Published("test", (174, 46, 92, 68, 20), "counted in retinamnist.npz", split="test"),
        ),
        use="attribution",
    ),
    "folders": Importer(folders, "a folder per grade", "folders named by grade", grade_folders),
    "table": Importer(table, "any CSV, its columns by name", "", lambda folder: False),
}


def import_dataset(name: str, folder: str | Path, **options: str | Path) -> Imported:
    """Import the dataset `name` (a key of IMPORTERS) from its folder; `options` are those of its function.

    The last notes hold the counts against the published ones. Raises SettingError for an unknown name or option,
    DataError for a folder that does not fit.
    """
    if name not in IMPORTERS:
        raise SettingError("dataset", f'"{name}"', "an importer", did_you_mean(name, IMPORTERS))
    known = options_of(name)
    for option in options:
        if option not in known:
            repair = did_you_mean(option, known) if known else f"{name} has no options."
            raise SettingError(f"dataset {name}", f'option "{option}"', "one of its options", repair)
    if not Path(folder).is_dir():
        raise DataError(folder, "no such folder", f"the folder of {name}", "Check the path.")
    found = IMPORTERS[name].read(folder, **options)
    return replace(found, notes=(*found.notes, *published_notes(name, found.manifest, IMPORTERS[name].published)))


def options_of(name: str) -> list[str]:
    """The names of an importer's options: the parameters of its function behind the folder."""
    return list(inspect.signature(IMPORTERS[name].read).parameters)[1:]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")
