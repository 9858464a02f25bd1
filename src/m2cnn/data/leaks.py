"""Photographs that stand twice in a set: byte for byte, or under another name, size, compression, crop or colour.

A photograph on both sides of a split, or under two patients' names, makes every number measured on it worthless. The
pairs are found by fingerprints (m2cnn.fingerprint): for each photograph its few nearest by code, then each pair one
moved onto the other. Two views of one eye can be alike enough to be a pair: that is a leak too.
Photographs that cannot be read, or show no round field, have no fingerprint: they are told apart by their bytes alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from m2cnn.data.manifest import Manifest, Row
from m2cnn.data.survey import Seen, planes_of
from m2cnn.errors import DataError
from m2cnn.fingerprint import SAME, SAME_BOX, codes, embedded, similarity
from m2cnn.parallel import in_chunks

BYTES, AGAIN, CROPPED = "same bytes", "same photograph", "cropped"
NEAR = 0.4  # product of codes; 154 reprocessed copies have 0.64 or more, those without a rim less
BLOCK = 1024  # photographs whose codes are compared with all others in one product
CHUNK = 256
FEW = 8  # files of the same bytes: every two of them are a pair
PLANES, CODES = "planes.npy", "codes.npy"
FIELD, BOX = 0, 1  # the planes of a photograph


class View(NamedTuple):
    """One way in which a copy may show its original: plane `of` the copy, changed, is like plane `base` of it.

    nearest: how many candidates of each photograph are looked at closely.  limit: the similarity of the same.
    """

    how: str
    base: int
    of: int
    nearest: int
    limit: float
    change: Callable[[np.ndarray], np.ndarray] = np.asarray


VIEWS = (
    View(AGAIN, FIELD, FIELD, 8, SAME),
    View(AGAIN, BOX, BOX, 8, SAME_BOX),
    View("mirrored", FIELD, FIELD, 2, SAME, np.fliplr),
    View("upside down", FIELD, FIELD, 2, SAME, np.flipud),
    View("turned by 180 degrees", FIELD, FIELD, 2, SAME, partial(np.rot90, k=2)),
    View("turned by 90 degrees", FIELD, FIELD, 2, SAME, partial(np.rot90, k=1)),
    View("turned by 90 degrees", FIELD, FIELD, 2, SAME, partial(np.rot90, k=3)),
    *(View(CROPPED, FIELD, BOX, 3, SAME, partial(embedded, share=share)) for share in (0.5, 0.6, 0.7, 0.8)),
)


class Twin(NamedTuple):
    """Two images that are the same photograph. how: BYTES, or the `how` of a view.  similarity: up to 1."""

    first: str
    second: str
    how: str
    similarity: float

    def reversed(self) -> Twin:
        return self._replace(first=self.second, second=self.first)


def find_twins(manifest: Manifest, seen: dict[str, Seen], workers: int = 2) -> list[Twin]:
    """The pairs of a manifest, in its order. seen: of `survey(manifest, look_at_planes, ...)`.

    Files of the same bytes count as one photograph, whatever it is paired with. Of a thousand such files not all half a
    million pairs are listed, but every file, and every two splits and grades among them.
    """
    copies = _copies(manifest, seen)
    images, planes = planes_of({image: seen[image] for image in copies})
    twins = [twin for rows in copies.values() for twin in _of_same_bytes(rows)]
    for a, b, how, alike in twin_planes(planes, workers):
        sides = (_one_of_each(copies[images[number]]) for number in (a, b))
        twins += [Twin(one.image, other.image, how, alike) for one, other in product(*sides)]
    place = {row.image: number for number, row in enumerate(manifest)}
    twins = [twin if place[twin.first] < place[twin.second] else twin.reversed() for twin in twins]
    return sorted(twins, key=lambda twin: (place[twin.first], place[twin.second]))


def _copies(manifest: Manifest, seen: dict[str, Seen]) -> dict[str, list[Row]]:
    """The first image of the same bytes -> all rows with them; a file that could not be opened is alone."""
    groups = defaultdict(list)
    for row in manifest:
        groups[seen[row.image].sha256 or row.image].append(row)
    return {rows[0].image: rows for rows in groups.values()}


def _one_of_each(rows: Sequence[Row]) -> list[Row]:
    """The rows if they are few, else the first of each split and grade."""
    if len(rows) <= FEW:
        return list(rows)
    return list({(row.split, row.grade): row for row in reversed(rows)}.values())[::-1]


def _of_same_bytes(rows: Sequence[Row]) -> list[Twin]:
    shown = _one_of_each(rows)
    pairs = [*combinations(shown, 2), *((rows[0], row) for row in rows if row not in shown)]
    return [Twin(one.image, other.image, BYTES, 1.0) for one, other in pairs]


def twin_planes(planes: np.ndarray, workers: int = 2) -> list[tuple[int, int, str, float]]:
    """Pairs (a, b, how, similarity), a < b, of planes (N, 2, 64, 64) that are the same photograph."""
    pairs = _candidates(planes, workers)
    spread = planes.std(axis=(2, 3))
    tasks = [_oriented(planes, spread, *pair) for pair in pairs]
    chunks = in_chunks(similarities, tasks, workers, CHUNK, "comparing pairs of photographs")
    alike = [value for chunk in chunks for value in chunk]
    best: dict[tuple[int, int], tuple[float, str]] = {}
    for (number, base, copy), value in zip(pairs, alike, strict=True):
        if value >= VIEWS[number].limit:
            pair = min(base, copy), max(base, copy)
            best[pair] = max(best.get(pair, (0.0, "")), (value, VIEWS[number].how))
    return [(a, b, how, value) for (a, b), (value, how) in sorted(best.items())]


def similarities(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """`similarity` of each pair of planes, the second one a copy that may show less."""
    return [similarity(copy, base) for base, copy in pairs]


def _oriented(
    planes: np.ndarray, spread: np.ndarray, number: int, base: int, copy: int
) -> tuple[np.ndarray, np.ndarray]:
    """The planes of a candidate as `similarities` takes them.

    Of two whole views the one with less contrast is moved onto the other, wherever they stand in the manifest.
    """
    view = VIEWS[number]
    pair = planes[base, view.base], view.change(planes[copy, view.of])
    turned = view.how == AGAIN and spread[base, view.base] > spread[copy, view.of]
    return pair[::-1] if turned else pair


def _candidates(planes: np.ndarray, workers: int) -> list[tuple[int, int, int]]:
    """(number of a view, original, copy), sorted: for each copy the few originals that are near it by code."""
    tasks = [(start, number) for start in range(0, len(planes), BLOCK) for number in range(len(VIEWS))]
    with TemporaryDirectory() as folder:  # what all processes read is in files that they map
        np.save(Path(folder) / PLANES, planes)
        np.save(Path(folder) / CODES, np.stack([codes(planes[:, kind]) for kind in (FIELD, BOX)]))
        chunks = in_chunks(partial(near_blocks, folder), tasks, workers, len(VIEWS), "comparing photographs")
        return sorted({pair for chunk in chunks for block in chunk for pair in block})


def near_blocks(folder: str, tasks: list[tuple[int, int]]) -> list[list[tuple[int, int, int]]]:
    """The candidates of some blocks, each given by its first photograph and the number of a view."""
    planes, base = (np.load(Path(folder) / name, mmap_mode="r") for name in (PLANES, CODES))
    return [_near(planes[start : start + BLOCK], base, start, number) for start, number in tasks]


def _near(block: np.ndarray, base: np.ndarray, start: int, number: int) -> list[tuple[int, int, int]]:
    view = VIEWS[number]
    products = codes(np.array([view.change(plane) for plane in block[:, view.of]])) @ base[view.base].T
    products[np.arange(len(block)), start + np.arange(len(block))] = -np.inf  # never itself
    rows, columns = np.nonzero(products >= NEAR)
    order = np.lexsort((-products[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    nearest = np.arange(len(rows)) - np.searchsorted(rows, rows) < view.nearest
    pairs = zip(columns[nearest].tolist(), (start + rows[nearest]).tolist(), strict=True)
    return [(number, *((min(pair), max(pair)) if view.how == AGAIN else pair)) for pair in pairs]


# What they mean


def across_patients(manifest: Manifest, twins: Sequence[Twin]) -> list[Twin]:
    """The pairs whose photographs stand under two patients' names."""
    rows = rows_by_image(manifest)
    return [twin for twin in twins if rows[twin.first].patient != rows[twin.second].patient]


def across_splits(manifest: Manifest, twins: Sequence[Twin]) -> list[Twin]:
    """The pairs that make a split worthless: one photograph here, one there."""
    rows = rows_by_image(manifest)
    return [twin for twin in twins if on_two_sides(rows[twin.first], rows[twin.second])]


def contradicting(manifest: Manifest, twins: Sequence[Twin]) -> list[Twin]:
    """The pairs to which graders gave two different grades."""
    rows = rows_by_image(manifest)
    return [twin for twin in twins if contradict(rows[twin.first], rows[twin.second])]


def on_two_sides(one: Row, other: Row) -> bool:
    return bool(one.split and other.split and one.split != other.split)


def contradict(one: Row, other: Row) -> bool:
    return None not in (one.grade, other.grade) and one.grade != other.grade


def refuse_across_splits(manifest: Manifest, twins: Sequence[Twin], where: str) -> None:
    """DataError that names the pairs on two sides; `where` says where all of them can be seen."""
    pairs = across_splits(manifest, twins)
    if pairs:
        rows = rows_by_image(manifest)
        shown = "; ".join(f"{_in_split(rows[t.first])} and {_in_split(rows[t.second])} ({t.how})" for t in pairs[:5])
        got = f"{len(pairs)} pairs of the same photograph, or eye, on two sides: {shown}{'; ...' * (len(pairs) > 5)}"
        repair = f"Look at them in {where}; `m2cnn data check --without-leaks FILE` leaves them out of training."
        raise DataError("manifest", got, "each photograph on one side", repair)


def _in_split(row: Row) -> str:
    return f"{row.image} in {row.split}"


def rows_by_image(manifest: Manifest) -> dict[str, Row]:
    return {row.image: row for row in manifest}
