"""A folder of rendered photographs, and the manifest's rows for it. What a killed run left there is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from m2cnn.errors import SettingError
from m2cnn.parallel import check_workers, in_chunks
from m2cnn.synthetic.cameras import CAMERAS, get_camera
from m2cnn.synthetic.nuisances import Nuisances
from m2cnn.synthetic.render import DEFAULT, EYES, FIELDS, check_request, draw_grades, render
from m2cnn.tables import is_half, write_atomically, write_json

SOURCE = "m2cnn synthetic"
FORMATS = ("jpeg", "png")
SETTINGS = "rendering.json"  # written first: what the folder's photographs are made from
WHOLE = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND\xaeB`\x82"))
CHUNK = 4  # patients
VERSION = 2  # of the renderer: another one gives other bytes for a seed


@dataclass(frozen=True)
class Rendering:
    """What a folder of photographs is made from, but for the number of patients. The same gives the same bytes.

    size: px of the square photographs.  grades: how frequent each is, five numbers.  file_format: "jpeg" of quality 95,
    or "png".  fields: 1, or 2 for a second photograph of each eye with the disc in its middle (<patient>_<eye>_2).
    cameras: those that patients meet.
    masks: also masks/KIND/NAME.png for each kind in a photograph, and its disc: 255 where it is drawn, else 0.
    Raises SettingError for an unknown format, field or camera, and for numbers that mean nothing.
    """

    seed: int
    size: int = 720
    lesions: bool = True
    grades: Sequence[float] = (1, 1, 1, 1, 1)
    file_format: str = "jpeg"
    fields: int = 1
    cameras: Sequence[str] = tuple(CAMERAS)
    nuisances: Nuisances = DEFAULT
    masks: bool = False
    version: int = VERSION

    def __post_init__(self) -> None:
        # What is wrong is refused here: not in a worker, and before a folder is claimed.
        if self.file_format not in FORMATS:
            raise SettingError("rendering, file_format", f"{self.file_format!r}", " or ".join(FORMATS))
        if self.fields not in FIELDS:
            expected = "1 (near the macula) or 2 (also at the disc)"
            raise SettingError("rendering, fields", f"{self.fields!r}", expected)
        check_request(self.seed, 0, EYES[0], self.size, 0, 1)
        draw_grades(self.seed, 0, self.grades)
        names = tuple(dict.fromkeys(get_camera(name).name for name in self.cameras))
        object.__setattr__(self, "cameras", names)
        object.__setattr__(self, "grades", tuple(map(float, self.grades)))


def render_dataset(folder: str | Path, patients: int, rendering: Rendering, workers: int = 2) -> list[dict]:
    """Write both eyes of `patients` patients into `folder`; one row per photograph, in the manifest's columns.

    The same arguments give the same bytes, for any number of workers, and also when a killed run is called again:
    each photograph is written whole or not at all, and those that are there are kept. The rows' images are relative to
    `folder`; dme, quality and split stay empty.
    Raises SettingError for fewer than one patient or worker, and for a folder whose photographs were rendered with
    other settings, or by somebody else.
    """
    if patients < 1:
        raise SettingError("render_dataset", f"patients={patients}", "at least 1")
    check_workers(workers)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, rendering)
    job = partial(_write_patients, str(folder), rendering)
    done = in_chunks(job, range(patients), workers, CHUNK, "rendering patients")
    return [row for chunk in done for rows in chunk for row in rows]


def _claim(folder: Path, rendering: Rendering) -> None:
    """Say in the folder what its photographs are made from, or check that it is this."""
    file, mine = folder / SETTINGS, json.loads(json.dumps(asdict(rendering)))
    if not file.exists():
        if others := [path.name for path in folder.iterdir() if not is_half(path.name)]:
            got = f"it has other files, such as {others[0]}"
            raise SettingError(folder, got, "an empty folder, or one that was rendered", "Choose another folder.")
        write_json(file, mine)
        return
    try:
        theirs = json.loads(file.read_text(encoding="utf-8"))
        other = [f"{key}={theirs.get(key)!r}" for key in mine if theirs.get(key) != mine[key]]
    except (ValueError, AttributeError):
        other = ["no such settings"]
    if other:
        wanted = ", ".join(f"{key}={value!r}" for key, value in mine.items())
        repair = "Name another folder, or give the settings that began it."
        raise SettingError(file, f"the folder was begun with {', '.join(other)}", wanted, repair)


def _write_patients(folder: str, rendering: Rendering, patients: list[int]) -> list[list[dict]]:
    return [_write_patient(folder, rendering, patient) for patient in patients]


def _write_patient(folder: str, rendering: Rendering, patient: int) -> list[dict]:
    rows, name = [], f"s{rendering.seed}-p{patient:05d}"
    for eye, grade in zip(EYES, draw_grades(rendering.seed, patient, rendering.grades), strict=True):
        for field in FIELDS[: rendering.fields]:
            number = "" if field == 1 else f"_{field}"
            image = f"{name}_{eye}{number}.{rendering.file_format}"
            data = _photograph(Path(folder) / image, rendering, patient, eye, grade, field)
            rows.append(_row(image, name, eye, grade, data))
    return rows


def _photograph(path: Path, rendering: Rendering, patient: int, eye: str, grade: int, field: int) -> bytes:
    """The bytes of one photograph: those of the file that is there already and whole, else rendered and written."""
    if path.exists() and _is_whole(data := path.read_bytes()):
        return data
    one = render(
        rendering.seed,
        grade,
        eye=eye,
        size=rendering.size,
        lesions=rendering.lesions,
        patient=patient,
        camera=rendering.cameras,
        field=field,
        nuisances=rendering.nuisances,
    )
    for kind, mask in one.masks.items() if rendering.masks else ():
        # Before the photograph: where that is, they are too.
        write_atomically(path.parent / "masks" / kind / f"{path.stem}.png", _mask_bytes(mask))
    data = encode(one.image, rendering.file_format)
    write_atomically(path, data)
    return data


def _mask_bytes(mask: np.ndarray) -> bytes:
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def encode(picture: np.ndarray, file_format: str) -> bytes:
    """(H, W, 3) uint8 RGB -> the bytes of a PNG, or of a JPEG of quality 95."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if file_format == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    return cv2.imencode("." + file_format, picture[..., ::-1], options)[1].tobytes()


def _is_whole(data: bytes) -> bool:
    """Whether it begins and ends as a JPEG or a PNG does."""
    return any(data.startswith(begin) and data.endswith(end) for begin, end in WHOLE)


def _row(image: str, patient: str, eye: str, grade: int, data: bytes) -> dict:
    return {
        "image": image,
        "patient": patient,
        "eye": eye,
        "grade": grade,
        "dme": "",
        "quality": "",
        "split": "",
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": SOURCE,
    }
