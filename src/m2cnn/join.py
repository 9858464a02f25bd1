"""Joining trained members: what they say of photographs is kept, a combiner fitted on it, one bundle written.

What the members say comes from their bundles as anybody runs them, by ONNX Runtime, so that the combiner is fitted on
what it will be given. It is kept by a few photographs at a time: an interrupted call goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from m2cnn.bundle import Bundle
from m2cnn.combine import INPUT, OUTPUT, Combiner
from m2cnn.combine_fit import Fitted, fit
from m2cnn.cuts import fit_cuts
from m2cnn.data.cache import Cached, cache_pictures, taught
from m2cnn.data.manifest import Manifest, Row
from m2cnn.errors import DataError
from m2cnn.export import Origin, save_combined
from m2cnn.eyes import Eyes
from m2cnn.grader import eyes_of
from m2cnn.onnx_session import open_session
from m2cnn.parallel import in_chunks
from m2cnn.photograph import PhotographFile
from m2cnn.photograph_features import photograph_features
from m2cnn.reader import Reader
from m2cnn.tables import write_atomically

KEPT = 256  # photographs in one file of what a member says


def join(
    members: dict[str, Bundle],
    combiner: Combiner,
    manifest: Manifest,
    folder: Path,
    origin: Origin,
    *,
    features: Path,
    cache: str | Path,
    seed: int,
    workers: int = 1,
) -> Bundle:
    """Fit the combiner on the graded photographs of its splits and write the bundle of all.

    Cuts that are fitted are fitted on validation patients.

    features: a folder for what the members say.  cache: where prepared pictures are kept.
    Raises DataError where no photograph of those splits can be read, and what `combine_fit.fit` raises.
    """
    said = _Said(members, combiner, manifest, features, cache, workers)
    eyes, rows = said.of(combiner.splits or ("val",))
    late = combiner.fit_cuts and combiner.splits != ("val",)  # what is fitted on training patients does not cut there
    fitted = _fit(replace(combiner, fit_cuts=False) if late else combiner, eyes, rows, seed)
    fitted = _cut_on_validation(fitted, said) if late else fitted
    origin = replace(origin, training=origin.training | {"combiner": fitted.facts})
    return save_combined(folder, members, fitted.combiner, fitted.onnx, origin)


def _fit(combiner: Combiner, eyes: Eyes, rows: Sequence[Row], seed: int) -> Fitted:
    grades, patients = np.array([row.grade for row in rows]), np.array([row.patient for row in rows])
    return fit(combiner, eyes, grades, patients, seed)


def _cut_on_validation(fitted: Fitted, said: _Said) -> Fitted:
    eyes, rows = said.of(("val",))
    combiner = fitted.combiner
    outputs = open_session(fitted.onnx).run([OUTPUT], {INPUT: combiner.rows(eyes)})[0]
    cuts = fit_cuts(combiner.task.read(outputs).severity, [row.grade for row in rows], combiner.cuts)
    combiner = replace(combiner, cuts=tuple(float(cut) for cut in cuts), fit_cuts=True)
    return replace(fitted, combiner=combiner, facts=fitted.facts | {"cuts_fitted_on": len(rows)})


@dataclass(frozen=True)
class _Said:
    """What the members say of the photographs of a split, kept in `features`."""

    members: dict[str, Bundle]
    combiner: Combiner
    manifest: Manifest
    features: Path
    cache: str | Path
    workers: int

    def of(self, splits: Sequence[str]) -> tuple[Eyes, list[Row]]:
        """The graded photographs that can be read. Raises DataError where there is none."""
        stores = [self._pictures(each) for each in self.members.values()]
        rows = [row for row in self.manifest.select(*splits) if row.teaches]
        rows = [row for row in rows if all(row.image in store.index for store in stores)]
        if not rows:
            expected = f"graded photographs in split {', '.join(splits)}"
            raise DataError(f"combiner {self.combiner.name}", "no photograph to be fitted on", expected)
        named = zip(self.members.items(), stores, strict=True)
        answers = [_said(name, bundle, rows, store, self.features) for (name, bundle), store in named]
        numbers = None
        if self.combiner.uses_photograph:
            numbers = _numbers(self.combiner, rows, self.manifest, self.features, self.workers)
        who, which = [row.patient for row in rows], [row.eye for row in rows]
        return eyes_of(tuple(self.members.values()), answers, numbers, who, which), rows

    def _pictures(self, bundle: Bundle) -> Cached:
        # All that training prepared, although a part is asked for: another selection is another store.
        return cache_pictures(taught(self.manifest), bundle.preprocess, [bundle.prepared], self.cache, self.workers)


def _said(
    name: str, bundle: Bundle, rows: Sequence[Row], store: Cached, features: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (N, K) and features (N, 2 D) of a member."""
    reader: Reader | None = None
    parts = []
    for start in tqdm(range(0, len(rows), KEPT), f"features of {name}", disable=None, leave=False):
        some = rows[start : start + KEPT]
        path = features / f"{name}-{bundle.hash}-{_named(some)}.npz"
        if not path.is_file():
            reader = reader or bundle.readers()[0]
            places = [store.index[row.image] for row in some]
            _keep(path, *reader.read_some(store.pictures(bundle.prepared), places))
        with np.load(path, allow_pickle=False) as kept:
            parts.append((kept["outputs"], kept["features"]))
    outputs, vectors = zip(*parts, strict=True)
    return np.concatenate(outputs), np.concatenate(vectors)


def _named(rows: Sequence[Row]) -> str:
    return hashlib.sha256("\n".join(row.image for row in rows).encode()).hexdigest()[:12]


def _keep(path: Path, outputs: np.ndarray, features: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez(content, outputs=outputs, features=features)
    write_atomically(path, content.getvalue())


def _numbers(combiner: Combiner, rows: Sequence[Row], manifest: Manifest, features: Path, workers: int) -> np.ndarray:
    """(N, 7) of the photographs themselves."""
    path = features / f"photograph-{combiner.radius}-{_named(rows)}.npy"
    if not path.is_file():
        work = partial(numbers_of, combiner.radius)
        files = [manifest.path(row) for row in rows]
        said = [each for chunk in in_chunks(work, files, workers, 16, "looking at photographs") for each in chunk]
        content = io.BytesIO()
        np.save(content, np.stack(said))
        write_atomically(path, content.getvalue())
    return np.load(path, allow_pickle=False)


def numbers_of(radius: int, files: Sequence[Path]) -> list[np.ndarray]:
    """The seven numbers of each photograph."""
    return [photograph_features(PhotographFile(file), radius) for file in files]
