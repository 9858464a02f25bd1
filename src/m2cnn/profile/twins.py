"""Photographs that stand twice in a set, or in two sets, and what is wrong with each pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from m2cnn.data.leaks import Twin, contradict, on_two_sides
from m2cnn.data.manifest import Row
from m2cnn.data.survey import planes_of
from m2cnn.profile.table import Table

# Planes (N, 2, 64, 64) uint8 -> pairs (a, b, how they are the same, similarity), a < b.
Finder = Callable[[np.ndarray], list[tuple[int, int, str, float]]]


def twins_within(table: Table, find: Finder) -> list[Twin]:
    """The pairs of a set, those with something wrong first, then the most similar."""
    images, planes = planes_of({row.image: table.seen[row.image] for row in table.rows})
    rows = {row.image: row for row in table.rows}
    found = [Twin(images[a], images[b], how, alike) for a, b, how, alike in find(planes)]
    return sorted(found, key=lambda t: (-len(faults(rows[t.first], rows[t.second])), -t.similarity, t.first))


def twins_between(one: Table, other: Table, find: Finder) -> list[Twin]:
    """Pairs with the first photograph in `one` and the second in `other`, the most similar first."""
    sides = [planes_of({row.image: table.seen[row.image] for row in table.rows}) for table in (one, other)]
    (firsts, a_planes), (seconds, b_planes) = sides
    found = find(np.concatenate([a_planes, b_planes]))
    count = len(firsts)
    across = [Twin(firsts[a], seconds[b - count], how, alike) for a, b, how, alike in found if a < count <= b]
    return sorted(across, key=lambda twin: (-twin.similarity, twin.first))


def faults(one: Row, other: Row) -> list[str]:
    """What cannot be right when these two are the same photograph, in words."""
    found = []
    if contradict(one, other):
        found.append(f"contradictory grades {one.grade} and {other.grade}")
    if on_two_sides(one, other):
        found.append(f"on two sides: {one.split} and {other.split}")
    if one.patient != other.patient:
        found.append("under two patients")
    if one.patient == other.patient and one.eye and other.eye and one.eye != other.eye:
        found.append("called a left and a right eye")
    return found
