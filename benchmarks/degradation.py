"""Dose and response: what share of good photographs does m2cnn refuse as they are made worse?

    python benchmarks/degradation.py DATA [--each 60] [--csv FILE] [--svg FILE]

DATA: a folder with idrid and eyepacs256. Good ones: IDRiD's, and those of good_eyepacs.txt, each in as many as asked.
The intervals are Wilson's, photographs being apart (one of a patient, but for IDRiD, which names none).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from scipy.stats import binomtest
from tqdm import tqdm

from m2cnn.errors import ImageError
from m2cnn.field import Field, find_field
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.quality import SIZE, check_fundus

matplotlib.use("Agg")
from matplotlib import pyplot

Degrade = Callable[[np.ndarray, Field, float, np.random.Generator], np.ndarray]


def blurred(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian; dose: its sigma, in hundredths of the field's diameter."""
    return cv2.GaussianBlur(image, (0, 0), dose / 100 * 2 * field.radius)


def darkened(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """dose: the share of the light that is taken away; the camera's noise stays."""
    noise = rng.normal(0, 2, image.shape) * (image > 8)
    return (image * (1 - dose) + noise * min(1, 4 * dose)).clip(0, 255).astype(np.uint8)


def hazed(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """A veil as of a cataract: dose: the share of the contrast within the field that is taken away."""
    inside = _disc(image, field)
    mean = image[inside].mean(axis=0)
    veiled = image * (1 - dose) + mean * dose
    return np.where(inside[..., None], veiled, image).astype(np.uint8)


def glared(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """A white reflex at a random place; dose: its radius, of the field's."""
    angle, far = rng.uniform(0, 2 * np.pi), field.radius * 0.5 * rng.random() ** 0.5
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    away = np.hypot(rows - field.y - far * np.sin(angle), columns - field.x - far * np.cos(angle))
    share = 1 / (1 + np.exp((away - dose * field.radius) / (0.08 * field.radius)))
    share = share * _disc(image, field)
    return (image * (1 - share[..., None]) + 255 * share[..., None]).astype(np.uint8)


def cut(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """Black from one side on, as of a lid; dose: the share of the field's diameter."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    along = (rows - field.y) * np.sin(angle) + (columns - field.x) * np.cos(angle)
    return np.where((along > field.radius * (1 - 2 * dose))[..., None], 0, image).astype(np.uint8)


DEGRADATIONS: dict[str, tuple[Degrade, tuple[float, ...]]] = {
    "blur": (blurred, (0.2, 0.4, 0.8, 1.2, 1.6, 2.4, 3.2, 5)),
    "darkness": (darkened, (0.3, 0.5, 0.65, 0.75, 0.85, 0.9, 0.94, 0.97)),
    "haze": (hazed, (0.3, 0.5, 0.65, 0.75, 0.85, 0.9, 0.95, 1)),
    "glare": (glared, (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.4)),
    "cut field": (cut, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
}


def _disc(image: np.ndarray, field: Field) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.hypot(rows - field.y, columns - field.x) <= field.radius


def good(folder: Path, each: int) -> dict[str, list[Path]]:
    """Photographs of each set, one of a patient where the set names patients."""
    names = [
        line for line in (Path(__file__).parent / "good_eyepacs.txt").read_text().split("\n") if line[:1].isdigit()
    ]
    alone = {name.split("_")[0]: name for name in names}
    eyepacs = [folder / "eyepacs256/train" / f"{name}.jpeg" for name in alone.values()]
    idrid = sorted((folder / "idrid").rglob("*Grading*/**/*.jpg"))
    return {"IDRiD": idrid[:: max(1, len(idrid) // each)][:each], "EyePACS 256": eyepacs[:each]}


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share."""
    low, high = binomtest(count, total).proportion_ci(method="wilson")
    return float(low), float(high)


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
    for name, (degrade, doses) in DEGRADATIONS.items():
        for dose in tqdm(doses, desc=name, leave=False):
            made = (
                degrade(image, field, dose, np.random.default_rng(number))
                for number, (image, field) in enumerate(zip(images, fields, strict=True))
            )
            rows.append((name, dose, sum(map(refused, made)), len(images)))
    return rows


def plot(found: dict[str, list[tuple[str, float, int, int]]], path: Path) -> None:
    figure, axes = pyplot.subplots(1, len(DEGRADATIONS), figsize=(3 * len(DEGRADATIONS), 3), sharey=True)
    for axis, name in zip(axes, DEGRADATIONS, strict=True):
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
        (of, name, dose, count, total, *(round(bound, 3) for bound in wilson(count, total)))
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
