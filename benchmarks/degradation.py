"""Dose and response: what share of good photographs does m2cnn refuse as they are made worse?

    python benchmarks/degradation.py DATA [--each 60] [--csv FILE] [--svg FILE]

DATA: a folder with idrid and eyepacs256. Good ones: IDRiD's, and those of good_eyepacs.txt, each in as many as asked.
The intervals are Wilson's, photographs being apart (one of a patient, but for IDRiD, which names none).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib
import numpy as np
from tqdm import tqdm

from m2cnn.errors import ImageError
from m2cnn.field import find_field
from m2cnn.intervals import wilson
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.quality import check_fundus
from m2cnn.quality_measures import SIZE
from m2cnn.synthetic.degrade import DEGRADATIONS

matplotlib.use("Agg")
from matplotlib import pyplot

DOSES: dict[str, tuple[float, ...]] = {
    "blur": (0.2, 0.4, 0.8, 1.2, 1.6, 2.4, 3.2, 5),
    "darkness": (0.3, 0.5, 0.65, 0.75, 0.85, 0.9, 0.94, 0.97),
    "haze": (0.3, 0.5, 0.65, 0.75, 0.85, 0.9, 0.95, 1),
    "glare": (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.4),
    "cut field": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
}


def good_names() -> list[str]:
    """The EyePACS photographs that are good by eye."""
    lines = (Path(__file__).parent / "good_eyepacs.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line[:1].isdigit()]


def good(folder: Path, each: int) -> dict[str, list[Path]]:
    """Photographs of each set, one of a patient where the set names patients."""
    alone = {name.split("_")[0]: name for name in good_names()}
    eyepacs = [folder / "eyepacs256/train" / f"{name}.jpeg" for name in alone.values()]
    idrid = sorted((folder / "idrid").rglob("*Grading*/**/*.jpg"))
    return {"IDRiD": idrid[:: max(1, len(idrid) // each)][:each], "EyePACS 256": eyepacs[:each]}


def refused(image: np.ndarray) -> bool:
    try:
        return bool(check_fundus(image))
    except ImageError:
        return True


def responses(paths: list[Path]) -> list[tuple[str, float, int, int]]:
    """(degradation, dose, refused, photographs); dose 0 first."""
    images = [PhotographFile(path).frame(Preprocess().diameter(SIZE)) for path in paths]
    fields = [find_field(image) for image in images]
    rows = [("nothing", 0.0, sum(map(refused, images)), len(images))]
    for name, doses in DOSES.items():
        degrade = DEGRADATIONS[name]
        for dose in tqdm(doses, desc=name, leave=False):
            made = (
                degrade(image, field, dose, np.random.default_rng(number))
                for number, (image, field) in enumerate(zip(images, fields, strict=True))
            )
            rows.append((name, dose, sum(map(refused, made)), len(images)))
    return rows


def plot(found: dict[str, list[tuple[str, float, int, int]]], path: Path) -> None:
    figure, axes = pyplot.subplots(1, len(DOSES), figsize=(3 * len(DOSES), 3), sharey=True)
    for axis, name in zip(axes, DOSES, strict=True):
        for marker, (of, rows) in zip("os", found.items(), strict=False):
            mine = [rows[0], *(row for row in rows if row[0] == name)]
            doses, shares = [row[1] for row in mine], [row[2] / row[3] for row in mine]
            bounds = np.array([wilson(row[2], row[3]) for row in mine]).T
            error = np.abs(np.array(shares) - bounds)
            axis.errorbar(doses, shares, error, marker=marker, markersize=4, capsize=2, label=of)
        axis.set_title(name)
        axis.set_xlabel("dose")
        axis.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("share refused")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--each", type=int, default=60)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    found = {name: responses(paths) for name, paths in good(options.data, options.each).items()}
    table = [
        (of, name, dose, count, total, *(round(float(bound), 3) for bound in wilson(count, total)))
        for of, rows in found.items()
        for name, dose, count, total in rows
    ]
    for row in table:
        print(*row, sep=",")
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("set", "degradation", "dose", "refused", "photographs", "low", "high"), *table])
    if options.svg:
        plot(found, options.svg)


if __name__ == "__main__":
    main()
