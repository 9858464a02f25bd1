"""Photograph -> Grading: read, preprocess, network, decode; the same for shell, Python and ONNX, and without torch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from m2cnn.bundle import Bundle, Predict, load_bundle
from m2cnn.errors import DataError, ImageError
from m2cnn.grades import ENDPOINTS, Grading, ungradable
from m2cnn.photograph import PhotographFile
from m2cnn.quality import check_file
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
            file = PhotographFile(source)
            return name, check_file(file) or self.bundle.preprocess.read(file, self.bundle.size)
        except ImageError as error:
            return name, str(error)

    def _decide(self, items: list[tuple[str, np.ndarray | str]]) -> Iterator[Grading]:
        pictures = [what for _, what in items if not isinstance(what, str)]
        outputs = iter(self.predict(np.stack(pictures)) if pictures else ())
        for name, what in items:
            reason = what if isinstance(what, str) else ""
            output = None if reason else next(outputs)
            if output is not None and not np.isfinite(output).all():
                # A network that overflows must not hand out a grade.
                reason = "the network gave no finite number"
            if reason:
                yield ungradable(name, reason, self.bundle.system, self.bundle.hash)
            else:
                yield self._grading(name, self.bundle.task.read(output[None]))

    def _grading(self, name: str, decoded: Decoded) -> Grading:
        severity, grade = float(decoded.severity[0]), int(decoded.grade[0])
        probabilities = None if decoded.probabilities is None else tuple(float(p) for p in decoded.probabilities[0])
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
    """Files as named, folders searched through (links to folders are not followed), sorted.

    Nothing that was named is lost: a missing file, a folder that cannot be read or has no photograph stays in the list,
    and gets its reason when it is graded. Raises DataError for an empty path.
    """
    found: list[Path] = []
    for path in paths:
        if not str(path):
            raise DataError("paths", "an empty path", "a file or a folder", "Is a variable of your shell unset?")
        found += _below(Path(path)) if Path(path).is_dir() else [Path(path)]
    return found


def _below(folder: Path) -> list[Path]:
    unreadable: list[Path] = []
    walk = os.walk(folder, onerror=lambda error: unreadable.append(Path(error.filename)))
    inside = [Path(parent) / name for parent, _, names in walk for name in names]
    return sorted([p for p in inside if p.suffix.lower() in SUFFIXES] + unreadable) or [folder]
