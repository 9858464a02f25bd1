"""A bundle with probabilities and operating points fitted on photographs that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2cnn.bundle import Bundle, copy_bundle, load_bundle, with_calibration
from m2cnn.calibration import NONE, calibrate
from m2cnn.data.known import CALIBRATION, TRAIN, VAL, Known, known_of
from m2cnn.data.manifest import Manifest
from m2cnn.data.splits import check_sides
from m2cnn.data.survey import Seen, look_at_planes, remembering, survey
from m2cnn.errors import SettingError
from m2cnn.evaluate import predict, unknown_to
from m2cnn.grader import Grader
from m2cnn.kept import keeping


def recalibrate(
    model: str | Path,
    manifest: Manifest,
    out: str | Path,
    *,
    splits: Sequence[str] = ("val",),
    sensitivity: float = 0.95,
    specificity: float = 0.95,
    memory: str | Path | None = None,
) -> Bundle:
    """Write the model into `out` (the model's own folder, or a new one) with a calibration fitted on `splits`.

    sensitivity, specificity: the targets of the two operating points.  memory: as of evaluate. What an earlier
    calibration said takes no part. The bundle then knows these photographs: nothing is measured on them any more.
    Raises DataError for photographs that the model was trained on, SettingError for a folder that holds something else.
    """
    bundle, out = load_bundle(model), Path(out)
    if out.resolve() != bundle.folder.resolve() and out.exists():
        raise SettingError(out, "it exists", "a new folder for the bundle", "Remove it, or name another.")
    check_sides(manifest)
    with remembering(memory) as looks:
        chosen, _ = unknown_to(bundle, manifest, manifest.select(*splits), looks, roles=(TRAIN, VAL))
        seen = survey(chosen, look_at_planes, looks)
    plain = Grader.load(bundle.folder)
    plain.calibration = NONE
    with keeping(out, plain.identity) as kept:
        fitted = calibrate(predict(plain, chosen, kept), sensitivity, specificity)
        if out.resolve() != bundle.folder.resolve():
            copy_bundle(bundle, out)
        return with_calibration(load_bundle(out), fitted, _strangers(bundle, chosen, seen))


def _strangers(bundle: Bundle, chosen: Manifest, seen: dict[str, Seen]) -> Known:
    """The graded photographs that had no other say in the model."""
    before = {one.image for one in bundle.known().meet(seen) if one.role != CALIBRATION}
    return known_of((row for row in chosen if row.grade is not None and row.image not in before), seen, CALIBRATION)
