"""What was found in a set, and what of it somebody should know before a network is trained or measured on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2cnn.bootstrap import Estimate
from m2cnn.data.leaks import Twin
from m2cnn.data.manifest import Row
from m2cnn.grades import NUM_GRADES
from m2cnn.metrics import Floats
from m2cnn.profile.measures import BY_NAME, Measure
from m2cnn.profile.statistics import Counted, eye_agreement, grade_correlations, shares
from m2cnn.profile.suspicious import Suspect, suspects
from m2cnn.profile.table import Table
from m2cnn.profile.twins import FAULTS, Finder, faults, twins_within
from m2cnn.profile.words import many, number, share

# Between what was measured in EyePACS and IDRiD with their own colours (95 % below 0.53) and in a copy of EyePACS whose
# colours were stretched (95 % above 0.78).
STRETCHED = 0.65
SMALL = 350  # px: the smallest lesions are then at most 3.5 px wide
LESION = 100  # a microaneurysm, up to 125 um, is at most about a hundredth of a field of 45 degrees
HALF, OVEREXPOSED, CUT, COARSE = 0.5, 0.1, 0.03, 60.0
ALIKE = 0.12  # of white, between the darkest and the brightest twentieth: 0.34 and 0.26 where nobody equalised
TELLING, AT_LEAST = 0.2, 0.1  # a correlation with the grade that a network will find, and what it surely is
FEW_OF_A_GRADE = 50


@dataclass(frozen=True)
class Profile:
    """A set with what was found in it: pairs of the same photograph, suspicious ones, correlations with the grade.

    unreadable, ungradable, cut: shares of photographs.  eyes: agreement of left and right, None without such patients.
    """

    table: Table
    twins: list[Twin]
    suspects: list[Suspect]
    correlations: list[tuple[Measure, Counted]]
    unreadable: Counted
    ungradable: Counted
    cut: Counted
    eyes: Counted | None


def profile(table: Table, find: Finder) -> Profile:
    """Everything that the page of a set says, without its pictures."""
    refused = table.readable & (table.reasons != "")
    cut = table.values("cut")[table.readable] > CUT
    return Profile(
        table,
        twins_within(table, find),
        suspects(table),
        grade_correlations(table),
        *shares([~table.readable, refused], table.patient),
        _share_of_readable(table, cut),
        eye_agreement(table),
    )


def _share_of_readable(table: Table, flag: NDArray[np.bool_]) -> Counted:
    if not len(flag):
        return Counted(Estimate(np.nan, np.nan, np.nan), 0)
    return shares([flag], np.unique(table.patient[table.readable], return_inverse=True)[1])[0]


def findings(found: Profile) -> list[str]:
    """What stands out, in sentences, the gravest first."""
    return [
        *_broken(found),
        *_twice(found),
        *_shortcuts(found),
        *(line for name in BY_NAME for line in reading(name, found.table.values(name))),
        *_grades(found.table),
        *_odd(found),
    ]


def _broken(found: Profile) -> list[str]:
    table, sentences = found.table, []
    if not table.readable.all():
        count = int((~table.readable).sum())
        sentences.append(f"{many(count, 'photograph')} cannot be used: unreadable, or without a round field.")
    if found.ungradable.estimate.value > 0:
        count = round(found.ungradable.estimate.value * len(table))
        graded = int(((table.grades >= 0) & table.readable & (table.reasons != "")).sum())
        sentences.append(
            f"{many(count, 'photograph')} would be refused as not gradable; {graded:,} of them have a grade."
        )
    return sentences


def _twice(found: Profile) -> list[str]:
    if not found.twins:
        return []
    rows = {row.image: row for row in found.table.rows}
    kinds = Counter(kind for t in found.twins for kind in faults(rows[t.first], rows[t.second]))
    parts = [f"{kinds[kind]:,} {text}" for kind, text in FAULTS.items() if kinds[kind]]
    pairs = many(len(found.twins), "pair of photographs is the same photograph", "pairs of photographs are the same")
    return [f"{pairs}{': ' * bool(parts)}{', '.join(parts)}."]


def telling(found: Profile) -> list[tuple[Measure, Counted]]:
    """The measures that tell the grade so well that a network may read them instead of the lesions.

    Of fifteen measures some correlate by chance: the whole interval must lie beyond AT_LEAST.
    """
    return [(measure, counted) for measure, counted in found.correlations if _tells(counted.estimate)]


def _tells(e: Estimate) -> bool:
    return abs(e.value) >= TELLING and (e.low >= AT_LEAST or e.high <= -AT_LEAST)


def _shortcuts(found: Profile) -> list[str]:
    """What a network may learn instead of lesions: first what no disease does, then what disease may do in part."""
    sentences = []
    for camera, remark in ((True, "No disease does this: a"), (False, "Disease may do a part of this; still, a")):
        hows = [
            f"{measure.more if counted.estimate.value > 0 else measure.less} ({number(counted)})"
            for measure, counted in telling(found)
            if measure.camera == camera
        ]
        if hows:
            sentences.append(
                f"Their look tells the grade. The higher it is, the photographs are {', '.join(hows)}; in brackets the "
                f"correlation. {remark} network can learn it instead of lesions."
            )
    return sentences


def _grades(table: Table) -> list[str]:
    times = Counter(int(grade) for grade in table.grades if grade >= 0)
    if not times:
        return ["No photograph has a grade."]
    rare = [f"{times[grade]:,} of grade {grade}" for grade in range(NUM_GRADES) if times[grade] < FEW_OF_A_GRADE]
    return [f"Few to learn from, and to measure on: {', '.join(rare)}."] if rare else []


def _odd(found: Profile) -> list[str]:
    if not found.suspects:
        return []
    return [f"{many(len(found.suspects), 'photograph is', 'photographs are')} unlike the rest of the set."]


def reading(name: str, values: Floats) -> list[str]:
    """What the (N,) values of a measure say of a set, in plain words; [] where nothing is unusual."""
    known = values[np.isfinite(values)]
    return READINGS[name](known) if name in READINGS and len(known) else []


def _of_size(values: Floats) -> list[str]:
    sentences = []
    if (median := float(np.median(values))) < SMALL:
        sentences.append(
            f"Small photographs: a microaneurysm, at most a hundredth of the field, is up to {median / LESION:.1f} px "
            "wide. Mild retinopathy can hardly be seen."
        )
    low, high = np.percentile(values, (5, 95))
    if high > 1.5 * low:
        sentences.append(f"Sizes differ by a factor of {high / low:.1f}: {low:.0f} to {high:.0f} px across the field.")
    return sentences


def _of_detail(values: Floats) -> list[str]:
    blurred = float((values < HALF).mean())
    if blurred < 0.1:
        return []
    return [f"{100 * blurred:.0f} % show less than half the detail that their pixels could hold: blurred or enlarged."]


def _of_stretch(values: Floats) -> list[str]:
    stretched = float((values > STRETCHED).mean())
    if stretched < 0.1:
        return []
    who = "The" if stretched > 0.9 else f"{100 * stretched:.0f} % of the"
    return [
        f"{who} photographs are not in the camera's colours: red, green and blue were each stretched over nearly their "
        "whole range."
    ]


def _of_brightness(values: Floats) -> list[str]:
    low, high = np.percentile(values, (5, 95))
    if len(values) < FEW_OF_A_GRADE or high - low > ALIKE:
        return []
    return [f"All are equally bright ({100 * low:.0f} to {100 * high:.0f} %): somebody equalised them."]


def _of_cut(values: Floats) -> list[str]:
    cut, half = float((values > CUT).mean()), int((values > 0.3).sum())
    sentences = [f"{100 * cut:.0f} % of the fields are cut off."] if cut >= 0.05 else []
    return sentences + ([f"{many(half, 'photograph')} hide more than three tenths of the field."] if half else [])


def _of_clipping(values: Floats) -> list[str]:
    share_of = float((values > OVEREXPOSED).mean())
    return [f"{100 * share_of:.0f} % are overexposed in more than a tenth of the field."] if share_of >= 0.05 else []


def _of_jpeg(values: Floats) -> list[str]:
    median = float(np.median(values))
    return [f"Strongly compressed: JPEG quality {median:.0f}."] if median < COARSE else []


READINGS = {
    "diameter": _of_size,
    "kept": _of_detail,
    "stretch": _of_stretch,
    "brightness": _of_brightness,
    "cut": _of_cut,
    "clipped": _of_clipping,
    "jpeg": _of_jpeg,
}


def refused_rows(table: Table, readable: bool) -> list[tuple[Row, str]]:
    """The photographs with a reason against them, sorted by it: those that were measured, or those that were not."""
    found = [
        (row, str(reason))
        for row, reason, seen in zip(table.rows, table.reasons, table.readable, strict=True)
        if reason and seen == readable
    ]
    return sorted(found, key=lambda pair: (pair[1], pair[0].image))


def lead(found: Profile) -> str:
    """The set in one sentence."""
    table = found.table
    graded, usable = int((table.grades >= 0).sum()), int((table.reasons == "").sum())
    locked = f" {many(table.locked, 'photograph')} of the lockbox: not looked at." if table.locked else ""
    return (
        f"{many(len(table), 'photograph')} of {many(table.patients, 'patient')}, {graded:,} with a grade; "
        f"{usable:,} can be graded, {share(found.ungradable)} are not gradable, {share(found.unreadable)} cannot be "
        f"used.{locked}"
    )
