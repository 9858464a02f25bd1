"""The photographs that a system was most wrong about, with maps of where its severity came from."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from m2cnn.bundle import Bundle
from m2cnn.data.manifest import Manifest, file_hash
from m2cnn.errors import ImageError, SettingError
from m2cnn.grades import GRADES
from m2cnn.photograph import read_image
from m2cnn.report import jpeg, shrunk
from m2cnn.reporting.document import Block, Gallery, Section, Shot, Text
from m2cnn.reporting.study import Study

WORST = 8
SIDE = 420  # px
METHOD, TARGET = "grad-cam-fine", "severity"
TITLE = "The worst mistakes"


def worst(study: Study, count: int = WORST) -> list[int]:
    """Places among the scored photographs that got another grade than the true one, the severity farthest off first."""
    p = study.scored
    off = np.abs(p.severity.astype(np.float64) - p.grade)
    order = sorted(range(len(p)), key=lambda i: (-off[i], str(p.image[i])))
    return [i for i in order if p.decoded[i] != p.grade[i]][:count]


def mistakes(study: Study, pictures: bool, maps: bool, count: int = WORST) -> Section:
    """pictures: photographs are shown, where the manifest of the study has them.  maps: beside each where its severity
    came from; needs the model, and torch.
    """
    if count < 0:
        raise SettingError("--worst", f"{count}", "0 or more")
    if not count:
        return Section(TITLE, (Text("They were not asked for (--worst 0)."),))
    places = worst(study, count)
    if not places:
        return Section(TITLE, (Text("No photograph got another grade than the true one."),))
    files = _files(study) if pictures else {}
    names = [str(study.scored.image[i]) for i in places]
    drawn = _maps(study, [files[name] for name in names if name in files]) if maps else {}
    shots = tuple(_shot(study, i, files.get(name), drawn) for i, name in zip(places, names, strict=True))
    why = (
        "" if pictures and study.manifest else "Photographs are not shown (--data shows them, --no-pictures does not). "
    )
    wrong = "Those graded wrongly, the severity farthest from the truth first"
    text = f"{why}{wrong}; of {len(study.scored)}. Labels may be wrong too."
    blocks: list[Block] = [Text(text)]
    if maps:
        blocks.append(Text(_of_maps(study.bundle)))
    return Section(TITLE, (*blocks, Gallery(shots)))


def _of_maps(bundle: Bundle) -> str:
    """What the maps are of, and what they leave out."""
    said = ["Where the severity came from: Grad-CAM at an earlier layer. A bright place is a hint, not a finding."]
    if told := of_member(bundle):
        said.append(told)
    if bundle.combiner is not None and bundle.combiner.joins_eyes:
        said.append(
            "The grade joins both eyes of a patient, the map is of one; the grade that stands in it may be of that eye "
            "alone, the one above it is of both."
        )
    return " ".join(said)


def of_member(bundle: Bundle | None) -> str:
    """Which member the maps are of; "" where there is but one."""
    if bundle is None or len(bundle.members) < 2:
        return ""
    first, *others = bundle.members
    return f"The grade is that of several members, the map that of {first} alone, not of {', '.join(others)}."


def _files(study: Study) -> dict[str, Path]:
    manifest = study.manifest or Manifest(())
    rows = {row.image: row for row in manifest}
    files = {image: manifest.path(rows[image]) for image in study.scored.image.tolist() if image in rows}
    return {image: path for image, path in files.items() if path.is_file()}


def _maps(study: Study, paths: list[Path]) -> dict[str, tuple[bytes, str]]:
    """By path of the photograph: a picture and its warning, of the first member where there are several."""
    if not paths:
        return {}
    from m2cnn.explain.explaining import explain_photographs

    with TemporaryDirectory() as folder:
        index = explain_photographs(study.bundle.folder, paths, folder, (METHOD,), (TARGET,))
        found: dict[str, tuple[bytes, str]] = {}
        for one in index["maps"]:
            picture = cv2.imread(str(Path(folder) / one["picture"]))[..., ::-1]
            found.setdefault(one["photograph"], (jpeg(shrunk(picture, 2 * SIDE)), one["warning"]))
        return found


def _shot(study: Study, place: int, path: Path | None, drawn: dict[str, tuple[bytes, str]]) -> Shot:
    p = study.scored
    truth, said = int(p.grade[place]), int(p.decoded[place])
    lines = [f"severity {p.severity[place]:.2f}, truth {truth}"]
    if not np.isnan(p.probabilities[place]).any():
        chances = ", ".join(f"{grade}: {chance:.2f}" for grade, chance in enumerate(p.probabilities[place]))
        lines.append(f"probabilities {chances}")
    name, picture, alt = str(p.image[place]), b"", f"photograph {p.image[place]}"
    if str(path) in drawn:
        picture, warning = drawn[str(path)]
        alt += ", and where its severity came from"
        lines += [warning] if warning else []
    elif path is not None:
        try:
            picture = jpeg(shrunk(read_image(path), SIDE))
        except ImageError as cause:
            lines.append(f"cannot be shown: {cause}")
    if path is not None and _changed(study, name, path):
        lines.append("the file has changed since it was listed")
    title = f"{name}: graded {said} ({GRADES[said].name}), truth {truth} ({GRADES[truth].name})"
    return Shot(title, tuple(lines), picture, alt)


def _changed(study: Study, name: str, path: Path) -> bool:
    row = next(row for row in study.manifest or () if row.image == name)
    return bool(row.sha256) and file_hash(path) != row.sha256
