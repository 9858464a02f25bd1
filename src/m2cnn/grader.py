"""Photograph -> Grading: read, preprocess, network, decode; the same for shell, Python and ONNX, and without torch."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from m2cnn.bundle import Bundle, load_bundle
from m2cnn.data.identity import package_identity
from m2cnn.data.pairing import patient_and_eye, some
from m2cnn.errors import DataError, ImageError
from m2cnn.eyes import Eyes, other_eyes, sides
from m2cnn.grades import ENDPOINTS, Grading, ungradable
from m2cnn.kept import Kept
from m2cnn.photograph import PhotographFile
from m2cnn.photograph_features import photograph_features
from m2cnn.quality import check_file
from m2cnn.reader import Reader
from m2cnn.tasks import Decoded
from m2cnn.wording import counted

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"}
Source = str | Path | bytes
NOT_FINITE = "the network gave no finite number"
ALONE = "the other eye was not seen: it is taken to be as this one"


class Photo(NamedTuple):
    """A photograph, and which eye it shows: "left", "right", or "" where nobody knows."""

    source: Source
    eye: str = ""


@dataclass(frozen=True)
class Prepared:
    """What is known of a photograph before a network sees it.

    exam: a number, the same for all photographs of a patient.  pictures: one per network.
    numbers: (7,) of the photograph itself, where the combiner reads them.  reason: why it must not be graded.
    key: what its grading is kept by, where it is.  said: the grading that an earlier call kept.
    """

    name: str
    exam: int
    eye: str
    pictures: tuple[np.ndarray, ...] = ()
    numbers: np.ndarray | None = None
    reason: str = ""
    key: str = ""
    said: Grading | None = None


class Grader:
    """Grades photographs with one bundle.

    >>> Grader.load("runs/m2cnn").grade("left_eye.jpg").severity  # doctest: +SKIP

    A bundle that looks at both eyes is given them by `grade_exams`; where the other eye is missing or cannot be read,
    it is taken to be as this one.
    """

    def __init__(self, bundle: Bundle, readers: Sequence[Reader], backend: str = ""):
        self.bundle, self.readers, self.backend = bundle, tuple(readers), backend
        self.combine = bundle.combine() if bundle.combiner else None
        self.calibration = bundle.calibration

    @classmethod
    def load(cls, folder: str | Path, backend: str = "onnx") -> Grader:
        """From a bundle or a run folder; backend "onnx" (base install) or "torch".

        Raises BundleError for a missing or damaged bundle.
        """
        bundle = load_bundle(folder)
        return cls(bundle, bundle.readers(backend), backend)

    def grade(self, source: Source) -> Grading:
        """Grade one photograph: a path, or a file's bytes. What cannot be graded says why, and gets no grade."""
        return next(self.grade_all([source]))

    def grade_all(self, sources: Iterable[Source], batch: int = 8, workers: int = 2) -> Iterator[Grading]:
        """One Grading per source, each for itself, in order, in flat memory; `workers` threads read ahead."""
        for gradings in self.grade_exams(([Photo(source)] for source in sources), batch, workers):
            yield from gradings

    def grade_exams(
        self, exams: Iterable[Sequence[Photo]], batch: int = 8, workers: int = 2, kept: Kept | None = None
    ) -> Iterator[list[Grading]]:
        """One list of Gradings per exam, all photographs of one patient, in order.

        kept: an exam that it knows is not graded again, and what is graded is kept there.
        """
        waiting: list[list[Prepared]] = []
        with ThreadPoolExecutor(workers) as pool:
            for exam in _read_ahead(pool, partial(self._prepare_exam, kept), enumerate(exams), 2 * batch):
                waiting.append(exam)
                if sum(map(len, waiting)) >= batch:
                    yield from self._decide(waiting, kept)
                    waiting = []
            yield from self._decide(waiting, kept)

    def _prepare_exam(self, kept: Kept | None, exam: tuple[int, Sequence[Photo]]) -> list[Prepared]:
        number, photos = exam
        keys = kept.keys(photos) if kept else []
        if kept and all(key in kept.found for key in keys):
            return [_known(kept.found[key], photo, number) for key, photo in zip(keys, photos, strict=True)]
        prepared = [self._prepare(photo, number) for photo in photos]
        # What a passing fault or a file that is still being written did to one eye must not stay with the other.
        if kept is None or any(each.reason for each in prepared) or kept.keys(photos) != keys:
            return prepared
        return [replace(each, key=key) for key, each in zip(keys, prepared, strict=True)]

    def _prepare(self, photo: Photo, exam: int) -> Prepared:
        name = _name(photo)
        try:
            file = PhotographFile(photo.source)
            if reason := check_file(file):
                return Prepared(name, exam, photo.eye, reason=reason)
            pictures = tuple(each.preprocess.read(file, each.prepared) for each in self.bundle.networks)
            combiner = self.bundle.combiner
            numbers = photograph_features(file, combiner.radius) if combiner and combiner.uses_photograph else None
            return Prepared(name, exam, photo.eye, pictures, numbers)
        except ImageError as error:
            return Prepared(name, exam, photo.eye, reason=error.fault if error.place == name else str(error))

    def _decide(self, exams: list[list[Prepared]], kept: Kept | None) -> Iterator[list[Grading]]:
        flat = [photo for exam in exams for photo in exam]
        said = self._grade_prepared(flat)
        if kept is not None:
            for photo, grading in zip(flat, said, strict=True):
                kept.keep(photo.key, grading)
        gradings = iter(said)
        for exam in exams:
            yield [next(gradings) for _ in exam]

    def _grade_prepared(self, photos: list[Prepared]) -> list[Grading]:
        said = {i: ungradable(p.name, p.reason, *self._origin) for i, p in enumerate(photos) if p.reason}
        said |= {i: photo.said for i, photo in enumerate(photos) if photo.said}
        rows = [i for i in range(len(photos)) if i not in said]
        if rows:
            answers = [r.read(np.stack([photos[i].pictures[k] for i in rows])) for k, r in enumerate(self.readers)]
            finite = np.logical_and.reduce([np.isfinite(part).all(axis=1) for each in answers for part in each])
            for i in np.asarray(rows)[~finite]:
                # A network that overflows must not hand out a grade.
                said[int(i)] = ungradable(photos[i].name, NOT_FINITE, *self._origin)
            good = [photos[i] for i in np.asarray(rows)[finite]]
            if good:
                gradings = self._decide_good(good, [(o[finite], f[finite]) for o, f in answers])
                said |= dict(zip(map(int, np.asarray(rows)[finite]), gradings, strict=True))
        return [said[i] for i in range(len(photos))]

    def _decide_good(self, photos: list[Prepared], answers: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[Grading]:
        if self.combine is None:
            decoded, alone = self.bundle.task.read(answers[0][0]), np.zeros(len(photos), bool)
        else:
            eyes = self._eyes(photos, answers)
            decoded, alone = self.combine(eyes), (eyes.other < 0) & self.joins_eyes
        decoded = self.calibration.decoded(decoded)
        chances = self.calibration.chance(decoded)
        for row, photo in enumerate(photos):
            if np.isfinite(decoded.severity[row]):
                chance = None if chances is None else float(chances[row])
                yield self._grading(photo.name, decoded, row, chance, ALONE if alone[row] else "")
            else:
                yield ungradable(photo.name, NOT_FINITE, *self._origin)

    def _eyes(self, photos: list[Prepared], answers: list[tuple[np.ndarray, np.ndarray]]) -> Eyes:
        patients, eyes = [str(photo.exam) for photo in photos], [photo.eye for photo in photos]
        numbers = None if photos[0].numbers is None else np.stack([photo.numbers for photo in photos])
        return eyes_of(self.bundle.networks, answers, numbers, patients, eyes)

    def _grading(self, name: str, decoded: Decoded, row: int, chance: float | None, caution: str) -> Grading:
        severity, grade = float(decoded.severity[row]), int(decoded.grade[row])
        probabilities = None if decoded.probabilities is None else tuple(float(p) for p in decoded.probabilities[row])
        referable = grade >= ENDPOINTS["referable"]
        refer = self.calibration.refer(severity)
        caution = "; ".join(filter(None, (caution, _disagreement(referable, refer))))
        return Grading(name, grade, probabilities, severity, referable, True, "", *self._origin, caution, chance, refer)

    @property
    def joins_eyes(self) -> bool:
        """Whether a grade depends on the other eye."""
        return self.bundle.combiner is not None and self.bundle.combiner.joins_eyes

    @property
    def identity(self) -> list[str]:
        """What a grade depends on, but for the photographs."""
        return [*package_identity(), self.bundle.hash, repr(self.calibration), self.backend]

    @property
    def _origin(self) -> tuple[str, str]:
        return self.bundle.system, self.bundle.hash


def _known(said: Grading, photo: Photo, exam: int) -> Prepared:
    return Prepared(_name(photo), exam, photo.eye, said=replace(said, image=_name(photo)))


def _name(photo: Photo) -> str:
    return "bytes" if isinstance(photo.source, bytes) else str(photo.source)


def eyes_of(
    networks: Sequence[Bundle],
    answers: Sequence[tuple[np.ndarray, np.ndarray]],
    numbers: np.ndarray | None,
    patients: Sequence[str],
    eyes: Sequence[str],
) -> Eyes:
    """What a combiner is given: the answers (outputs, features) of each network, and whose eyes these are."""
    decoded = tuple(each.task.read(outputs) for each, (outputs, _) in zip(networks, answers, strict=True))
    vectors = tuple(features for _, features in answers)
    features = vectors if all(each.shape[1] for each in vectors) else ()  # a network of your own may give none
    return Eyes(decoded, features, numbers, sides(eyes), other_eyes(patients, eyes))


def _disagreement(referable: bool, refer: Mapping[str, bool]) -> str:
    """A caution where the grade alone would spare an eye that a point refers, or refer one that every point spares."""
    referring = [name for name, yes in refer.items() if yes]
    if referable == bool(referring) or not refer:
        return ""
    told = "the grade alone says {} but {}: go by the operating point that your clinic chose"
    if referable:
        return told.format("referable", "no operating point says refer")
    return told.format("not referable", f"{' and '.join(referring)} {'says' if len(referring) == 1 else 'say'} refer")


def _read_ahead(pool: ThreadPoolExecutor, prepare, sources: Iterable, depth: int) -> Iterator:
    queue: deque[Future] = deque()
    for source in sources:
        queue.append(pool.submit(prepare, source))
        if len(queue) > depth:
            yield queue.popleft().result()
    while queue:
        yield queue.popleft().result()


def exams(photographs: Iterable[Path], joined: bool = True) -> list[list[Photo]]:
    """Photographs of one folder whose names say the same patient and which eye (7_left.jpeg, 7_right.jpeg; left.jpeg
    and right.jpeg in a patient's folder): one exam.

    In the order of the first photograph of each; one whose name says no eye is an exam of its own, as all are unless
    they are `joined`.
    """
    found: dict[tuple, list[Photo]] = {}
    for number, path in enumerate(photographs):
        patient, eye = patient_and_eye(path.as_posix())
        found.setdefault((path.parent, patient) if eye and joined else (number,), []).append(Photo(path, eye))
    return list(found.values())


class Found(NamedTuple):
    """photographs: each once.  others: files of searched folders that have no ending of a photograph, but not hidden
    ones.
    """

    photographs: list[Path]
    others: list[Path]


def find_photographs(paths: Iterable[str | Path]) -> Found:
    """Files as named, folders searched through (links to folders are not followed), sorted.

    Nothing that is there is lost: a file or a folder that cannot be read is among the photographs, and gets its reason
    when it is graded. Raises DataError for an empty path, for one where nothing is, and for a folder without a
    photograph.
    """
    found, others = [], []
    for path in paths:
        if not str(path):
            raise DataError("paths", "an empty path", "a file or a folder", "Is a variable of your shell unset?")
        if _is_missing(path):
            repair = "Check the path; nothing was done."
            raise DataError(path, "no such file or folder", "a photograph, or a folder of them", repair)
        if os.path.isdir(path):
            photographs, rest = _below(Path(path))
            found.extend(photographs)
            others.extend(rest)
        else:
            found.append(Path(path))
    taken = _by_place(found)
    return Found(list(taken.values()), [path for place, path in _by_place(others).items() if place not in taken])


def _by_place(paths: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """Each by its folder, whatever leads there, and its name; as it was first called."""
    first: dict[tuple[str, str], Path] = {}
    folders: dict[Path, str] = {}
    for path in paths:
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        first.setdefault((folders[path.parent], path.name), path)
    return first


def passed_over(others: Sequence[Path]) -> str:
    """In a sentence, how many files of folders were not taken for photographs, by their endings."""
    endings = Counter(path.suffix.lower() or "no ending" for path in others)
    told = some([f"{number} {ending}" for ending, number in endings.most_common()])
    expected = ", ".join(sorted(SUFFIXES))
    return f"{counted(len(others), 'file')} passed over ({told}): {some(list(map(str, others)))}; expected {expected}"


def _is_missing(path: str | Path) -> bool:
    """Whether nothing is there; what cannot be looked at may be a photograph, and so may a link that leads nowhere."""
    try:
        os.lstat(path)
    except OSError as fault:
        return isinstance(fault, FileNotFoundError | NotADirectoryError)
    return False


def _below(folder: Path) -> Found:
    unreadable: list[Path] = []
    walk = os.walk(folder, onerror=lambda error: unreadable.append(Path(error.filename)))
    inside = [Path(parent) / name for parent, _, names in walk for name in names]
    taken = {path: path.suffix.lower() in SUFFIXES for path in inside}
    found = sorted([path for path, is_taken in taken.items() if is_taken] + unreadable)
    if not found:
        expected = f"files that end in {', '.join(sorted(SUFFIXES))}"
        raise DataError(
            folder, "the folder holds no photographs", expected, "Name another; links to folders are not followed."
        )
    others = sorted(path for path, is_taken in taken.items() if not is_taken)
    return Found(found, [p for p in others if not any(part.startswith(".") for part in p.relative_to(folder).parts)])
