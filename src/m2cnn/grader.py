"""Photograph -> Grading: read, preprocess, network, decode; the same for shell, Python and ONNX, and without torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from m2cnn.bundle import Bundle, Predict, load_bundle
from m2cnn.errors import DataError, ImageError
from m2cnn.grades import ENDPOINTS, Grading, ungradable
from m2cnn.preprocess import find_field, read_image
from m2cnn.quality import check_fundus
from m2cnn.tasks import Decoded

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"}
Source = str | Path | bytes


class Grader:
    """Grades photographs with one bundle.

    >>> Grader.load("runs/m2cnn").grade("left_eye.jpg").severity  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, predict: Predict):
        self.bundle, self.predict = bundle, predict

    @classmethod
    def load(cls, folder: str | Path, backend: str = "onnx") -> Grader:
        """From a bundle or a run folder; backend "onnx" (base install) or "torch".

        Raises BundleError for a missing or damaged bundle.
        """
        bundle = load_bundle(folder)
        return cls(bundle, bundle.predictor(backend))

    def grade(self, source: Source) -> Grading:
        """Grade one photograph: a path, or a file's bytes. What cannot be graded says why, and gets no grade."""
        return next(self.grade_all([source]))

    def grade_all(self, sources: Iterable[Source], batch: int = 8, workers: int = 2) -> Iterator[Grading]:
        """One Grading per source, in order, in flat memory; files are read ahead by `workers` threads."""
        waiting: list[tuple[str, np.ndarray | str]] = []
        with ThreadPoolExecutor(workers) as pool:
            for item in _read_ahead(pool, self._prepare, sources, 2 * batch):
                waiting.append(item)
                if len(waiting) == batch:
                    yield from self._decide(waiting)
                    waiting = []
            yield from self._decide(waiting)

    def _prepare(self, source: Source) -> tuple[str, np.ndarray | str]:
        """(name, picture), or (name, reason) for what must not be graded."""
        name = "bytes" if isinstance(source, bytes) else str(source)
        try:
            photograph = read_image(source)
            field = find_field(photograph)
            reason = check_fundus(photograph, field)
            return name, reason or self.bundle.preprocess(photograph, self.bundle.size, field)
        except ImageError as error:
            return name, str(error)

    def _decide(self, items: list[tuple[str, np.ndarray | str]]) -> Iterator[Grading]:
        pictures = [what for _, what in items if not isinstance(what, str)]
        decoded = self.bundle.task.read(self.predict(np.stack(pictures))) if pictures else None
        taken = 0
        for name, what in items:
            if isinstance(what, str):
                yield ungradable(name, what, self.bundle.system, self.bundle.hash)
            else:
                yield self._grading(name, decoded, taken)
                taken += 1

    def _grading(self, name: str, decoded: Decoded, row: int) -> Grading:
        severity = float(decoded.severity[row])
        if not np.isfinite(severity):
            # A network that overflows must not hand out a grade.
            return ungradable(name, "the network gave no finite number", self.bundle.system, self.bundle.hash)
        grade = int(decoded.grade[row])
        probabilities = None if decoded.probabilities is None else tuple(float(p) for p in decoded.probabilities[row])
        referable = grade >= ENDPOINTS["referable"]
        return Grading(name, grade, probabilities, severity, referable, True, "", self.bundle.system, self.bundle.hash)


def _read_ahead(pool: ThreadPoolExecutor, prepare, sources: Iterable[Source], depth: int) -> Iterator:
    queue: deque[Future] = deque()
    for source in sources:
        queue.append(pool.submit(prepare, source))
        if len(queue) > depth:
            yield queue.popleft().result()
    while queue:
        yield queue.popleft().result()


def find_photographs(paths: Iterable[str | Path]) -> list[Path]:
    """Files as named, folders searched through, sorted. A named file is taken whatever its ending.

    Raises DataError for a path that does not exist or a folder without photographs.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise DataError(path, "no photograph in this folder", f"files ending in {', '.join(sorted(SUFFIXES))}")
            found += inside
        else:
            # A missing file becomes a row with its reason: a list of names must not lose the others.
            found.append(path)
    return found
