"""Methods and models scored on photographs whose lesions were marked: OUT/scores.csv, one row per map.

Two controls stand beside the methods and need no network: "edges" (the strength of green edges, smoothed) must fail the
check with random weights, and "chance" (smooth noise) shows what a map that knows nothing scores.

Of a photograph whose grade is 0, a map of the grade says why it is healthy: it has no place among lesions and is left
out. Deletion, insertion and the check with random weights cost most, and are measured on the first `costly` photographs
of each set, spread evenly over it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
from torch import nn
from tqdm import tqdm

from m2cnn.bundle import load_bundle
from m2cnn.errors import DataError, ImageError
from m2cnn.explain import maps
from m2cnn.explain.explaining import Member, members_of
from m2cnn.explain.masks import Marked, MarkedSet, marked_sets
from m2cnn.explain.sanity import at_random
from m2cnn.explain.scores import beside_lesions, curves, rank_correlation
from m2cnn.explain.shown import Shown, lesions_shown, show
from m2cnn.explain.targets import GRADE, TARGETS, Target, check_kinds, targets_of
from m2cnn.photograph import PhotographFile
from m2cnn.quality import check_file
from m2cnn.tables import read_table, table_bytes, write_atomically

SCORES = "scores.csv"
EDGES, CHANCE = "edges", "chance"
CONTROLS = (EDGES, CHANCE)
COARSE = 1 / 16  # sigma of the noise, of the picture's side
NAN = float("nan")


@dataclass(frozen=True)
class Score:
    """One map. photograph: its path within those of its set.  kind: of the target.  deletion, insertion, correlation:
    NaN where they were not measured; correlation also where one of two maps is blank.

    reason: why the photograph was refused; then all numbers are NaN.
    """

    set: str
    photograph: str
    patient: str
    model: str
    system: str
    member: str
    method: str
    kind: str
    grade: int = -1
    hit: float = NAN
    hit_chance: float = NAN
    mass: float = NAN
    mass_chance: float = NAN
    deletion: float = NAN
    insertion: float = NAN
    correlation: float = NAN
    reason: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return self.set, self.photograph, self.model, self.member, self.method, self.kind


COLUMNS = tuple(each.name for each in fields(Score))
WORDS = {each.name for each in fields(Score) if each.type == "str"}


def score_models(
    models: Sequence[str | Path],
    folders: Sequence[str | Path],
    out: str | Path,
    methods: Sequence[str] = (),
    targets: Sequence[str] = TARGETS,
    most: int = 0,
    costly: int = 0,
) -> list[Score]:
    """Score every network of every model on every set; what OUT/scores.csv already has is not measured again.

    most: of a set, spread evenly over it; 0 for all.  costly: of these, how many get the costly scores; 0 for all.
    Raises DataError where OUT has scores of another set of the same name.
    """
    kinds, path = check_kinds(targets), Path(out) / SCORES
    whole = marked_sets(folders)
    known = {score.key: score for score in read_scores(path)} if path.exists() else {}
    for marked in whole:
        _check_same(marked, known.values(), path)
    sets = [replace(each, photographs=_spread(each.photographs, most)) for each in whole]
    for model in models:
        for member in members_of(load_bundle(model), methods):
            for marked in sets:
                _score_set(member, marked, kinds, costly, known, path)
    return list(known.values())


def _check_same(marked: MarkedSet, known: Iterable[Score], path: Path) -> None:
    names = {each.name for each in marked.photographs}
    if strange := next(
        (each.photograph for each in known if each.set == marked.name and each.photograph not in names), ""
    ):
        got = f'scores of {strange}, which set "{marked.name}" does not have'
        raise DataError(path, got, "scores of the same photographs", "Choose another --out.")


def read_scores(path: Path) -> list[Score]:
    """Raises DataError for a table of other columns."""
    columns, rows = read_table(path)
    if tuple(columns) != COLUMNS:
        raise DataError(path, f"columns {', '.join(columns)}", ", ".join(COLUMNS), "Choose another --out.")
    return [Score(**{k: v if k in WORDS else _number(k, v) for k, v in row.items()}) for _, row in rows]


def _number(column: str, cell: str) -> float:
    return int(cell) if column == "grade" else float(cell)


def _score_set(
    member: Member, marked: MarkedSet, kinds: Sequence[str], costly: int, known: dict[tuple, Score], path: Path
) -> None:
    """Add the scores of a set to `known`, and to the file after each photograph."""
    chosen = _spread(marked.photographs, costly)
    twin: nn.Module | None = None
    for photograph in tqdm(marked.photographs, desc=f"{member.bundle.system} {member.name} on {marked.name}"):
        job = _Job(member, marked.name, photograph, kinds, photograph in chosen)
        if not (names := job.missing(known)):
            continue
        if job.is_costly and twin is None:
            twin = at_random(member.bundle, _pictures(member, chosen))
        known |= {score.key: score for score in job.run(names, twin)}
        cells = [[getattr(score, name) for name in COLUMNS] for score in known.values()]
        write_atomically(path, table_bytes(COLUMNS, cells))


def _spread(photographs: tuple[Marked, ...], count: int) -> tuple[Marked, ...]:
    """`count` of them, evenly; all where count is 0 or too large."""
    if not 0 < count < len(photographs):
        return photographs
    return tuple(photographs[int((place + 0.5) * len(photographs) / count)] for place in range(count))


def _pictures(member: Member, photographs: Sequence[Marked]) -> np.ndarray:
    """(N, S, S, 3) uint8 of those, at most AT_ONCE of them, that can be read."""
    found = []
    for photograph in photographs:
        file = PhotographFile(photograph.path)
        if len(found) < maps.AT_ONCE and not check_file(file):
            found.append(show(member.bundle, file).picture)
    if not found:
        raise DataError(photographs[0].path.parent, "no photograph that can be graded", "at least one")
    return np.stack(found)


@dataclass(frozen=True)
class _Job:
    """One photograph, seen by one network."""

    member: Member
    set: str
    marked: Marked
    kinds: Sequence[str]
    is_costly: bool

    def missing(self, known: dict[tuple, Score]) -> list[str]:
        """The methods and controls of which `known` lacks a score, or the costly part of one."""

        def is_there(name: str, kind: str) -> bool:
            score = known.get(replace(self._blank, method=name, kind=kind).key)
            return bool(score) and (bool(score.reason) or not self.is_costly or not np.isnan(score.deletion))

        names = (*self.member.methods, *CONTROLS)
        return [name for name in names if not all(is_there(name, kind) for kind in self._kinds)]

    @property
    def _kinds(self) -> list[str]:
        return [target.kind for target in targets_of(self.member.bundle.task, self.kinds, 0)]

    @property
    def _blank(self) -> Score:
        bundle = self.member.bundle
        origin = (bundle.hash, bundle.system, self.member.name)
        return Score(self.set, self.marked.name, self.marked.patient, *origin, "", "")

    def run(self, names: Sequence[str], twin: nn.Module | None) -> Iterator[Score]:
        """A score per method or control and target; refused photographs have a reason instead."""
        file = PhotographFile(self.marked.path)
        try:
            if reason := check_file(file):
                raise ImageError(self.marked.path, reason)
            shown = show(self.member.bundle, file)
            lesions = lesions_shown(self.member.bundle, file, self.marked.lesions())
        except ImageError as fault:
            yield from self._refused(names, str(fault))
            return
        ends = maps.answer(self.member.network, np.stack([shown.picture, shown.plain]))
        grade = int(self.member.bundle.task.read(ends[:1]).grade[0])
        targets = targets_of(self.member.bundle.task, self.kinds, grade)
        for method in names:
            heats = _heats(method, self.member.network, shown, targets)
            blank = replace(self._blank, method=method, grade=grade)
            others = _heats(method, twin, shown, targets) if self.is_costly else [None] * len(targets)
            for target, heat, other in zip(targets, heats, others, strict=True):
                if target.kind == GRADE and grade == 0:
                    yield replace(blank, kind=target.kind, reason="grade 0: a map of it says why the eye is healthy")
                    continue
                score = replace(blank, kind=target.kind, **vars(beside_lesions(heat, lesions, shown.inside)))
                yield score if other is None else self._with_costly(score, shown, target, (heat, other), ends)

    def _with_costly(
        self, score: Score, shown: Shown, target: Target, heats: tuple[np.ndarray, np.ndarray], ends: np.ndarray
    ) -> Score:
        heat, other = heats
        both = curves(_answer(self.member.network, target), shown, heat, tuple(target.height(ends)))
        same = rank_correlation(heat, other, shown.inside)
        return replace(score, deletion=both[0], insertion=both[1], correlation=same)

    def _refused(self, names: Sequence[str], reason: str) -> Iterator[Score]:
        for name in names:
            for kind in self._kinds:
                yield replace(self._blank, method=name, kind=kind, reason=reason)


def _answer(network: nn.Module, target: Target) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pictures: target.height(maps.answer(network, pictures))


def _heats(method: str, network: nn.Module, shown: Shown, targets: Sequence[Target]) -> maps.Maps:
    if method in CONTROLS:
        return [np.where(shown.inside, edges(shown) if method == EDGES else noise(shown), 0)] * len(targets)
    return maps.explain(network, shown, targets, method)


def edges(shown: Shown) -> np.ndarray:
    """(S, S): what an edge detector draws of the green channel; the rim of the field is none."""
    green = np.where(shown.inside, shown.picture[..., 1], shown.plain[..., 1]).astype(np.float32)
    slope = cv2.magnitude(cv2.Sobel(green, cv2.CV_32F, 1, 0), cv2.Sobel(green, cv2.CV_32F, 0, 1))
    margin = np.ones((5, 5), np.uint8)
    slope[cv2.erode(shown.inside.astype(np.uint8), margin, borderValue=0) == 0] = 0
    return cv2.GaussianBlur(slope, (0, 0), maps.SMOOTH * len(slope))


def noise(shown: Shown) -> np.ndarray:
    """(S, S) in 0..1: smooth, the same whenever this picture is shown."""
    rng = np.random.default_rng(zlib.crc32(shown.picture.tobytes()))
    size = len(shown.picture)
    # Out of the middle of a larger field: where a field ends, smoothing leaves higher peaks.
    heat = cv2.GaussianBlur(rng.standard_normal((2 * size, 2 * size)), (0, 0), COARSE * size)
    heat = heat[size // 2 :, size // 2 :][:size, :size]
    return (heat - heat.min()) / (heat.max() - heat.min())
