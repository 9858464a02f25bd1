"""The table of scored methods: means with 95 % intervals over patients, beside chance, and who fails the check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from m2cnn.bootstrap import Estimate, bootstrap, interval, sum_by_patient
from m2cnn.explain.maps import METHODS
from m2cnn.explain.sanity import check
from m2cnn.explain.scoring import CHANCE, CONTROLS, Score
from m2cnn.tables import table_bytes

HEAD = (
    "| set | model | target | method | maps | hits | hits - chance | mass in lesions | mass - chance | "
    "deletion - noise | insertion - noise | rank correlation | check |"
)
WORDS = """\
Hits: the highest place lies on a lesion, or within 1/24 of the picture's side. Mass: share of the map on lesions.
Chance: of a place, or a mass, spread evenly over the retina. Deletion, insertion: area under the answer (0 to 1) as the
highest places are hidden (less is better) or shown (more is better); beside that of smooth noise ("chance") on the same
photographs. Rank correlation: with the map at random weights, sign left out; the method fails from 0.5 on. In brackets,
95 % intervals over patients (over photographs where a set names no patients)."""


@dataclass(frozen=True)
class Line:
    """A method on a set. maps: how many.  costly: of them, those with curves.  checked: those with a correlation."""

    set: str
    model: str
    system: str
    member: str
    kind: str
    method: str
    maps: int
    costly: int
    checked: int
    hit: Estimate
    hit_gain: Estimate
    mass: Estimate
    mass_gain: Estimate
    deletion: Estimate
    insertion: Estimate
    deletion_gain: Estimate
    insertion_gain: Estimate
    correlation: Estimate
    warning: str


ESTIMATES = tuple(each.name for each in fields(Line) if each.type == "Estimate")


def lines(scores: Sequence[Score], replicates: int = 2000) -> list[Line]:
    """One per set, model, member, target and method, the controls last."""
    groups: dict[tuple[str, ...], list[Score]] = {}
    for score in scores:
        if not score.reason:
            groups.setdefault((score.set, score.model, score.member, score.kind, score.method), []).append(score)
    noise = {(*s.key[:4], s.kind): s for s in scores if s.method == CHANCE}
    ordered = sorted(groups.values(), key=lambda group: _order(group[0]))
    return [_line(group, [noise[(*s.key[:4], s.kind)] for s in group], replicates) for group in ordered]


def _order(score: Score) -> tuple[str | int, ...]:
    place = [*METHODS, *CONTROLS].index(score.method)
    return score.set, score.system, score.model, score.member, score.kind, place


def _line(group: Sequence[Score], noise: Sequence[Score], replicates: int) -> Line:
    def mean(value: Callable[[Score, Score], float]) -> Estimate:
        values = np.array([value(score, other) for score, other in zip(group, noise, strict=True)])
        return _mean(values, [score.patient for score in group], replicates)

    one = group[0]
    correlations = [score.correlation for score in group]
    costly = sum(not np.isnan(score.deletion) for score in group)
    return Line(
        *(one.set, one.model, one.system, one.member, one.kind, one.method, len(group), costly),
        checked=check(correlations).photographs,
        hit=mean(lambda score, _: score.hit),
        hit_gain=mean(lambda score, _: score.hit - score.hit_chance),
        mass=mean(lambda score, _: score.mass),
        mass_gain=mean(lambda score, _: score.mass - score.mass_chance),
        deletion=mean(lambda score, _: score.deletion),
        insertion=mean(lambda score, _: score.insertion),
        deletion_gain=mean(lambda score, other: score.deletion - other.deletion),
        insertion_gain=mean(lambda score, other: score.insertion - other.insertion),
        correlation=mean(lambda score, _: abs(score.correlation)),
        warning=check(correlations).warning,
    )


def _mean(values: np.ndarray, patients: Sequence[str], replicates: int) -> Estimate:
    """Of the values that are no NaN, with its interval over patients."""
    there = ~np.isnan(values)
    if not there.any():
        return Estimate(*[float("nan")] * 3)
    names, number = np.unique(np.asarray(patients)[there], return_inverse=True)
    sums = sum_by_patient(np.column_stack([values[there], np.ones(there.sum())]), number, len(names))

    def statistic(counts: np.ndarray) -> np.ndarray:
        total = counts @ sums
        return total[:, :1] / total[:, 1:]

    return Estimate(float(values[there].mean()), *interval(bootstrap(statistic, len(names), replicates)[:, 0]))


def to_markdown(rows: Sequence[Line], refused: Sequence[Score] = ()) -> str:
    """The table, what its columns mean, every warning, and what was left out."""
    text = [HEAD, "|" + " --- |" * (HEAD.count("|") - 1), *map(_row, rows), "", WORDS.replace("\n", " ")]
    text += [f"- {_name(row)} on {row.set}, {row.kind}, {row.method}: {row.warning}." for row in rows if row.warning]
    left = sorted({f"- {each.photograph}, {each.kind}: left out ({each.reason})." for each in refused})
    return "\n".join([*text, *left]) + "\n"


def _name(row: Line) -> str:
    return " ".join(filter(None, (row.system, row.member, row.model)))


def _row(row: Line) -> str:
    verdict = "not checked" if not row.checked else "**fails**" if row.warning else "passes"
    estimates = (row.hit, row.hit_gain, row.mass, row.mass_gain, row.deletion_gain, row.insertion_gain, row.correlation)
    signs = ("", "+", "", "+", "+", "+", "")
    shown = [_shown(each, sign) for each, sign in zip(estimates, signs, strict=True)]
    return f"| {' | '.join([row.set, _name(row), row.kind, row.method, _maps(row), *shown, verdict])} |"


def _maps(row: Line) -> str:
    return str(row.maps) if row.costly == row.maps else f"{row.maps} ({row.costly})"


def _shown(each: Estimate, sign: str) -> str:
    """
    >>> _shown(Estimate(0.25, 0.125, 0.5), "+")
    '+0.250 (+0.125 to +0.500)'
    """
    if np.isnan(each.value):
        return "-"
    value, low, high = (f"{number:{sign}.3f}" for number in (each.value, each.low, each.high))
    return value if np.isnan(each.low) else f"{value} ({low} to {high})"


def to_csv(rows: Sequence[Line]) -> bytes:
    """Every number of the table; an estimate is three columns."""
    plain = [each.name for each in fields(Line) if each.name not in ESTIMATES]
    columns = [*plain, *(f"{name}{end}" for name in ESTIMATES for end in ("", "_low", "_high"))]
    return table_bytes(columns, [[*(getattr(row, n) for n in plain), *_numbers(row)] for row in rows])


def _numbers(row: Line) -> list[float]:
    estimates = [getattr(row, name) for name in ESTIMATES]
    return [number for each in estimates for number in (each.value, each.low, each.high)]
