"""How many photographs, and how many other pictures, does m2cnn.quality refuse? Optionally fits its weights anew.

    python benchmarks/quality.py DATA [--every 1] [--others 1200] [--fit]

DATA: a folder with eyepacs256, eyepacs1024 and idrid. The other pictures are parts of the colour photographs that
scikit-image and scikit-learn carry, and smooth, shaded or lettered discs, all cut to a round field on black: the hard
case. Whole scenes have no round field and are refused before anything is measured.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import sklearn.datasets
from tqdm import tqdm

from m2cnn.errors import ImageError
from m2cnn.field import find_field
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.quality import SIZE, STRUCTURE, WEIGHTS, check_fundus, measure

SCENES = ("astronaut", "cat", "coffee", "colorwheel", "hubble_deep_field", "immunohistochemistry", "logo", "rocket")
SIDE, RADIUS = 400, 190
OTHERS = "others, round"


def photographs(folder: Path, every: int) -> dict[str, list[Path]]:
    sets = {"eyepacs256": "eyepacs256/train", "eyepacs1024": "eyepacs1024/train", "idrid": "idrid"}
    return {name: sorted((folder / place).rglob("*.jp*g"))[::every] for name, place in sets.items()}


def scenes() -> list[np.ndarray]:
    pictures = [np.asarray(getattr(skimage.data, name)())[..., :3] for name in SCENES]
    return pictures + [np.asarray(picture) for picture in sklearn.datasets.load_sample_images().images]


def others(count: int, seed: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """(source, picture): round pictures that are no retina; pictures of one source resemble each other."""
    rng, pictures = np.random.default_rng(seed), scenes()
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    outside = np.hypot(rows, columns) > RADIUS
    for number in range(count):
        source = number % (len(pictures) + 3)
        picture = part(pictures[source], rng) if source < len(pictures) else surface(rows, columns, rng)
        picture[outside] = 0
        yield source, picture[60:340] if rng.random() < 0.4 else picture


def part(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of a scene; some are contrast-stretched as EyePACS 256 is, tinted or blurred."""
    side = int(min(scene.shape[:2]) * rng.uniform(0.3, 1))
    top, left = (rng.integers(length - side + 1) for length in scene.shape[:2])
    picture = cv2.resize(scene[top : top + side, left : left + side], (SIDE, SIDE)).astype(np.float32)
    if rng.random() < 0.4:
        low, high = np.percentile(picture, [1, 99], axis=(0, 1))
        picture = (picture - low) / (high - low + 1) * 255
    elif rng.random() < 0.3:
        picture *= np.array([1, 0.6, 0.3], np.float32)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1, 4))
    return picture.clip(0, 255).astype(np.uint8)


def surface(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A disc of a plain colour with shading, clouds, letters and noise."""
    colour = np.sort(rng.uniform(0.2, 1, 3))[::-1] * rng.uniform(80, 255)
    shade = 1 - rng.uniform(0, 0.6) * (np.hypot(rows, columns) / RADIUS) ** rng.choice([1, 2])
    shade = shade * (1 + rng.uniform(-0.4, 0.4) * rows / SIDE)
    if rng.random() < 0.4:
        clouds = cv2.GaussianBlur(rng.normal(size=rows.shape), (0, 0), rng.uniform(3, 50))
        shade = shade * (1 + rng.uniform(0.05, 0.3) * clouds / clouds.std())
    picture = (shade[..., None] * colour).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        ink = tuple(float(value) for value in rng.uniform(0, 255, 3))
        cv2.putText(picture, str(rng.integers(100)), (80, 260), 0, 6, ink, int(rng.integers(5, 30)), cv2.LINE_AA)
    return (picture + rng.normal(0, rng.choice([0, 1, 4, 12]), picture.shape)).clip(0, 255).astype(np.uint8)


def measured(image: np.ndarray) -> tuple[str, dict[str, float]]:
    """The reason of the refusal, and the measurements where the picture has a round field."""
    try:
        return check_fundus(image), measure(image, find_field(image))
    except ImageError as error:
        return error.got, {}


def fit(rows: list[dict[str, float]], sets: np.ndarray) -> dict[str, float]:
    """Weights and constant of the score: ridge regression on +1 (photographs) and -1 (others).

    Every set of photographs weighs the same, the others as much as all of them. The constant sets 0 where the worst of
    the sets loses 0.2 % of its photographs.
    """
    table = np.array([[row[name] for name in WEIGHTS] for row in rows])
    middle, scale = table.mean(axis=0), table.std(axis=0)
    design = np.c_[(table - middle) / scale, np.ones(len(rows))]
    names, real = sorted(set(sets) - {OTHERS}), sets != OTHERS
    share = {name: len(rows) / (sets == name).sum() for name in names} | {
        OTHERS: len(names) * len(rows) / (~real).sum()
    }
    weighted = design * np.array([share[name] for name in sets])[:, None]
    solution = np.linalg.solve(weighted.T @ design + 0.05 * np.eye(design.shape[1]), weighted.T @ np.where(real, 1, -1))
    slopes = solution[:-1] / scale
    cuts = [np.quantile(table[sets == name] @ slopes, 0.002) for name in names]
    return dict(zip(WEIGHTS, slopes, strict=True)) | {"constant": -min(cuts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--others", type=int, default=1200)
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    sets = {
        name: ((path.name, PhotographFile(path).frame(Preprocess().diameter(SIZE))) for path in paths)
        for name, paths in photographs(options.data, options.every).items()
    }
    sets[OTHERS] = others(options.others)
    rows, labels = [], []
    for name, pictures in sets.items():
        found = [(label, *measured(picture)) for label, picture in tqdm(pictures, desc=name)]
        reasons = Counter(reason for _, reason, _ in found if reason)
        print(f"{name}: {sum(reasons.values())} of {len(found)} refused; {dict(reasons)}")
        if name != OTHERS:
            print("  ", *[f"{label}: {reason}" for label, reason, _ in found if reason][:20], sep="\n   ")
        good = [row for _, reason, row in found if row and (not reason or reason == STRUCTURE)]
        rows += good
        labels += [name] * len(good)
    if options.fit:
        for name, value in fit(rows, np.array(labels)).items():
            print(f'    "{name}": {value:.4f},')


if __name__ == "__main__":
    main()
