"""How far are rendered photographs from real ones? Colours, vessels, lesions, and classifiers that tell them apart.

    python benchmarks/renderer.py DATA [--count 300] [--seed 1] [--sheets FOLDER]

DATA: a folder with eyepacs1024, eyepacs256, idrid and weights. Each real set is compared with photographs of the camera
that is fitted to it, with the same frequencies of grades; eyepacs256, whose colours are stretched, with those of the
camera `eyepacs` stretched likewise. All pictures are cropped to the field at 512 px. CPU only, about ten minutes.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from safetensors.torch import load_file
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from m2cnn.bootstrap import bootstrap, interval
from m2cnn.data import import_dataset
from m2cnn.errors import ImageError
from m2cnn.field import Field, find_field
from m2cnn.metrics import auc, auc_of_ranking, rank
from m2cnn.photograph import read_image
from m2cnn.preprocess import Preprocess
from m2cnn.synthetic import render, render_patients
from m2cnn.synthetic.dataset import encode

SIDE = 512
SETS = {"eyepacs1024": "eyepacs", "idrid": "idrid", "eyepacs256": "eyepacs"}  # real set: camera
STRETCHED = "eyepacs256"
LEVELS = (5, 25, 50, 75, 95)
SIGMAS = (0.7, 1.4, 2.8, 5.6, 11.2)  # px of 512
Y, X = (np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2) / (SIDE / 2)
AWAY = np.hypot(X, Y)
GROUNDTRUTH = "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set"
MASKS = {
    "microaneurysm": ("1. Microaneurysms", "MA"),
    "haemorrhage": ("2. Haemorrhages", "HE"),
    "hard_exudate": ("3. Hard Exudates", "EX"),
    "cotton_wool": ("4. Soft Exudates", "SE"),
}


@dataclass
class Measured:
    """Photographs of one kind: pixels (M, 3), features, thumbnails (224 px), patients, grades."""

    name: str
    pixels: list[np.ndarray] = field(default_factory=list)
    features: list[dict[str, float]] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)

    def add(self, image: np.ndarray, patient: str, grade: int) -> None:
        try:
            picture = Preprocess()(image, SIDE, find_field(image))
        except ImageError:
            return
        seen = visible(picture)
        self.pixels.append(picture[seen][:: max(1, int(seen.sum()) // 2000)])
        self.features.append(features(picture, seen))
        self.thumbnails.append(cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA))
        self.patients.append(patient)
        self.grades.append(grade)

    def column(self, name: str, healthy: bool = False) -> np.ndarray:
        """(N,) of one feature; healthy: only of grades 0 and 1, whose dark lines are vessels."""
        rows = zip(self.features, self.grades, strict=True)
        return np.array([row[name] for row, grade in rows if not healthy or grade <= 1])


def visible(picture: np.ndarray) -> np.ndarray:
    """(S, S) bool: the inner 95 % of the field, without what the frame cuts off."""
    dark = cv2.blur(picture.max(axis=2), (9, 9)) < 8
    lit = cv2.erode((~dark).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return lit & (AWAY < 0.95)


# Features


def features(picture: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """Colour, light, texture and vessels of one picture (S, S, 3) uint8, as numbers."""
    values = picture[seen].astype(np.float32)
    row = {
        f"{colour} {level} %": float(value)
        for level in LEVELS
        for colour, value in zip("rgb", np.percentile(values, level, axis=0), strict=True)
    }
    return row | rings(picture, seen) | bands(picture, seen) | vessels(picture, seen)


def rings(picture: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """Log brightness of six rings beside that of the whole, and how much of the circle is seen."""
    row = {"seen": float(seen.mean())}
    whole = np.median(picture[seen], axis=0) + 1
    for ring in range(6):
        here = seen & (ring / 6 <= AWAY) & ((ring + 1) / 6 > AWAY)
        level = np.median(picture[here], axis=0) + 1 if here.any() else whole
        row |= {f"{c} ring {ring}": float(v) for c, v in zip("rgb", np.log(level / whole), strict=True)}
    return row


def bands(picture: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """How much structure there is at each scale, in shares of the brightness, and how alike the channels are."""
    row, mean = {}, picture[seen].mean(axis=0) + 1
    layers = [picture.astype(np.float32)]
    layers += [cv2.GaussianBlur(layers[0], (0, 0), sigma) for sigma in SIGMAS]
    for number, (fine, coarse) in enumerate(pairwise(layers)):
        detail = (fine - coarse)[seen]
        spread = detail.std(axis=0)
        row |= {f"{c} band {number}": float(v) for c, v in zip("rgb", np.log(spread / mean + 1e-4), strict=True)}
        with np.errstate(invalid="ignore", divide="ignore"):  # a flat channel is like nothing
            likeness = np.nan_to_num(np.corrcoef(detail.T))
        row |= {f"rg band {number}": float(likeness[0, 1]), f"gb band {number}": float(likeness[1, 2])}
        row[f"skew band {number}"] = float(((detail[:, 1] / (spread[1] + 1e-3)) ** 3).mean())
    return row


def vessels(picture: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """A simple segmentation, the same for all: dark lines of the green channel that are long enough.

    density: share of the field.  depth: log contrast in each channel to the closed picture beside.
    """
    logs = np.log(cv2.GaussianBlur(picture, (0, 0), 1.2).astype(np.float32) + 4)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (19, 19))
    depth = cv2.morphologyEx(logs, cv2.MORPH_CLOSE, disc) - logs
    inner = seen & (AWAY < 0.9)
    dark = ((depth[..., 1] > 0.10) & inner).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    long = (np.maximum(stats[:, 2], stats[:, 3]) > 40) & (stats[:, 4] > 100)
    long[0] = False
    lines = long[labels]
    row = {"vessel density": float(lines.sum() / inner.sum())}
    means = depth[lines].mean(axis=0) if lines.any() else np.zeros(3)
    return row | {f"{colour} vessel depth": float(value) for colour, value in zip("rgb", means, strict=True)}


# Photographs


def real(folder: Path, name: str, count: int, seed: int) -> Measured:
    manifest = import_dataset("idrid" if name == "idrid" else "eyepacs", folder / name).manifest.graded()
    rows = list(manifest.rows)
    np.random.default_rng(seed).shuffle(rows)
    found = Measured(name)
    for row in tqdm(rows[:count], desc=name):
        found.add(read_image(manifest.path(row)), f"{name} {row.patient}", row.grade)
    return found


def rendered(camera: str, like: Measured, count: int, seed: int, stretch: bool) -> Measured:
    """Rendered photographs, JPEG of quality 95 as `m2cnn data render` writes them, with the grades of a real set."""
    found = Measured(f"rendered, {camera}" + (", stretched" if stretch else ""))
    weights = tuple(np.bincount(like.grades, minlength=5).astype(float))
    patients = render_patients(count // 2, seed, 720, grades=weights, camera=camera)
    for patient, _, grade, one in tqdm(patients, desc=found.name, total=count // 2 * 2):
        image = cv2.imdecode(np.frombuffer(encode(one.image, "jpeg"), np.uint8), 1)[..., ::-1]
        image = np.ascontiguousarray(image)
        found.add(stretched(image) if stretch else image, f"rendered {patient}", grade)
    return found


def stretched(image: np.ndarray) -> np.ndarray:
    """What was done to eyepacs256: 256 px, each channel stretched until both its ends are clipped."""
    place = find_field(image)
    picture = Preprocess()(image, 256, Field(place.x, place.y, place.radius)).astype(np.float32)
    low, high = np.percentile(picture[picture.max(axis=2) > 8], [2, 90], axis=0)
    return ((picture - low) / (high - low + 1) * 255).clip(0, 255).astype(np.uint8)


# Comparisons


def colours(one: Measured, other: Measured) -> Iterator[str]:
    """Per channel: quantiles of all pixels, and Wasserstein distances in grey levels, of pixels and of medians."""
    for channel, colour in enumerate(("red", "green", "blue")):
        a, b = (np.concatenate(m.pixels)[:, channel].astype(float) for m in (one, other))
        medians = (np.array([np.median(p[:, channel]) for p in m.pixels]) for m in (one, other))
        quantiles = " ".join(
            f"{x:.0f}/{y:.0f}" for x, y in zip(*(np.percentile(v, LEVELS) for v in (a, b)), strict=True)
        )
        far = wasserstein(a, b), wasserstein(*medians)
        yield f"{colour:<6} {quantiles:<40} pixels {far[0]:.1f}, medians {far[1]:.1f}"


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance between the quantiles of two samples."""
    at = np.linspace(0.5, 99.5, 200)
    return float(np.abs(np.percentile(a, at) - np.percentile(b, at)).mean())


def vessel_lines(one: Measured, other: Measured) -> Iterator[str]:
    for name in ("vessel density", "r vessel depth", "g vessel depth", "b vessel depth"):
        a, b = (m.column(name, healthy=True) for m in (one, other))
        yield f"{name}: {a.mean():.3f} (sd {a.std():.3f}) / {b.mean():.3f} (sd {b.std():.3f})"


def lesions(folder: Path, seed: int) -> Iterator[str]:
    """Count per photograph and sizes in DD: IDRiD's masks, and rendered ones of grades 2 to 4 by the same camera."""
    truth = folder / "idrid" / GROUNDTRUTH
    discs = {path.stem[:8]: diameter(read_mask(path)) for path in sorted((truth / "5. Optic Disc").iterdir())}
    ours = [render(seed, 2 + n % 3, patient=n, camera="idrid", size=800) for n in range(54)]
    for kind, (subfolder, code) in MASKS.items():
        paths = sorted((truth / subfolder).iterdir())
        theirs = [(read_mask(path), discs[path.stem.removesuffix(f"_{code}")]) for path in paths]
        drawn = [(one.masks[kind], 2 * one.disc[2]) for one in ours if kind in one.masks]
        yield f"{kind} (IDRiD):    {spots(theirs)}"
        yield f"{kind} (rendered): {spots(drawn)}"


def read_mask(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0


def diameter(mask: np.ndarray) -> float:
    return float(2 * np.sqrt(mask.sum() / np.pi))


def spots(masks: list[tuple[np.ndarray, float]]) -> str:
    counts, sizes = [], []
    for mask, disc in masks:
        areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:, 4]
        counts.append(len(areas))
        sizes += list(2 * np.sqrt(areas / np.pi) / disc)
    count = "/".join(f"{v:.0f}" for v in np.percentile(counts, (25, 50, 75)))
    size = "/".join(f"{v:.3f}" for v in np.percentile(sizes, LEVELS))
    return f"{len(masks)} photographs, {count} each, {size} DD"


def deep_features(folder: Path, thumbnails: list[np.ndarray]) -> np.ndarray:
    """(N, C) of the pretrained MobileNet before its classifier, frozen."""
    net = timm.create_model("mobilenet_edgetpu_100", pad_type="same")
    net.blocks[0][0].bn1.act = torch.nn.Identity()  # the weights were trained without it
    net.load_state_dict(load_file(folder / "weights" / "mobilenet_edgetpu_100.safetensors"), strict=False)
    net.eval()
    vectors = []
    for start in range(0, len(thumbnails), 32):
        batch = torch.from_numpy(np.stack(thumbnails[start : start + 32])).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            vectors.append(net.forward_head(net.forward_features(batch), pre_logits=True).numpy())
    return np.concatenate(vectors)


def told_apart(table: np.ndarray, one: Measured, other: Measured, model) -> tuple[str, np.ndarray]:
    """AUC of real against rendered, 5-fold by patient, with its 95 % interval over patients; and the scores."""
    truth = np.repeat([1, 0], [len(one.grades), len(other.grades)])
    names, patient = np.unique(one.patients + other.patients, return_inverse=True)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    score = cross_val_predict(model, table, truth, groups=patient, cv=folds, method="predict_proba")[:, 1]
    ranking = rank(truth, score)
    replicates = bootstrap(lambda counts: auc_of_ranking(ranking, counts[:, patient])[:, None], len(names), 1000)
    low, high = interval(replicates[:, 0])
    return f"{auc(truth, score):.3f} ({low:.3f} to {high:.3f})", score


def classifiers(folder: Path, one: Measured, other: Measured) -> Iterator[str]:
    names = list(one.features[0])
    table = np.array([[row[name] for name in names] for row in one.features + other.features])
    truth = np.repeat([1, 0], [len(one.grades), len(other.grades)])
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=3000))
    yield f"hand features, logistic regression: AUC {told_apart(table, one, other, linear)[0]}"
    trees = HistGradientBoostingClassifier(max_iter=150, random_state=0)
    yield f"hand features, gradient boosting:   AUC {told_apart(table, one, other, trees)[0]}"
    deep = deep_features(folder, one.thumbnails + other.thumbnails)
    yield f"frozen MobileNet, logistic:         AUC {told_apart(deep, one, other, linear)[0]}"
    alone = sorted(((abs(auc(truth, column) - 0.5) + 0.5, name) for name, column in zip(names, table.T, strict=True)))
    yield "single features that tell most: " + ", ".join(f"{name} {value:.2f}" for value, name in alone[:-11:-1])


def speed(count: int = 40) -> str:
    started = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for n in range(count):
        render(3, n % 5, patient=n)
    return (
        f"{(resource.getrusage(resource.RUSAGE_SELF).ru_utime - started) / count:.3f} CPU seconds per 720 px photograph"
    )


def sheet(path: Path, one: Measured, other: Measured) -> None:
    """Real and rendered photographs in turn, to look at."""
    pairs = [picture for pair in zip(one.thumbnails[:16], other.thumbnails[:16], strict=False) for picture in pair]
    rows = [np.hstack(pairs[start : start + 8]) for start in range(0, len(pairs), 8)]
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=300, help="photographs of each kind (default: 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--sheets", type=Path, help="folder for pictures of both side by side; real ones: keep private")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(speed())
    for name in options.sets:
        one = real(options.data, name, options.count, options.seed)
        other = rendered(SETS[name], one, options.count, options.seed, name == STRETCHED)
        print(f"\n{name} / {other.name}: {len(one.grades)} and {len(other.grades)} photographs")
        for line in (*colours(one, other), *vessel_lines(one, other), *classifiers(options.data, one, other)):
            print("  " + line, flush=True)
        if options.sheets:
            sheet(options.sheets / f"{name}.png", one, other)
    if "idrid" in options.sets:
        print("\nlesions", *lesions(options.data, options.seed), sep="\n  ")


if __name__ == "__main__":
    main()
