"""Photographs that stand twice in a set, or in two sets, and what is wrong with each pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from m2cnn.data.leaks import Twin, contradict, on_two_sides
from m2cnn.data.manifest import Manifest, Row
from m2cnn.data.survey import Seen
from m2cnn.profile.table import Table

FAULTS = {  # and what is said of the pairs of a set that have them
    "grades": "with contradictory grades",
    "sides": "on two sides of the split, which makes its numbers worthless",
    "patients": "under two patients",
    "eyes": "called a left and a right eye",
}
Finder = Callable[[Manifest, dict[str, Seen]], list[Twin]]  # find_twins, with its number of workers


def twins_within(table: Table, find: Finder) -> list[Twin]:
    """The pairs of a set, those with something wrong first, then the most similar."""
    rows = {row.image: row for row in table.rows}
    return sorted(
        find(table.manifest, table.seen),
        key=lambda t: (-len(faults(rows[t.first], rows[t.second])), -t.similarity, t.first),
    )


def twins_between(one: Table, other: Table, find: Finder) -> list[Twin]:
    """Pairs with the first photograph in `one` and the second in `other`, the most similar first."""
    sides = {"1/": one, "2/": other}  # the same name may stand in both
    rows = [replace(row, image=side + row.image) for side, table in sides.items() for row in table.rows]
    seen = {side + row.image: table.seen[row.image] for side, table in sides.items() for row in table.rows}
    found = find(Manifest(tuple(rows), one.manifest.root), seen)
    across = [
        Twin(twin.first[2:], twin.second[2:], twin.how, twin.similarity)
        for twin in found
        if twin.first[:2] != twin.second[:2]
    ]
    return sorted(across, key=lambda twin: (-twin.similarity, twin.first))


def faults(one: Row, other: Row) -> dict[str, str]:
    """What cannot be right when these two are the same photograph: a key of FAULTS -> in words."""
    found = {}
    if contradict(one, other):
        found["grades"] = f"contradictory grades {one.grade} and {other.grade}"
    if on_two_sides(one, other):
        found["sides"] = f"on two sides: {one.split} and {other.split}"
    if one.patient != other.patient:
        found["patients"] = "under two patients"
    if one.patient == other.patient and one.eye and other.eye and one.eye != other.eye:
        found["eyes"] = "called a left and a right eye"
    return found
