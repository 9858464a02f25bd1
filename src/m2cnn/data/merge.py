"""Several sets as one: their manifests under the folder that holds them all."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from m2cnn.data.manifest import Manifest, Row
from m2cnn.errors import DataError


def merge(manifests: Sequence[Manifest]) -> Manifest:
    """One manifest of all photographs; their paths start from the nearest folder that holds all sets.

    The same id in sets of one source is one patient (EyePACS at two sizes); in sets of different sources it is two, who
    then are named SOURCE-ID. Splits stay; whoever stands on two sides is refused by what uses the manifest.
    Raises DataError for no set, and for a photograph that stands twice.
    """
    if not manifests:
        raise DataError("merge", "no set", "two or more")
    root = Path(os.path.commonpath([each.root.resolve() for each in manifests]))
    sources: dict[str, set[str]] = defaultdict(set)
    for each in manifests:
        for row in each:
            sources[row.patient].add(row.source)
    rows = [_moved(row, each.root.resolve().relative_to(root), sources) for each in manifests for row in each]
    seen: set[str] = set()
    for row in rows:
        if row.image in seen:
            raise DataError(f"photograph {row.image!r}", "it stands in two of the sets", "once", "Name each set once.")
        seen.add(row.image)
    return Manifest(tuple(rows), root)


def _moved(row: Row, folder: Path, sources: dict[str, set[str]]) -> Row:
    shared = len(sources[row.patient]) > 1
    patient = f"{row.source or 'unnamed'}-{row.patient}" if shared else row.patient
    return replace(row, image=(folder / row.image).as_posix(), patient=patient)
