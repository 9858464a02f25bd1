"""What does m2cnn.quality refuse? With --fit its network is fitted anew, and written into the package.

    python benchmarks/quality.py DATA [--fit] [--share 1.0] [--measures FILE.npz] [--csv FILE]

DATA: a folder with eyepacs256, eyepacs1024 and idrid. The network learns from two thirds of the photographs of each set
(of rendered ones too), each as it is, made a little worse (still good) and made too bad to grade by
m2cnn.synthetic.degrade, and from pictures that are no fundus (no_fundus.py, drawn with other seeds than those that are
measured on). What is printed is of the other third, and of the EyePACS photographs that good_eyepacs.txt calls good by
eye, from which nothing is learned. EyePACS holds photographs that cannot be graded, and nobody says which: the network
learns from them as good ones, so a refusal among them may be right.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from degradation import good_names
from no_fundus import SCENES, pictures
from sklearn.neural_network import MLPClassifier

from m2cnn.data.manifest import draw_of
from m2cnn.data.pairing import patient_and_eye
from m2cnn.errors import ImageError
from m2cnn.field import find_field
from m2cnn.intervals import wilson
from m2cnn.parallel import in_chunks
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.quality import LIMITS, MIN_DIAMETER, OUTLYING, REASONS, Judge, outside_limits, the_judge
from m2cnn.quality_measures import SIZE, measure
from m2cnn.synthetic import render
from m2cnn.synthetic.degrade import DEGRADATIONS

PACKAGED = Path(__file__).parents[1] / "src/m2cnn/quality.json"
# Doses: from where on a grader sees no microaneurysm any more; up to where nothing is lost that counts.
BAD = {"blur": (1.2, 6), "darkness": (0.87, 0.98), "haze": (0.85, 1), "glare": (0.6, 1.3), "cut field": (0.5, 0.8)}
HARMLESS = {
    "blur": (0.1, 0.6),
    "darkness": (0.1, 0.6),
    "haze": (0.1, 0.55),
    "glare": (0.05, 0.3),
    "cut field": (0, 0.25),
}
FALSE_REFUSALS = 0.015  # of the good photographs that it learns from
SEEDS = 8  # of pictures that are no fundus
SMALLEST = 128  # px, field of a copy made small
RENDERED = (200, 224, 256, 320, 512)  # px
THRESHOLDS = (0.5, 0.7)  # lowest and highest
LISTED = "EyePACS 256, good by eye"


class Case(NamedTuple):
    """A picture to be measured. source: a file, or (rendered) a number."""

    of: str
    source: Path | int
    number: int


class Measured(NamedTuple):
    """label: a key of REASONS.  held: it is measured on, not learned from.  values: {} where the field is not found."""

    of: str
    label: str
    held: bool
    values: dict[str, float]


def cases(folder: Path, share: float) -> list[Case]:
    listed = set(good_names())
    eyepacs = sorted((folder / "eyepacs256/train").glob("*.jpeg"))
    sets = {
        "IDRiD": sorted((folder / "idrid").rglob("*Grading*/**/*.jpg")),
        LISTED: [path for path in eyepacs if path.stem in listed],
        "EyePACS 256": [path for path in eyepacs if path.stem not in listed][::5],
        "EyePACS 1024": sorted((folder / "eyepacs1024").rglob("*.jp*g"))[::3],
        "rendered": list(range(500)),
    }
    return [
        Case(of, source, number)
        for of, sources in sets.items()
        for number, source in enumerate(sources[: max(1, round(share * len(sources)))])
    ]


def patient_of(case: Case) -> str:
    return str(case.source) if isinstance(case.source, int) else patient_and_eye(case.source.name)[0]


def picture_of(case: Case) -> np.ndarray:
    if isinstance(case.source, int):
        n, size = case.source, RENDERED[case.source % len(RENDERED)]
        return render(5000, n % 5, size=size, patient=n).image
    return PhotographFile(case.source).frame(Preprocess().diameter(SIZE))


def measured_cases(cases: list[Case]) -> list[list[Measured]]:
    return [list(_of_case(case)) for case in cases]


def _of_case(case: Case):
    held = case.of == LISTED or draw_of(f"quality:{patient_of(case)}") < 1 / 3
    image = picture_of(case)
    yield Measured(case.of, "good", held, values_of(image))
    rng = np.random.default_rng([7, case.number, len(case.of)])
    yield Measured(f"{case.of}, small", "good", held, values_of(small(image, rng)))
    try:
        field = find_field(image)
    except ImageError:
        return
    if case.of == LISTED:
        return
    for kind, doses in BAD.items():
        if rng.random() < 0.6:
            yield Measured(case.of, kind, held, values_of(DEGRADATIONS[kind](image, field, rng.uniform(*doses), rng)))
    for kind in rng.permutation(list(HARMLESS))[:2]:
        made = DEGRADATIONS[kind](image, field, rng.uniform(*HARMLESS[kind]), rng)
        yield Measured(f"{case.of}, a little worse", "good", held, values_of(made))


def small(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy as of another program: of less than half to all of the size."""
    scale = min(1.0, rng.uniform(SMALLEST, 256) / image.shape[0])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def values_of(image: np.ndarray) -> dict[str, float]:
    try:
        field = find_field(image)
    except ImageError:
        return {}
    return measure(image, field) if round(2 * field.radius) >= MIN_DIAMETER else {}


def others(share: float) -> list[Measured]:
    """No fundus: the first seed to measure on, whose scenes are apart too; the others to learn from."""
    found = []
    for seed in range(SEEDS):
        for kind, number, picture in pictures(round(1400 * share), seed):
            apart = number % (len(SCENES) + 2) % 4 == 0
            if "scene" in kind and apart != (seed == 0):
                continue  # a scene that is measured on is not learned from
            found.append(Measured(kind, "no fundus", seed == 0, values_of(picture)))
    return found


# --- the fit ---


def fitted(rows: list[Measured]) -> Judge:
    names = sorted(rows[0].values)
    table, labels = np.array([[row.values[name] for name in names] for row in rows]), [row.label for row in rows]
    middle, scale = table.mean(axis=0), table.std(axis=0) + 1e-6
    given = ((table - middle) / scale).clip(-OUTLYING, OUTLYING)
    network = MLPClassifier((24,), activation="tanh", alpha=0.1, max_iter=400, random_state=0)
    network.fit(given, labels)
    order = [list(network.classes_).index(name) for name in REASONS]
    (hidden, output), (hidden_bias, output_bias) = network.coefs_, network.intercepts_
    judge = Judge(names, middle, scale, hidden, hidden_bias, output[:, order], output_bias[order], 0.5)
    sets = sorted({row.of for row in rows if row.label == "good" and "worse" not in row.of})
    cuts = []
    for name in sets:
        chances = [judge.chances(row.values)["good"] for row in rows if row.of == name and row.label == "good"]
        # The worst set decides, but for EyePACS, in which many cannot be graded.
        cuts.append(np.quantile(chances, 0.1 if "EyePACS" in name else FALSE_REFUSALS))
    return judge._replace(threshold=float(np.clip(min(cuts), *THRESHOLDS)))


def write(judge: Judge, path: Path) -> None:
    def plain(value):
        return np.round(value, 5).tolist() if isinstance(value, np.ndarray) else value

    path.write_text(json.dumps({key: plain(value) for key, value in judge._asdict().items()}) + "\n", encoding="utf-8")


# --- what it refuses ---


def answer(judge: Judge, values: dict[str, float]) -> str:
    """The key of REASONS, or "rules" where a rule refuses before."""
    if not values or outside_limits(values):
        return "rules"
    chances = judge.chances(values)
    if chances["good"] >= judge.threshold:
        return "good"
    return max((name for name in REASONS if name != "good"), key=chances.__getitem__)


def table(judge: Judge, rows: list[Measured]) -> list[tuple]:
    """(what, label, pictures, refused, low, high, what it is taken for)."""
    lines = []
    for of, label in dict.fromkeys((row.of, row.label) for row in rows):
        said = [answer(judge, row.values) for row in rows if (row.of, row.label) == (of, label)]
        refused = sum(name != "good" for name in said)
        low, high = wilson(refused, len(said))
        kinds = " ".join(
            f"{name}:{said.count(name)}" for name in ("rules", *REASONS) if name in said and name != "good"
        )
        lines.append((of, label, len(said), refused, round(float(low), 3), round(float(high), 3), kinds))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--share", type=float, default=1.0, help="of the photographs of each set")
    parser.add_argument("--measures", type=Path, help="keep what was measured here, and take it from here")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    if options.measures and options.measures.is_file():
        rows = [Measured(*row) for row in json.loads(options.measures.read_text())]
    else:
        chosen = cases(options.data, options.share)
        made = in_chunks(measured_cases, chosen, options.workers, 16, "measuring photographs")
        rows = [row for chunk in made for case in chunk for row in case] + others(options.share)
        if options.measures:
            options.measures.write_text(json.dumps(rows))
    usable = [row for row in rows if not row.held and row.values and not outside_limits(row.values)]
    if options.fit:
        write(fitted(usable), PACKAGED)
    judge, held = the_judge(), [row for row in rows if row.held]
    print(f"learned from {len(usable)} pictures; threshold {judge.threshold:.3f}; {len(LIMITS)} rules")
    lines = table(judge, held)
    alien = [row for row in held if row.label == "no fundus"]
    lines += [("all", *line[1:]) for line in table(judge, [row._replace(of="all") for row in alien])]
    for line in lines:
        print(*line, sep=", ")
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("set", "label", "pictures", "refused", "low", "high", "taken for"), *lines])


if __name__ == "__main__":
    main()
