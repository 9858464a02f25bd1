"""Two sets side by side: what tells them apart, what they share, and why a network of one might fail on the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2cnn.data.leaks import Twin
from m2cnn.data.manifest import Row
from m2cnn.grades import ENDPOINTS
from m2cnn.profile.findings import STRETCHED
from m2cnn.profile.measures import MEASURES
from m2cnn.profile.statistics import Contrast, Counted, contrasts, shares
from m2cnn.profile.suspicious import distances
from m2cnn.profile.table import Table
from m2cnn.profile.twins import Finder, twins_between
from m2cnn.profile.words import many, number, share

CLEAR, STRONG = 0.95, 0.8  # areas under the curve: nearly all, and most photographs are told apart
TYPICAL = 6


@dataclass(frozen=True)
class Comparison:
    """one, other: the sets.  contrasts: what tells their photographs apart, the clearest first.

    shared: pairs of the same photograph, one of each set.  patients: ids that both have; they may be strangers.
    """

    one: Table
    other: Table
    contrasts: list[Contrast]
    shared: list[Twin]
    patients: set[str]


def compare_sets(one: Table, other: Table, find: Finder) -> Comparison:
    """What the page of two sets says, without its pictures."""
    patients = {row.patient for row in one.rows} & {row.patient for row in other.rows}
    return Comparison(one, other, contrasts(one, other), twins_between(one, other, find), patients)


def differences(found: Comparison) -> list[str]:
    """What is seen to differ, a sentence each, the clearest first."""
    return [_sentence(contrast, found.other.name) for contrast in found.contrasts if contrast.matters]


def _sentence(contrast: Contrast, name: str) -> str:
    measure, size = contrast.measure, contrast.size
    often = "nearly always" if size >= CLEAR else "mostly" if size >= STRONG else "often"
    values = f"{measure.title} {measure.shown(contrast.second)} against {measure.shown(contrast.first)}"
    return f"Photographs of {name} are {often} {contrast.how}: {values}; AUC {number(contrast.auc)}."


def reasons_to_fail(found: Comparison) -> list[str]:
    """Why a network trained on `one` might fail on `other`: what differs strongly, grouped by what it does."""
    groups: dict[str, list[str]] = {}
    for contrast in found.contrasts:
        if contrast.matters and contrast.size >= STRONG and contrast.harm:
            groups.setdefault(contrast.harm, []).append(contrast.how)
    looks = [f"{found.other.name} is {', '.join(hows)}. {harm}" for harm, hows in groups.items()]
    return looks + _repairs(found) + _of_grades(found) + _of_refusals(found)


def _repairs(found: Comparison) -> list[str]:
    """What can be done about the colours, where it is one set alone whose colours were stretched."""
    medians = [(c.first, c.second) for c in found.contrasts if c.measure.name == "stretch"]
    stretched = [median > STRETCHED for median in medians[0]] if medians else []
    if len(set(stretched)) < 2:
        return []
    name = (found.one if stretched[0] else found.other).name
    return [
        f"The colours of {name} are not those of its cameras. Get its original photographs, or see whether it helps "
        'to process both sets: preprocess.colour="graham" takes out the local mean of each colour.'
    ]


def _of_grades(found: Comparison) -> list[str]:
    graded = [table.grades[table.grades >= 0] for table in (found.one, found.other)]
    if not all(len(grades) for grades in graded):
        return ["Without grades in both sets nothing can be said of their mix."]
    healthy, referable = zip(*(_mix(table) for table in (found.one, found.other)), strict=True)
    if not (_apart(*healthy) or _apart(*referable)):
        return []
    names = found.one.name, found.other.name
    return [
        f"The grades are mixed differently: {share(referable[0])} of {names[0]} and {share(referable[1])} of "
        f"{names[1]} are referable. A network expects the mix it learnt from. Who always answers grade 0 is right in "
        f"{share(healthy[0])} of {names[0]} and {share(healthy[1])} of {names[1]}: accuracies of two sets do not "
        "compare."
    ]


def _mix(table: Table) -> list[Counted]:
    """Shares of grade 0 and of referable grades among the photographs with a grade."""
    grades, known = table.grades, table.grades >= 0
    patient = np.unique(table.patient[known], return_inverse=True)[1]
    return shares([grades[known] == 0, grades[known] >= ENDPOINTS["referable"]], patient)


def _apart(one: Counted, other: Counted) -> bool:
    """Whether two shares differ by more than chance explains: their intervals do not meet."""
    return one.estimate.high < other.estimate.low or other.estimate.high < one.estimate.low


def _of_refusals(found: Comparison) -> list[str]:
    refused = [refusals(table) for table in (found.one, found.other)]
    if not _apart(*refused):
        return []
    names = found.one.name, found.other.name
    return [f"Not gradable or unreadable: {share(refused[0])} of {names[0]}, {share(refused[1])} of {names[1]}."]


def refusals(table: Table) -> Counted:
    """The share of photographs that get no grade."""
    return shares([table.reasons != ""], table.patient)[0]


def overlap(found: Comparison) -> list[str]:
    """What both sets share, in sentences."""
    sentences = []
    if found.shared:
        pairs = many(len(found.shared), "photograph stands", "pairs of photographs stand")
        sentences.append(
            f"{pairs} in both sets: a network trained on one has seen them, and is measured too well on the other."
        )
    if found.patients:
        ids = many(len(found.patients), "patient id stands", "patient ids stand")
        sentences.append(f"{ids} in both sets. If it is one numbering, they are the same persons: split them together.")
    return sentences


def typical(table: Table, count: int = TYPICAL) -> list[Row]:
    """The photographs nearest to the medians of all measures, each of another patient."""
    away = sum(np.abs(distances(measure, table.values(measure.name))) for measure in MEASURES)
    usable = np.flatnonzero(table.reasons == "")
    chosen: dict[int, Row] = {}
    for k in usable[np.argsort(away[usable], kind="stable")]:
        chosen.setdefault(int(table.patient[k]), table.rows[k])
        if len(chosen) == count:
            break
    return list(chosen.values())
