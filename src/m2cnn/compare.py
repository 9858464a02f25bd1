"""Systems side by side: the same photographs, the same resamples of patients, paired differences to the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2cnn.bootstrap import METHOD, Difference, Estimate, bootstrap, paired_difference, shown
from m2cnn.errors import DataError
from m2cnn.foreign import Reading, read_anyones
from m2cnn.grades import DISCLAIMER
from m2cnn.intervals import holm
from m2cnn.metrics import Floats
from m2cnn.panel import METRICS, TITLES, panel
from m2cnn.predictions import NO_GRADE, PREDICTIONS, Predictions
from m2cnn.reliability import ece_difference
from m2cnn.summary import BIASED, Gaps, check_one_system, estimates, gaps_of
from m2cnn.tables import table_bytes
from m2cnn.truth import Truth, read_truth

SHOWN = ("qwk", "accuracy", "mse", "mae", "referable_auc", "referable_sensitivity", "referable_specificity")
CSV_COLUMNS = (
    "system",
    "metric",
    "value",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
)


@dataclass(frozen=True)
class Compared:
    """One system: its metrics on the shared photographs and its differences to the first system (empty for the first).

    images: all photographs of its table.  ungradable: those of the shared ones that it refused.
    """

    name: str
    images: int
    ungradable: int
    metrics: dict[str, Estimate]
    differences: dict[str, Difference]


@dataclass(frozen=True)
class Comparison:
    """systems: in the order given, the first is the reference.

    shared: photographs with a true grade that every system has.  scored: those of them that every system graded; all
    metrics but the two that count ungradable as referred are of these.  patients: of the shared photographs.
    """

    systems: tuple[Compared, ...]
    shared: int
    scored: int
    patients: int
    replicates: int
    seed: int

    def to_markdown(self) -> str:
        """Two tables, values and paired differences, and under them what was counted and how."""
        first, *others = self.systems
        names = [TITLES[name] for name in SHOWN]
        values = [[s.name, *(_estimate(s.metrics[name]) for name in SHOWN)] for s in self.systems]
        changes = [[s.name, *(shown_difference(s.differences[name]) for name in SHOWN)] for s in others]
        parts = [markdown_table(["system", *names], values)]
        if others:
            parts.append(markdown_table([f"minus {first.name}", *names], changes))
        return "\n\n".join([*parts, "\n".join(self.notes()), DISCLAIMER]) + "\n"

    def notes(self) -> list[str]:
        """What was counted and how, a sentence each."""
        lines = [
            f"{self.shared} photographs of {self.patients} patients are in every table with a true grade; "
            f"{self.scored} of them were graded by every system and are scored.",
            *(f"{s.name}: {s.images - self.shared} of {s.images} left out; {_refused(s)}." for s in self.systems),
            f"95 % intervals from {self.replicates} bootstrap samples of patients (seed {self.seed}), the same for all "
            f"systems: {METHOD}. Differences: percentiles. p: two-sided, of no difference, not corrected for several "
            "comparisons; the CSV has it corrected by Holm over the systems, for each metric.",
            "Calibration errors (in the CSV) and their differences have bounds instead: they hold the truth at least "
            "as often, and see a difference only where it is clear.",
        ]
        return [f"- {line}" for line in lines]

    def corrected(self) -> dict[str, Floats]:
        """For each metric, Holm's p-values of all systems but the first."""
        return {name: holm([s.differences[name].p for s in self.systems[1:]]) for name in METRICS}

    def to_csv(self) -> str:
        """One line per system and metric; numbers in full, empty cells where undefined."""
        rows = []
        corrected = self.corrected()
        for number, system in enumerate(self.systems):
            for name in METRICS:
                e, d = system.metrics[name], system.differences.get(name)
                change = (d.value, d.low, d.high, d.p, corrected[name][number - 1]) if d else (np.nan,) * 5
                cells = ["" if np.isnan(v) else repr(float(v)) for v in (e.value, e.low, e.high, *change)]
                rows.append([system.name, name, *cells])
        return table_bytes(CSV_COLUMNS, rows).decode()


def _refused(system: Compared) -> str:
    return f"{system.ungradable} of the shared found ungradable"


def _estimate(e: Estimate) -> str:
    return shown(e.value, e.low, e.high)


def shown_difference(d: Difference) -> str:
    """A difference with its sign, interval and p-value for people."""
    if np.isnan(d.p):
        return shown(d.value)
    return f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f}), p {_p(d.p)}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; cells are plain text."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# --- from tables to a comparison ---


def compare(systems: Sequence[tuple[str, Predictions]], replicates: int = 2000, seed: int = 0) -> Comparison:
    """Compare (name, predictions) pairs on the photographs that all of them have and whose true grade is known.

    Raises DataError: no system, a name used twice, nothing shared, or tables that disagree on the truth or the patient
    of a photograph.
    """
    names = [name for name, _ in systems]
    if not names or len(set(names)) < len(names):
        raise DataError("compare", f"systems {', '.join(names) or 'none'}", "one or more different names")
    for _, table in systems:
        check_one_system(table)
    shared = aligned(list(systems))
    gradable = np.logical_and.reduce([p.gradable for p in shared])
    panels = [panel(p, gradable) for p in shared]
    patients = panels[0].patients
    # One pass over one stream of resamples: systems side by side, (R, systems * K).
    drawn = bootstrap(lambda counts: np.concatenate([p(counts) for p in panels], axis=1), patients, replicates, seed)
    replicated = np.split(drawn, len(panels), axis=1)
    values = [p.values() for p in panels]
    gaps = [gaps_of(p, replicates, seed) for p in panels]
    compared = tuple(
        Compared(
            name,
            len(table),
            int((~p.gradable).sum()),
            estimates(measured, replicate, gap),
            _differences((values[0], value), (replicated[0], replicate), (gaps[0], gap)) if i else {},
        )
        for i, ((name, table), p, measured, value, replicate, gap) in enumerate(
            zip(systems, shared, panels, values, replicated, gaps, strict=True)
        )
    )
    return Comparison(compared, len(shared[0]), int(gradable.sum()), patients, replicates, seed)


def _differences(
    values: tuple[Floats, Floats], replicates: tuple[Floats, Floats], gaps: tuple[Gaps, Gaps]
) -> dict[str, Difference]:
    found = {
        name: paired_difference((values[0][k], values[1][k]), (replicates[0][:, k], replicates[1][:, k]))
        for k, name in enumerate(METRICS)
    }
    own, drawn = (np.stack(each) for each in zip(*gaps, strict=True))
    return found | {name: ece_difference(own[:, kind], drawn[:, :, kind]) for kind, name in enumerate(BIASED)}


def aligned(systems: list[tuple[str, Predictions]]) -> list[Predictions]:
    """The tables cut down to the photographs that all share and whose truth one of them knows, in the same order."""
    images = reduce(np.intersect1d, [p.image for _, p in systems])
    tables = [p.select(_places(p.image, images)) for _, p in systems]
    truth = tables[0].grade
    for (name, _), table in zip(systems, tables, strict=True):
        _refuse_disagreement(name, systems[0][0], table, tables[0])
        _refuse_other_truth(name, images, table.grade, truth)
        truth = np.maximum(truth, table.grade)  # known beats unknown
    known = truth != NO_GRADE
    if not known.any():
        got = f"{len(images)} shared photographs, {int(known.sum())} of them with a true grade"
        repair = "Evaluate the systems on the same manifest; image names must be written alike."
        raise DataError("compare", got, "at least one", repair)
    return [replace(table, grade=truth).select(known) for table in tables]


def _places(image: NDArray[np.str_], wanted: NDArray[np.str_]) -> NDArray[np.intp]:
    order = np.argsort(image)
    return order[np.searchsorted(image[order], wanted)]


def _refuse_disagreement(name: str, first: str, table: Predictions, reference: Predictions) -> None:
    wrong = np.flatnonzero(table.patient != reference.patient)
    if len(wrong):
        i = wrong[0]
        got = f'patient is "{table.patient[i]}" in {name} and "{reference.patient[i]}" in {first}'
        raise DataError(f"photograph {table.image[i]}", got, "one patient", "Use the same manifest for both.")


def _refuse_other_truth(
    name: str, images: NDArray[np.str_], grade: NDArray[np.int64], truth: NDArray[np.int64]
) -> None:
    wrong = np.flatnonzero((grade != truth) & (grade != NO_GRADE) & (truth != NO_GRADE))
    if len(wrong):
        i = wrong[0]
        got = f"true grade is {grade[i]} in {name} and {truth[i]} in a table before it"
        raise DataError(f"photograph {images[i]}", got, "one truth", "Use the same manifest for both.")


def read_run(folder: str | Path, truth: Truth | None = None) -> tuple[str, Reading]:
    """(name of the folder, its predictions.csv or its test's); or a path to anyone's CSV, named by the file.

    Raises DataError where nothing is, and where a folder has no predictions.
    """
    path = Path(folder)
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return name, read_anyones(table_of(path), truth)


def table_of(path: Path) -> Path:
    """The table itself, or that of a folder. Raises DataError: as `read_run`."""
    if not path.exists():
        expected = "a folder of m2cnn evaluate, a run, or a table of predictions"
        raise DataError(path, "no such file or folder", expected, "Check the path.")
    table = measured(path) / PREDICTIONS if path.is_dir() else path
    if not table.is_file():
        inner = [str(each.parent) for each in sorted(path.glob(f"*/{PREDICTIONS}"))]
        repair = f"Name {' or '.join(inner)}." if inner else "m2cnn evaluate BUNDLE --data DATA --out DIR makes one."
        raise DataError(path, f"no {PREDICTIONS}", "a folder of m2cnn evaluate, or a run with its test", repair)
    return table


def measured(folder: Path) -> Path:
    """The folder itself, or of a run that was evaluated its test."""
    inner = folder / "test"
    return inner if not (folder / PREDICTIONS).is_file() and (inner / PREDICTIONS).is_file() else folder


def compare_folders(
    folders: Sequence[str | Path], replicates: int = 2000, seed: int = 0, truth: str | Path | None = None
) -> tuple[Comparison, list[str]]:
    """Compare what `read_run` reads, named by folder, or by path as given where two names are the same; and how the
    tables were understood.

    truth: a CSV of true grades, for tables that do not carry them. Raises DataError for a table that is named twice.
    """
    _refuse_twice(folders)
    known = read_truth(truth) if truth else None
    runs = [read_run(folder, known) for folder in folders]
    names = [name for name, _ in runs]
    unique = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
    tables = [(name, reading.predictions) for name, (_, reading) in zip(unique, runs, strict=True)]
    return compare(tables, replicates, seed), [note for _, reading in runs for note in reading.notes]


def _refuse_twice(folders: Sequence[str | Path]) -> None:
    first: dict[Path, str | Path] = {}
    for folder in folders:
        table = table_of(Path(folder)).resolve()
        if table in first:
            got = "it is named twice" if str(folder) == str(first[table]) else f"the same table as {first[table]}"
            raise DataError(folder, got, "another system's predictions", "Name each once.")
        first[table] = folder
