"""A map as a picture for people: the photograph in colour, and in grey with the map on it, a colour bar and words.

The colours are viridis: their order is seen with every kind of colour vision, and in print without colour. Where the
map is 0 the grey photograph shows through.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from m2cnn.explain.shown import Shown
from m2cnn.grades import DISCLAIMER

SIDE = 480  # px of each of the two pictures
GAP, BAR, TICKS = 12, 18, 64  # px: between parts, the bar's width, room for its numbers
LINE, FONT = 20, 15  # px
WIDE = 118  # letters of a line
TOP = 0.998  # quantile of the retina's places at which the colours end: a few hot pixels must not dim the rest
STRONGEST = 0.85  # of the map over the photograph, where the map is highest
INK, PAPER, ALARM = (20, 20, 20), (255, 255, 255), (180, 60, 0)


def overlay(
    shown: Shown, heat: np.ndarray, words: Sequence[str], warning: str, boxes: Sequence[Sequence[int]] = ()
) -> bytes:
    """A PNG. heat: (S, S), its positive part is drawn.  words: lines below.  warning: "" or what is printed in red.

    boxes: top, left, bottom, right in px of the picture, drawn as frames.
    """
    lines = [line for text in words for line in textwrap.wrap(text, WIDE)]
    alarm = textwrap.wrap(f"WARNING: {warning}", WIDE) if warning else []
    top = _top(heat[shown.inside])
    width = 2 * SIDE + 4 * GAP + BAR + TICKS
    height = SIDE + 2 * GAP + LINE * (len(lines) + len(alarm) + 1) + GAP
    page = Image.new("RGB", (width, height), PAPER)
    page.paste(Image.fromarray(_sized(shown.picture)), (GAP, GAP))
    page.paste(Image.fromarray(_blended(shown.picture, heat, top, boxes)), (SIDE + 2 * GAP, GAP))
    _draw_bar(page, (2 * SIDE + 3 * GAP, GAP), top)
    _write(page, (GAP, SIDE + 2 * GAP), [*((line, ALARM) for line in alarm), *((line, INK) for line in lines)])
    _write(page, (GAP, height - LINE - GAP // 2), [(DISCLAIMER, INK)])
    return cv2.imencode(".png", np.asarray(page)[..., ::-1])[1].tobytes()


def _top(values: np.ndarray) -> float:
    """The value of the brightest colour; 0 for a blank map."""
    most = float(np.quantile(values, TOP))
    return most if most > 0 else max(float(values.max()), 0.0)


def _sized(picture: np.ndarray) -> np.ndarray:
    shrinks = len(picture) >= SIDE
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _colours(values: np.ndarray) -> np.ndarray:
    """(H, W) in 0..1 -> (H, W, 3) uint8 RGB."""
    return cv2.applyColorMap(np.rint(255 * values).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]


def _blended(picture: np.ndarray, heat: np.ndarray, top: float, boxes: Sequence[Sequence[int]]) -> np.ndarray:
    grey = np.repeat(_sized(picture).mean(axis=2, keepdims=True), 3, axis=2)
    share = np.clip(_sized(np.maximum(heat, 0).astype(np.float32)) / (top or 1), 0, 1)
    opaque = STRONGEST * np.sqrt(share)[..., None]
    blended = np.rint((1 - opaque) * grey + opaque * _colours(share)).astype(np.uint8)
    scale = SIDE / len(picture)
    for upper, left, lower, right in boxes:
        corners = [(round(x * scale), round(y * scale)) for x, y in ((left, upper), (right, lower))]
        cv2.rectangle(blended, *corners, PAPER, 2)
    return blended


def _draw_bar(page: Image.Image, corner: tuple[int, int], top: float) -> None:
    """From 0 at the bottom to `top` and what lies above; `top` 0: the map is blank, the bar has no number but 0."""
    left, upper = corner
    ramp = np.repeat(np.linspace(1, 0, SIDE)[:, None], BAR, axis=1)
    page.paste(Image.fromarray(_colours(ramp)), corner)
    for share in (0, 0.25, 0.5, 0.75, 1) if top else (0,):
        place = (left + BAR + 4, upper + round((1 - share) * (SIDE - FONT - 2)))
        _write(page, place, [(f"{share * top:.2g}" + "+" * (share == 1), INK)])


def _write(page: Image.Image, corner: tuple[int, int], lines: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(FONT)
    for number, (text, colour) in enumerate(lines):
        draw.text((corner[0], corner[1] + LINE * number), text, colour, font)
