"""Pictures that are no fundus photograph: what a clinic's folder holds by mistake, and what a check may fall for.

    python benchmarks/no_fundus.py [--count 600] [--seed 0] [--out FOLDER]

Scenes that scikit-image and scikit-learn carry, whole and cut to a round field; documents, noise, outer eyes and
OCT-like pictures, drawn here; smooth, shaded or lettered discs. Without --out it says how many of each kind
`m2cnn.quality.check_fundus` accepts, with Wilson's interval; with it, the pictures are written as PNG to be looked at.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import sklearn.datasets
from tqdm import tqdm

from m2cnn.intervals import wilson
from m2cnn.quality import check_fundus

SCENES = (
    *("astronaut", "cat", "coffee", "colorwheel", "hubble_deep_field", "immunohistochemistry", "logo", "rocket"),
    *("camera", "page", "text", "moon", "brick", "grass", "gravel", "coins", "clock", "horse", "checkerboard"),
)
SIDE, RADIUS = 400, 190
Rng = np.random.Generator
Picture = np.ndarray


@lru_cache
def scenes() -> list[Picture]:
    """The pictures that scikit-image and scikit-learn carry, but for the retina; RGB."""
    shipped = [np.asarray(getattr(skimage.data, name)()) for name in SCENES]
    shipped += [np.asarray(picture) for picture in sklearn.datasets.load_sample_images().images]
    grey = [picture.astype(np.uint8) * 255 if picture.dtype == bool else picture for picture in shipped]
    return [p[..., :3] if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in grey]


def scene(number: int, rng: Rng) -> Picture:
    """A scene, whole or a rectangle of it."""
    picture = scenes()[number % len(scenes())]
    if number < len(scenes()):
        return np.ascontiguousarray(picture)
    height, width = (int(length * rng.uniform(0.4, 1)) for length in picture.shape[:2])
    top, left = (
        rng.integers(length - side + 1) for length, side in zip(picture.shape[:2], (height, width), strict=True)
    )
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def round_scene(number: int, rng: Rng) -> Picture:
    """A square of a scene in a round field; some are contrast-stretched as EyePACS 256 is, tinted or blurred."""
    picture = scenes()[number % len(scenes())]
    side = int(min(picture.shape[:2]) * rng.uniform(0.3, 1))
    top, left = (rng.integers(length - side + 1) for length in picture.shape[:2])
    picture = cv2.resize(picture[top : top + side, left : left + side], (SIDE, SIDE)).astype(np.float32)
    if rng.random() < 0.4:
        low, high = np.percentile(picture, [1, 99], axis=(0, 1))
        picture = (picture - low) / (high - low + 1) * 255
    elif rng.random() < 0.3:
        picture *= np.array([1, 0.6, 0.3], np.float32)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1, 4))
    return rounded(picture, rng)


def disc(number: int, rng: Rng) -> Picture:
    """A disc of a plain colour with shading, clouds, letters and noise."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
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
    return rounded(picture + rng.normal(0, rng.choice([0, 1, 4, 12]), picture.shape), rng)


def rounded(picture: Picture, rng: Rng) -> Picture:
    """(SIDE, SIDE, 3) in a round field on black; in some the frame cuts it above and below."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    shown = np.where((np.hypot(rows, columns) <= RADIUS)[..., None], picture, 0).clip(0, 255).astype(np.uint8)
    return shown[60:340] if rng.random() < 0.4 else shown


def document(number: int, rng: Rng) -> Picture:
    """A page: lines of letters, a table or a form's boxes, on paper or a dark screen."""
    height, width = (int(side) for side in rng.integers(350, 700, 2))
    paper, ink = (rng.uniform(200, 255, 3), rng.uniform(0, 70, 3))
    if rng.random() < 0.2:
        paper, ink = ink, paper
    page = np.full((height, width, 3), paper, np.uint8)
    pitch, colour = int(rng.integers(14, 34)), tuple(map(float, ink))
    for y in range(pitch * 2, height - pitch, pitch):
        letters = "".join(chr(rng.integers(97, 123)) if rng.random() > 0.15 else " " for _ in range(width // 9))
        cv2.putText(page, letters[: rng.integers(3, len(letters))], (20, y), 0, pitch / 40, colour, 1, cv2.LINE_AA)
    for _ in range(rng.integers(0, 8)):
        corner = rng.integers(0, (width, height))
        size = rng.integers(20, 200, 2)
        cv2.rectangle(page, tuple(map(int, corner)), tuple(map(int, corner + size)), colour, int(rng.integers(1, 4)))
    if rng.random() < 0.3:  # a stamp
        centre = (int(rng.integers(60, width - 60)), int(rng.integers(60, height - 60)))
        cv2.circle(page, centre, int(rng.integers(30, 150)), tuple(map(float, rng.uniform(0, 255, 3))), 3)
    return (page + rng.normal(0, rng.uniform(0, 5), page.shape)).clip(0, 255).astype(np.uint8)


def noise(number: int, rng: Rng) -> Picture:
    """Noise of some grain, grey or coloured, with or without a gradient; some in a round field."""
    picture = rng.normal(0, 1, (SIDE, SIDE, 3 if rng.random() < 0.5 else 1))
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 30)).reshape(SIDE, SIDE, -1)
    picture = np.broadcast_to(picture / picture.std(), (SIDE, SIDE, 3)) * rng.uniform(5, 80) + rng.uniform(40, 200, 3)
    if rng.random() < 0.4:
        picture = picture + np.linspace(-100, 100, SIDE)[:, None, None] * rng.uniform(-1, 1)
    return rounded(picture, rng) if rng.random() < 0.5 else picture.clip(0, 255).astype(np.uint8)


def outer_eye(number: int, rng: Rng) -> Picture:
    """A face's eye as a phone sees it: skin, lids, sclera with vessels, iris, pupil, reflex, lashes; some are round."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    skin = np.array([224, 172, 140]) * rng.uniform(0.35, 1.1)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE)), (0, 0), 2)[..., None]
    picture = skin * (1 - 0.25 * rows[..., None] / SIDE) + grain * rng.uniform(5, 25)
    wide, high = rng.uniform(120, 195), rng.uniform(50, 110)
    open_eye = np.abs(rows) < high * np.clip(1 - (columns / wide) ** 2, 0, None)
    sclera = np.array([235, 225, 220]) * rng.uniform(0.7, 1.05)
    picture = np.where(open_eye[..., None], sclera - 15 * np.abs(columns[..., None]) / wide, picture)
    picture = np.ascontiguousarray(picture, np.float32)
    for _ in range(rng.integers(0, 25)):  # vessels of the sclera
        points = np.cumsum(rng.normal(0, 7, (8, 2)), axis=0) + rng.uniform(-0.8, 0.8, 2) * (wide, high) + SIDE / 2
        cv2.polylines(picture, [points.astype(np.int32)], False, (190.0, 70.0, 70.0), 1, cv2.LINE_AA)
    picture = np.where(open_eye[..., None], picture, np.where(open_eye[..., None], 0, picture))
    iris, x = rng.uniform(0.55, 0.95) * high, rng.uniform(-0.3, 0.3) * wide
    away, angle = np.hypot(rows, columns - x), np.arctan2(rows, columns - x)
    colour = np.array([[90, 60, 35], [80, 110, 140], [95, 115, 75]][rng.integers(3)]) * rng.uniform(0.6, 1.3)
    rays = 1 + 0.25 * np.sin(angle * rng.integers(20, 60) + rng.uniform(0, 6))
    picture = np.where(((away < iris) & open_eye)[..., None], colour * rays[..., None], picture)
    picture = np.where(((away < iris * rng.uniform(0.3, 0.6)) & open_eye)[..., None], 12, picture)
    reflex = np.hypot(rows + iris * 0.3, columns - x - iris * 0.3) < iris * 0.15
    picture = np.ascontiguousarray(np.where(reflex[..., None], 250, picture), np.float32)
    for place in np.linspace(-0.9, 0.9, rng.integers(0, 40)):  # lashes
        y = -high * (1 - place**2)
        start = (int(SIDE / 2 + place * wide), int(SIDE / 2 + y))
        tip = (int(SIDE / 2 + place * wide * 1.15), int(SIDE / 2 + y - rng.uniform(15, 45)))
        cv2.line(picture, start, tip, (30.0, 20.0, 15.0), 2, cv2.LINE_AA)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 2)) + rng.normal(0, 2, picture.shape)
    return rounded(picture, rng) if rng.random() < 0.4 else picture.clip(0, 255).astype(np.uint8)


def oct_scan(number: int, rng: Rng) -> Picture:
    """A section of a retina as OCT shows it: bright and dark layers with a pit, speckle; grey or in false colours."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    pit = rng.uniform(10, 60) * np.exp(-(((columns - rng.uniform(120, 280)) / rng.uniform(30, 70)) ** 2))
    top = rng.uniform(90, 180) + pit + 8 * np.sin(columns / rng.uniform(40, 120)) + rng.uniform(-0.15, 0.15) * columns
    depth = (rows - top) / rng.uniform(90, 150)
    edges = np.sort(rng.uniform(0, 1, 7))
    light = rng.uniform(20, 230, 8)
    picture = np.select([depth < edge for edge in (0, *edges)], [rng.uniform(5, 30), *light[:7]], light[7])
    picture = np.where(depth > 1, light[7] * np.exp(-3 * (depth - 1)), picture)
    picture = picture * rng.gamma(4, 1 / 4, picture.shape)  # speckle
    grey = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.5)).clip(0, 255).astype(np.uint8)
    false = rng.random() < 0.3
    shown = cv2.applyColorMap(grey, cv2.COLORMAP_JET)[..., ::-1] if false else np.repeat(grey[..., None], 3, axis=2)
    return rounded(shown, rng) if rng.random() < 0.3 else np.ascontiguousarray(shown)


KINDS: dict[str, Callable[[int, Rng], Picture]] = {
    "scene": scene,
    "round scene": round_scene,
    "disc": disc,
    "document": document,
    "noise": noise,
    "outer eye": outer_eye,
    "OCT": oct_scan,
}


def pictures(count: int, seed: int = 0) -> Iterator[tuple[str, int, Picture]]:
    """(kind, number, picture), as many of each kind; those of another seed are others, but for the whole scenes."""
    for number in range(-(-count // len(KINDS))):
        for place, (kind, make) in enumerate(KINDS.items()):
            yield kind, number, make(number, np.random.default_rng([seed, place, number]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    accepted: dict[str, list[bool]] = defaultdict(list)
    for kind, number, picture in tqdm(pictures(options.count, options.seed), total=options.count):
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(options.out / f"{kind.replace(' ', '-')}-{number}.png"), picture[..., ::-1])
        accepted[kind].append(check_fundus(picture) == "")
        accepted["all"].append(accepted[kind][-1])
    for kind, answers in accepted.items():
        low, high = wilson(sum(answers), len(answers))
        print(f"{kind}: {sum(answers)} of {len(answers)} accepted, {100 * low:.1f} to {100 * high:.1f} %")


if __name__ == "__main__":
    main()
