"""How many copies does the leak guard find, at which price? Real sets with their ids hidden, and copies made.

    python benchmarks/leaks.py DATA [--workers 2] [--copies 150] [--scale 35000] [--sheet FOLDER]

DATA: a folder with eyepacs256, eyepacs1024, idrid and eyepacs_fullres. Pairs that no id explains are printed, and with
--sheet drawn, to be judged by eye. Speed: seconds for a set of --scale photographs of ten megapixels, on all workers:
those of eyepacs_fullres under many names for the look, the planes of the real sets, disturbed, for the comparison.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from m2cnn.data import Manifest, Row, import_dataset
from m2cnn.data.guard import write_leak_report
from m2cnn.data.leaks import BYTES, Twin, find_twins, similarities, twin_planes
from m2cnn.data.survey import Seen, look_at_planes, planes_of, survey, with_hashes
from m2cnn.field import find_field
from m2cnn.fingerprint import SAME, SAME_BOX, TERNARY_SAME, planes_of_file, ternary_codes, ternary_likeness
from m2cnn.intervals import wilson
from m2cnn.photograph import PhotographFile, read_image
from m2cnn.preprocess import subtract_local_mean


def real_sets(data: Path) -> Manifest:
    """All photographs as strangers: each its own patient, the set as source."""
    rows: list[Row] = []
    for source, name in (("eyepacs256", "eyepacs"), ("eyepacs1024", "eyepacs"), ("idrid", "idrid")):
        manifest = import_dataset(name, data / source).manifest
        rows += [replace(row, image=f"{source}/{row.image}", source=source) for row in manifest]
    marked = sorted((data / "idrid").glob("A. Segmentation/1. Original Images/*/*.jpg"))
    rows += [Row(str(path.relative_to(data)), f"marked {path.stem}", source="idrid, marked") for path in marked]
    return Manifest(tuple(replace(row, patient=row.image) for row in rows), data)


def stem(image: str) -> str:
    return Path(image).stem


def recall_on_real_sets(manifest: Manifest, seen: dict[str, Seen], twins: list[Twin]) -> None:
    """The pairs that ids or bytes prove, and all other pairs that were found."""
    source = {row.image: row.source for row in manifest}
    found = {frozenset((twin.first, twin.second)): twin for twin in twins}
    by_stem = {(row.source, stem(row.image)): row.image for row in manifest}
    shared = [
        frozenset((image, by_stem["eyepacs256", stem(image)]))
        for image in source
        if source[image] == "eyepacs1024" and ("eyepacs256", stem(image)) in by_stem
    ]
    told("EyePACS 256 = EyePACS 1024 (same id)", sum(pair in found for pair in shared), len(shared))
    told("... by a bundle's fingerprints alone", sum(ternary(seen, pair) for pair in shared), len(shared))
    same_bytes = Counter(row.sha256 for row in manifest if row.source == "idrid")
    doubles = sum(times - 1 for times in same_bytes.values())
    idrid = [twin for twin in twins if source[twin.first] == source[twin.second] == "idrid"]
    told("IDRiD, byte-identical", sum(twin.how == BYTES for twin in idrid), doubles)
    marked = [twin for twin in twins if {source[twin.first], source[twin.second]} == {"idrid", "idrid, marked"}]
    proved = overlap_by_pixels(manifest)
    told("IDRiD segmentation in grading (same pixels)", sum(pair in found for pair in proved), len(proved))
    print(f"IDRiD segmentation = grading: {len(marked)} pairs found for {len(of(source, 'idrid, marked'))} photographs")
    explained = {*shared, *proved}
    rest = [twin for pair, twin in found.items() if pair not in explained and twin.how != BYTES]
    pairs = len(source) * (len(source) - 1) // 2
    print(f"{len(rest)} further pairs among {pairs:,} possible ones, to be judged by eye:")
    for twin in rest:
        print(f"   {twin.first} = {twin.second} ({twin.how}, {twin.similarity:.2f})")


def of(source: dict[str, str], name: str) -> list[str]:
    return [image for image, where in source.items() if where == name]


def ternary(seen: dict[str, Seen], pair: frozenset[str]) -> bool:
    _, planes = planes_of({image: seen[image] for image in pair})
    one, other = ternary_codes(planes[:, 0])
    return bool(ternary_likeness(one[None], other[None])[0, 0] >= TERNARY_SAME)


def overlap_by_pixels(manifest: Manifest) -> list[frozenset[str]]:
    """The pairs of segmentation and grading photographs whose pixels agree: the second author of the fingerprint."""
    small = {}
    for row in manifest:
        if row.source.startswith("idrid"):
            picture = cv2.resize(read_image(manifest.path(row)), (150, 100), interpolation=cv2.INTER_AREA)
            small[row.image] = (row.source, picture.astype(np.float32))
    graded = [(image, picture) for image, (source, picture) in small.items() if source == "idrid"]
    stack = np.stack([picture for _, picture in graded])
    pairs = []
    for image, (source, picture) in small.items():
        if source == "idrid, marked":
            away = np.abs(stack - picture).mean(axis=(1, 2, 3))
            pairs += [frozenset((image, graded[i][0])) for i in np.flatnonzero(away < 3)]
    return pairs


def told(what: str, hits: int, total: int) -> None:
    low, high = wilson(hits, total)
    print(f"{what}: {hits} of {total} ({100 * hits / total:.1f} %, {100 * low:.1f} to {100 * high:.1f})")


# Copies made on purpose


def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def again(image: np.ndarray) -> np.ndarray:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(data, cv2.IMREAD_COLOR)

    return again


def sized(share: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


def cut(top: float, bottom: float, left: float, right: float) -> Callable[[np.ndarray], np.ndarray]:
    def crop(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        return image[
            round(top * height) : round((1 - bottom) * height), round(left * width) : round((1 - right) * width)
        ]

    return crop


def stretched(image: np.ndarray) -> np.ndarray:
    """Each channel from its 2nd to its 98th percentile: what EyePACS 256 went through."""
    low, high = np.percentile(image, (2, 98), axis=(0, 1))
    return ((image - low) / (high - low + 1) * 255).clip(0, 255).astype(np.uint8)


def clahe(image: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(3.0, (8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def graham(image: np.ndarray) -> np.ndarray:
    """Subtracted local mean within the field; black outside, as the usual scripts leave it."""
    lit = (image.max(axis=2) > 20)[..., None]
    return np.where(lit, subtract_local_mean(image, image.shape[0] / 2), 0).astype(np.uint8)


def gamma(power: float) -> Callable[[np.ndarray], np.ndarray]:
    table = (255 * (np.arange(256) / 255) ** power).astype(np.uint8)
    return lambda image: cv2.LUT(image, table)


def rotated(degrees: float) -> Callable[[np.ndarray], np.ndarray]:
    def turn(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return cv2.warpAffine(image, matrix, (width, height))

    return turn


def inner_square(image: np.ndarray) -> np.ndarray:
    field = find_field(image)
    half = field.radius * 0.68
    top, left = max(0, round(field.y - half)), max(0, round(field.x - half))
    return image[top : round(field.y + half), left : round(field.x + half)]


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a third of the size": sized(0.33),
    "JPEG of quality 25": jpeg(25),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "channels stretched": stretched,
    "gamma 1.8": gamma(1.8),
    "red and blue swapped": lambda image: image[..., ::-1],
    "CLAHE": clahe,
    "Graham's local mean": graham,
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), image.shape[0] / 250),
    "top and bottom 8 % cut": cut(0.08, 0.08, 0, 0),
    "a quarter of the left side cut": cut(0, 0, 0.25, 0),
    "aspect 4:3 made square": lambda image: cv2.resize(image, (image.shape[0],) * 2, interpolation=cv2.INTER_AREA),
    "stretched, a third, JPEG 40": lambda image: jpeg(40)(sized(0.33)(stretched(image))),
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "rotated by 5 degrees": rotated(5),
    "rotated by 90 degrees": np.rot90,
    "middle 85 %": cut(0.075, 0.075, 0.075, 0.075),
    "middle 70 %": cut(0.15, 0.15, 0.15, 0.15),
    "square within the field, no rim": inner_square,
}


def recall_on_copies(data: Path, seen: dict[str, Seen], count: int) -> None:
    """Each way of copying: found among all photographs of EyePACS 1024 and IDRiD?"""
    originals = [image for image in seen if image.startswith(("eyepacs1024/", "idrid/B"))]
    images, planes = planes_of({image: seen[image] for image in originals})
    chosen = np.random.default_rng(0).choice(len(images), min(count, len(images)), replace=False)
    for name, change in COPIES.items():
        copies = []
        for number in chosen:
            copy = np.ascontiguousarray(change(read_image(data / images[number])))
            copies.append(planes_of_file(PhotographFile(cv2.imencode(".png", copy[..., ::-1])[1].tobytes())))
        pairs = twin_planes(np.concatenate([planes, np.array(copies)]))
        truth = {(int(number), len(planes) + place) for place, number in enumerate(chosen)}
        told(name, len(truth & {(a, b) for a, b, _, _ in pairs}), len(chosen))
        likeness = ternary_likeness(ternary_codes(planes[chosen, 0]), ternary_codes(np.array(copies)[:, 0]))
        told("   ... by a bundle's fingerprints", int((likeness.diagonal() >= TERNARY_SAME).sum()), len(chosen))


# Price


def strangers(planes: np.ndarray, count: int = 20_000) -> None:
    """The similarity of pairs drawn at random, beside the limit."""
    rng = np.random.default_rng(1)
    pairs = [(a, b) for a, b in rng.integers(0, len(planes), (count, 2)) if a != b]
    for kind, limit, what in ((0, SAME, "fields"), (1, SAME_BOX, "boxes")):
        values = np.array(similarities([(planes[a, kind], planes[b, kind]) for a, b in pairs]))
        quantiles = ", ".join(f"{value:.2f}" for value in np.quantile(values, (0.5, 0.99, 0.9999)))
        print(f"{len(values):,} pairs at random, {what}: quantiles 50, 99, 99.99 %: {quantiles}; limit {limit}")


def speed(data: Path, planes: np.ndarray, scale: int, workers: int) -> None:
    """Seconds for `scale` photographs: the look (measured on a part of them), the comparison (on all)."""
    part = min(scale, 2000)
    files = sorted((data / "eyepacs_fullres" / "train").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        for number in range(part):
            os.symlink(files[number % len(files)], Path(folder) / f"{number}.jpeg")
        manifest = Manifest(tuple(Row(f"{number}.jpeg", str(number)) for number in range(part)), Path(folder))
        started = time.perf_counter()
        survey(manifest, look_at_planes, Path(folder) / "memory", workers)
        look = (time.perf_counter() - started) * scale / part
    rng = np.random.default_rng(2)
    many = np.stack([[disturbed(plane, rng) for plane in planes[i % len(planes)]] for i in range(scale)])
    started = time.perf_counter()
    twin_planes(many, workers)
    compare = time.perf_counter() - started
    print(f"{scale:,} photographs, {workers} workers: look {look:.0f} s ({part} measured), compare {compare:.0f} s")
    print(f"together {(look + compare) / 60:.1f} minutes")


def disturbed(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another eye as far as the codes can tell: a plane turned, moved and noisy."""
    matrix = cv2.getRotationMatrix2D((31.5, 31.5), rng.uniform(0, 360), rng.uniform(0.9, 1.1))
    matrix[:, 2] += rng.uniform(-6, 6, 2)
    moved = np.fliplr(plane) if rng.random() < 0.5 else plane
    warped = cv2.warpAffine(np.ascontiguousarray(moved), matrix, (64, 64), borderMode=cv2.BORDER_REFLECT)
    return (warped + rng.normal(0, 6, warped.shape)).clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--copies", type=int, default=150)
    parser.add_argument("--scale", type=int, default=35_000)
    parser.add_argument("--sheet", type=Path, help="folder for the sheet of pairs that no id explains")
    options = parser.parse_args()
    manifest = real_sets(options.data)
    with tempfile.TemporaryDirectory() as memory:
        seen = survey(manifest, look_at_planes, memory, options.workers)
    manifest = with_hashes(manifest, seen)
    twins = find_twins(manifest, seen, options.workers)
    recall_on_real_sets(manifest, seen, twins)
    if options.sheet:
        write_leak_report(options.sheet, manifest, [twin for twin in twins if stem(twin.first) != stem(twin.second)])
    _, planes = planes_of(seen)
    strangers(planes)
    recall_on_copies(options.data, seen, options.copies)
    speed(options.data, planes, options.scale, options.workers)


if __name__ == "__main__":
    main()
