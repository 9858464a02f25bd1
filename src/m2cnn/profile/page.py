"""The page of one set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from m2cnn.grades import GRADES, NUM_GRADES
from m2cnn.profile.findings import CUT, TELLING, Profile, findings, lead, reading, refused_rows, telling
from m2cnn.profile.gallery import MOST, Gallery
from m2cnn.profile.measures import BY_NAME
from m2cnn.profile.statistics import REPLICATES, shares
from m2cnn.profile.suspicious import ENOUGH, FAR, kind_of, some_of_each_kind
from m2cnn.profile.table import Table
from m2cnn.profile.twins import faults
from m2cnn.profile.words import INTERVAL, PLAIN, PRIVATE, card, listed, many, number, share
from m2cnn.report import grade_bar, legend, page, table

SIZES = ("diameter", "reach", "cut")
COLOURS_AND_LIGHT = ("stretch", "redness", "blueness", "saturation", "brightness", "unevenness", "clipped")
SHARPNESS = ("detail", "kept", "sharpness", "contrast", "jpeg")
FRAMES = 8  # sizes that are listed


def profile_page(found: Profile, pictures: bool = True) -> str:
    """The whole page, one HTML file. pictures: thumbnails and names; without, row numbers alone."""
    gallery = Gallery(found.table, pictures)
    sections = [
        ("What stands out", listed(findings(found)) if findings(found) else "<p>Nothing.</p>"),
        ("Grades", _grades(found.table)),
        ("Patients and eyes", _patients(found)),
        ("Sizes and fields of view", _sizes(found)),
        ("Colour and light", _cards(found.table, COLOURS_AND_LIGHT)),
        ("Sharpness and true detail", _cards(found.table, SHARPNESS)),
        ("Does the look of a photograph tell its grade?", _correlations(found)),
        ("The same photograph twice", _twins(found, gallery)),
        ("Cannot be used", _refused(found.table, gallery, readable=False)),
        ("Not gradable", _refused(found.table, gallery, readable=True)),
        ("Unlike the rest", _suspects(found, gallery)),
        ("How this was measured", _method()),
    ]
    return page(f"Profile of {found.table.name}", lead(found), sections, notes(pictures))


def notes(pictures: bool) -> list[str]:
    """What must not be overlooked on either page."""
    return [PRIVATE if pictures else PLAIN]


# Grades, patients, eyes


def _grades(one: Table) -> str:
    groups = list(_groups(one))
    counts = {name: _counts(one.grades[where]) for name, where in groups}
    flags = [one.grades == grade for grade in (*range(NUM_GRADES), -1)]
    names = [*(f"{grade.number} {grade.name}" for grade in GRADES), "no grade"]
    body = [
        [name, share(counted), *(f"{counts[group][k]:,}" for group, _ in groups)]
        for k, (name, counted) in enumerate(zip(names, shares(flags, one.patient), strict=True))
    ]
    bars = "".join(f"<p>{escape(name)}{_bar(counts[name], name)}</p>" for name, _ in groups if sum(counts[name][:-1]))
    head = ["grade", "share of all", *(name for name, _ in groups)]
    return f"{table(head, body)}<p>{INTERVAL}</p>{bars}{legend()}"


def _groups(one: Table) -> Iterator[tuple[str, np.ndarray]]:
    """All photographs, those of each split and of each eye, where there is more than one kind."""
    yield "all", np.ones(len(one), bool)
    for column, nothing in (("split", "no split"), ("eye", "eye unknown")):
        values = np.array([getattr(row, column) for row in one.rows])
        kinds = sorted(set(values), key=lambda kind: (kind == "", kind))
        yield from ((kind or nothing, values == kind) for kind in kinds if len(kinds) > 1)


def _counts(grades: np.ndarray) -> list[int]:
    """Photographs of each grade, and of none."""
    return [int((grades == grade).sum()) for grade in (*range(NUM_GRADES), -1)]


def _bar(counts: Sequence[int], name: str) -> str:
    graded = sum(counts[:-1])
    return grade_bar([count / graded for count in counts[:-1]], f"grades, {name}, n = {graded}:")


def _patients(found: Profile) -> str:
    one = found.table
    each = Counter(np.bincount(one.patient).tolist())
    rows = [[many(count, "photograph"), f"{each[count]:,}"] for count in sorted(each)]
    eyes = Counter(_eyes(one))
    kinds = [[kind, f"{eyes[kind]:,}"] for kind in ("both eyes", "one eye", "eye unknown") if eyes[kind]]
    single = len(one) > 1 and one.patients == len(one)
    alone = "<p>Every photograph counts as a patient of its own: intervals may be too narrow.</p>" if single else ""
    return table(["per patient", "patients"], rows + kinds) + alone + _agreement(found)


def _eyes(one: Table) -> Iterator[str]:
    sides: dict[str, set[str]] = {}
    for row in one.rows:
        sides.setdefault(row.patient, set()).add(row.eye)
    for eyes in sides.values():
        yield "both eyes" if {"left", "right"} <= eyes else "one eye" if eyes - {""} else "eye unknown"


def _agreement(found: Profile) -> str:
    if found.eyes is None:
        return "<p>No patients with graded left and right eyes: how alike two eyes are is not known.</p>"
    if np.isnan(found.eyes.estimate.value):
        return f"<p>{many(found.eyes.n, 'patient')} with two graded eyes, all of one grade: no kappa.</p>"
    return (
        f"<p>The grades of a patient's two eyes agree with a quadratic weighted kappa of {number(found.eyes)}, "
        f"n = {many(found.eyes.n, 'patient')}. Two eyes of one patient are no two independent photographs: split by "
        "patient.</p>"
    )


# Sizes, colour, sharpness


def _sizes(found: Profile) -> str:
    one = found.table
    pairs = zip(one.values("width")[one.readable], one.values("height")[one.readable], strict=True)
    frames = Counter((int(width), int(height)) for width, height in pairs)
    common = [[f"{w:,} x {h:,}", f"{n:,}", f"{100 * n / len(one):.0f} %"] for (w, h), n in frames.most_common(FRAMES)]
    rest = sum(frames.values()) - sum(n for _, n in frames.most_common(FRAMES))
    if rest:
        others = many(len(frames) - FRAMES, "other size")
        common.append([others, f"{rest:,}", f"{100 * rest / len(one):.0f} %"])
    what = f"Cut off (more than {100 * CUT:.0f} % of the circle not shown)"
    cut = f"<p>{what}: {share(found.cut)}, n = {found.cut.n:,}.</p>"
    return table(["frame, px", "photographs", "share"], common) + cut + _cards(one, SIZES)


def _cards(one: Table, names: Sequence[str]) -> str:
    values = {name: one.values(name) for name in names}
    cards = (card(BY_NAME[name], [(one.name, values[name])], reading(name, values[name])) for name in names)
    return f'<div class="cards">{"".join(cards)}</div>'


def _correlations(found: Profile) -> str:
    if not found.correlations:
        return "<p>Too few photographs with different grades.</p>"
    rows = [
        [measure.title, number(counted), f"{counted.n:,}", "no" if measure.camera else "in part"]
        for measure, counted in found.correlations
    ]
    warning = (
        "<p>What tells the grade without showing a lesion can be learnt in place of lesions, and fails elsewhere: give "
        "the network no such hint (one size, one crop), or test on a set where it does not hold.</p>"
        if telling(found)
        else f"<p>{_little(found)}</p>"
    )
    head = ["measure", "Spearman's correlation with the grade", "n", "can disease do it"]
    return warning + table(head, rows) + f"<p>{INTERVAL}</p>"


def _little(found: Profile) -> str:
    """What to say where no measure surely tells the grade: it may be so, or there are too few to know."""
    widest = max(max(-c.estimate.low, c.estimate.high) for _, c in found.correlations)
    if widest < TELLING:
        return "No measure tells much of the grade."
    return f"No measure surely tells the grade; there are too few photographs to exclude it (up to {widest:.2f})."


# Photographs


def _twins(found: Profile, gallery: Gallery) -> str:
    if not found.twins:
        return "<p>None.</p>"
    rows = {row.image: row for row in found.table.rows}
    pairs = []
    for twin in found.twins[:MOST]:
        one, other = rows[twin.first], rows[twin.second]
        wrong = "; ".join(faults(one, other).values())
        says = f"<p>{escape(twin.how)}, similarity {twin.similarity:.2f}{'; <strong>' * bool(wrong)}{escape(wrong)}"
        says += "</strong></p>" if wrong else "</p>"
        pairs.append(f'<div><div class="pair">{gallery.figure(one)}{gallery.figure(other)}</div>{says}</div>')
    more = len(found.twins) - MOST
    rest = f"<p>And {many(more, 'more pair')}.</p>" if more > 0 else ""
    return f'<p>{many(len(found.twins), "pair")}.</p><div class="cards">{"".join(pairs)}</div>{rest}'


def _refused(one: Table, gallery: Gallery, readable: bool) -> str:
    refused = refused_rows(one, readable)
    if not refused:
        return "<p>None.</p>"
    reasons = Counter(reason for _, reason in refused)
    rows = [[reason, f"{count:,}"] for reason, count in reasons.most_common(20)]
    return table(["reason", "photographs"], rows) + gallery.figures([(row, [reason]) for row, reason in refused])


def _suspects(found: Profile, gallery: Gallery) -> str:
    if not found.suspects:
        few = found.table.readable.sum() < ENOUGH
        return f"<p>{'Too few to say what is usual.' if few else 'None.'}</p>"
    rows = {row.image: row for row in found.table.rows}
    kinds = Counter(kind_of(reason) for suspect in found.suspects for reason in suspect.reasons)
    counts = table(["what", "photographs"], [[kind, f"{count:,}"] for kind, count in kinds.most_common()])
    what = f"<p>{many(len(found.suspects), 'photograph')}, the kinds in turn. Rare is not wrong: look.</p>"
    return what + counts + gallery.figures([(rows[s.image], s.reasons) for s in some_of_each_kind(found.suspects)])


def _method() -> str:
    return listed(
        [
            "Colour, light and sharpness are measured within the round field of view, at 256 px across; true detail at "
            "up to 1,024 px.",
            "True detail: where the power spectrum falls five times below the power law that retinas follow, in "
            "the clearer quarter of the field. Noise counts as detail.",
            f"Unlike the rest: more than {FAR:.0f} robust deviations from the median of a measure, or a rare frame in "
            "a set where most have the same.",
            f"Intervals: 95 %, {REPLICATES:,} bootstrap samples of patients: Wilson's score with their standard error "
            "for shares, exact binomial ones where a share is 0 or 100 %, percentiles for kappas and correlations.",
            "Correlations are within this set. They do not say why.",
        ]
    )
