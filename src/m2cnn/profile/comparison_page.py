"""The page of two sets side by side."""

from __future__ import annotations

from html import escape

import numpy as np

from m2cnn.data.leaks import contradict
from m2cnn.grades import GRADES, NUM_GRADES
from m2cnn.profile.comparison import Comparison, differences, overlap, reasons_to_fail, refusals, typical
from m2cnn.profile.gallery import MOST, Gallery
from m2cnn.profile.page import notes
from m2cnn.profile.statistics import FEW, REPLICATES, shares
from m2cnn.profile.table import Table
from m2cnn.profile.words import INTERVAL, card, listed, many, number, share
from m2cnn.report import grade_bar, page, table

HEURISTIC = (
    "Guesses, from what was measured above and from how networks have failed elsewhere; no network was asked. They "
    "become knowledge when a model of the one set is measured on the other (m2cnn evaluate)."
)


def comparison_page(found: Comparison, pictures: bool = True) -> str:
    """The whole page, one HTML file. pictures: thumbnails and names; without, row numbers alone."""
    one, other = found.one, found.other
    galleries = Gallery(one, pictures), Gallery(other, pictures)
    seen, why = differences(found), reasons_to_fail(found)
    sections = [
        ("What differs", listed(seen) if seen else f"<p>{_nothing(found, 'differs much')}</p>"),
        (f"Why might a model of {one.name} fail on {other.name}?", _reasons(found, why)),
        ("Typical photographs", "".join(_typical(gallery) for gallery in galleries)),
        ("Grades", _grades(one, other)),
        ("Every measure", _measures(found)),
        ("Side by side", f'<div class="cards">{"".join(_cards(found))}</div>'),
        ("In both sets", _shared(found, galleries)),
        ("How this was measured", _method()),
    ]
    return page(f"{one.name} against {other.name}", _lead(found), sections, notes(pictures))


def _lead(found: Comparison) -> str:
    sets = (
        f"{one.name}: {many(len(one), 'photograph')} of {many(one.patients, 'patient')}, {share(refusals(one))} not "
        f"gradable or unreadable."
        + (f" {many(one.locked, 'photograph')} of the lockbox: not looked at." if one.locked else "")
        for one in (found.one, found.other)
    )
    return " ".join(sets)


def _nothing(found: Comparison, what: str) -> str:
    """What to say where no sentence was found: to see nothing is not to have looked."""
    if found.contrasts:
        return f"Nothing that was measured {what}."
    return f"Too few photographs to compare: {FEW} or more in each set would tell something."


def _reasons(found: Comparison, why: list[str]) -> str:
    guesses = listed(why) if why else f"<p>{_nothing(found, 'speaks for it')}</p>"
    return f"{guesses}<p>{HEURISTIC}</p>"


def _typical(gallery: Gallery) -> str:
    figures = "".join(gallery.figure(row) for row in typical(gallery.table))
    return f'<h3>{escape(gallery.table.name)}</h3><div class="grid thumbs">{figures}</div>'


def _grades(one: Table, other: Table) -> str:
    names = [*(f"{grade.number} {grade.name}" for grade in GRADES), "no grade"]
    columns = [_mix(one), _mix(other)]
    body = [[name, *columns[0][k], *columns[1][k]] for k, name in enumerate(names)]
    head = ["grade", one.name, "share", other.name, "share"]
    return table(head, body) + f"<p>{INTERVAL}</p>" + _bar(one) + _bar(other)


def _mix(one: Table) -> list[tuple[str, str]]:
    flags = [one.grades == grade for grade in (*range(NUM_GRADES), -1)]
    counted = shares(flags, one.patient)
    return [(f"{int(flag.sum()):,}", share(part)) for flag, part in zip(flags, counted, strict=True)]


def _bar(one: Table) -> str:
    graded = one.grades[one.grades >= 0]
    if not len(graded):
        return ""
    mix = np.bincount(graded, minlength=NUM_GRADES) / len(graded)
    return f"<p>{escape(one.name)}{grade_bar(mix.tolist(), f'grades of {one.name}, n = {len(graded)}:')}</p>"


def _measures(found: Comparison) -> str:
    body = [
        [c.measure.title, c.measure.shown(c.first), c.measure.shown(c.second), number(c.auc), f"{c.auc.n:,}"]
        for c in found.contrasts
    ]
    if not body:
        return "<p>Too few photographs.</p>"
    what = (
        f"<p>AUC: how well this measure alone tells a photograph of {escape(found.other.name)} from one of "
        f"{escape(found.one.name)}. 0.5: not at all; 1: always, by a higher value; 0: always, by a lower one. "
        f"{INTERVAL}</p>"
    )
    return what + table(["measure", f"median, {found.one.name}", f"median, {found.other.name}", "AUC", "n"], body)


def _cards(found: Comparison) -> list[str]:
    pairs = (found.one, found.other)
    return [
        card(c.measure, [(one.name, one.values(c.measure.name)) for one in pairs], [f"AUC {number(c.auc)}"])
        for c in found.contrasts
    ]


def _shared(found: Comparison, galleries: tuple[Gallery, Gallery]) -> str:
    said = overlap(found)
    if not said:
        return "<p>No photograph, and no patient id.</p>"
    rows = [{row.image: row for row in gallery.table.rows} for gallery in galleries]
    pairs = []
    for twin in found.shared[:MOST]:
        one, other = rows[0][twin.first], rows[1][twin.second]
        differ = contradict(one, other)
        says = f"{twin.how}, similarity {twin.similarity:.2f}" + ("; contradictory grades" if differ else "")
        figures = galleries[0].figure(one) + galleries[1].figure(other)
        pairs.append(f'<div><div class="pair">{figures}</div><p>{escape(says)}</p></div>')
    more = len(found.shared) - MOST
    rest = f"<p>And {many(more, 'more pair')}.</p>" if more > 0 else ""
    return f'{listed(said)}<div class="cards">{"".join(pairs)}</div>{rest}'


def _method() -> str:
    return listed(
        [
            "Measures as on the page of one set (m2cnn data profile SET).",
            f"Intervals: 95 %, Wilson's score with the standard error of bootstrap samples of patients "
            f"({REPLICATES // 2} for AUCs, {REPLICATES:,} for shares), exact where a share is 0 or 100 %.",
            "Typical photographs: those nearest to the medians of all measures, each of another patient.",
        ]
    )
