"""The retina as the camera sees it: anatomy and lesions put together in log reflectance, then lit and exposed.

In logarithms blood takes light away by addition (Beer-Lambert), and whatever covers the retina pulls towards its own
colour. Pictures are planes here, (3, S, S): several times faster than pixels of three in NumPy.
"""

from __future__ import annotations

import cv2
import numpy as np

from m2cnn.synthetic.anatomy import Anatomy
from m2cnn.synthetic.paint import canvas, coverage, fill, smooth_noise, soften, strips
from m2cnn.synthetic.spots import COVERS, Lesion
from m2cnn.synthetic.view import View

PIGMENT = np.float32([0.55, 1.0, 1.05])  # how strongly melanin and macular pigment darken red, green, blue
BLOOD = np.float32([0.24, 0.72, 0.52])  # the same for a full vein's blood
MOTTLING = ((5, np.float32(0.10)), (14, np.float32(0.05)), (45, np.float32(0.03)))  # bumps along the frame, log density
SPECKS = np.float32(0.09)
DISC = np.log([255.0, 196.0, 128.0])
CUP = np.log([255.0, 240.0, 190.0])


def tissue(anatomy: Anatomy, view: View, rng: np.random.Generator) -> np.ndarray:
    """Log colour (3, S, S) float32 of the retina without disc and vessels: pigment, mottling, choroid, macula."""
    style, half = anatomy.style, (view.size + 1) // 2
    mottling = sum(amount * smooth_noise(rng, cells, half) for cells, amount in MOTTLING)
    choroid = np.abs(smooth_noise(rng, 22, half) + 0.4 * smooth_noise(rng, 40, half))
    pigment = mottling * np.float32(style.mottling) + _macula(anatomy, view, half)
    if style.tessellation:
        pigment += np.float32(0.16 * style.tessellation) * (np.minimum(choroid, 1) - 0.6)
    pigment = _double(pigment, view.size)
    grain = smooth_noise(rng, 180, view.size)
    # Single grains are dark specks: softer than microaneurysms, and not to be told from them in a small picture.
    pigment += np.float32(0.034 * style.mottling) * grain + SPECKS * np.maximum(grain - np.float32(1.9), 0)
    flush = _flush(anatomy, view, rng)
    tints = zip(style.colour, PIGMENT, BLOOD, strict=True)
    return np.stack([np.float32(colour) - pigment * k - flush * b for colour, k, b in tints])


def _flush(anatomy: Anatomy, view: View, rng: np.random.Generator) -> np.ndarray:
    """Blood in the choroid, (S, S) float32: patches, red as haemorrhages from afar, so that colour tells no grade."""
    patches = sum(smooth_noise(rng, cells, 128) for cells in (3, 7))
    coarse = np.float32(0.06) * patches + np.float32(anatomy.flush)
    return cv2.resize(coarse, (view.size, view.size), interpolation=cv2.INTER_LINEAR)


def _double(half: np.ndarray, size: int) -> np.ndarray:
    return np.ascontiguousarray(cv2.resize(half, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)[:size, :size])


def _macula(anatomy: Anatomy, view: View, half: int) -> np.ndarray:
    """Extra pigment: a broad macula and a small dark foveola, less around the disc's rim."""
    x, y = _retina_grid(view, half)
    d2 = (x - anatomy.fovea[0]) ** 2 + (y - anatomy.fovea[1]) ** 2
    dark = 0.30 * np.exp(d2 * np.float32(-1 / (2 * 0.60**2))) + 0.30 * np.exp(d2 * np.float32(-1 / (2 * 0.17**2)))
    halo = np.exp((x * x + y * y) * np.float32(-1 / (2 * 0.9**2)))
    return np.float32(anatomy.style.macula) * dark - np.float32(0.22) * halo


def _retina_grid(view: View, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Retina coordinates of every second pixel, two (half, half) float32."""
    at = np.arange(half) * 2 + 0.5
    corner, right, down = view.retina(np.array([[0.5, 0.5], [2.5, 0.5], [0.5, 2.5]]))
    n = (at / 2 - 0.25).astype(np.float32)
    (ax, ay), (bx, by) = (right - corner).astype(np.float32), (down - corner).astype(np.float32)
    return corner[0].astype(np.float32) + n[None, :] * ax + n[:, None] * bx, (
        corner[1].astype(np.float32) + n[None, :] * ay + n[:, None] * by
    )


def add_disc(picture: np.ndarray, anatomy: Anatomy, view: View) -> None:
    """Blend disc and cup into (3, S, S) in place."""
    rows, columns = _around(view, (0.0, 0.0), 0.9)
    x, y = _patch_grid(view, rows, columns)
    wide, high = anatomy.disc
    away = np.hypot(x / wide, y / high)
    from_cup = np.hypot((x - anatomy.cup_at[0]) / wide, (y - anatomy.cup_at[1]) / high)
    pallor = np.float32(anatomy.style.disc_pallor)
    rim = (
        _step(1 - away, 0.14) * pallor * (np.float32(0.92) + np.float32(0.12) * x / np.float32(wide))
    )  # paler temporally
    _cover(picture[:, rows, columns], rim, DISC)
    _cover(picture[:, rows, columns], _step(anatomy.cup - from_cup, 0.30) * pallor * np.float32(0.75), CUP)


def _cover(picture: np.ndarray, amount: np.ndarray, log_colour: np.ndarray) -> None:
    """Pull planes (3, h, w) towards a colour by `amount` (h, w) of 0..1, in place."""
    for plane, colour in zip(picture, log_colour, strict=True):
        plane += amount * (np.float32(colour) - plane)


def _step(distance: np.ndarray, width: float) -> np.ndarray:
    t = np.clip(distance / np.float32(width) + np.float32(0.5), 0, 1)
    return t * t * (3 - 2 * t)


def _around(view: View, at: tuple[float, float], reach: float) -> tuple[slice, slice]:
    """The rows and columns of the picture within `reach` DD of a retina point."""
    x, y = view.pixels(np.array(at))
    r = reach * view.scale
    low, high = np.clip([[y - r, x - r], [y + r, x + r]], 0, view.size).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def _patch_grid(view: View, rows: slice, columns: slice) -> np.ndarray:
    y, x = np.mgrid[rows, columns]
    return np.moveaxis(view.retina(np.stack([x, y], -1)), -1, 0).astype(np.float32)


def vessel_blood(anatomy: Anatomy, view: View) -> np.ndarray:
    """Blood of the healthy vessels, (S, S) float32: about 1 in a thick vein, 0.7 in an artery."""
    fine, reflex = canvas(view), canvas(view)
    for branches in reversed(anatomy.tree):
        width = branches.radii.mean(1)
        order = np.argsort(width)  # the thickest last: it covers the side branches' roots
        level = np.where(branches.vein, 1.0, 0.72) * np.clip(width / 0.022, 0.3, 1) ** 0.5
        fill(fine, view, strips(branches.points, branches.radii)[order], level[order])
    trunks = anatomy.tree[0]
    shine = np.where(trunks.vein, 0.22, 0.38)
    fill(reflex, view, strips(trunks.points, trunks.radii * 0.3), shine * (trunks.radii[:, 0] * view.scale > 1.5))
    blood = soften(coverage(fine), 0.011 * view.scale)
    blood *= 1 - coverage(reflex)
    return blood * np.float32(anatomy.style.blood)


def lesion_amounts(lesions: tuple[Lesion, ...], view: View) -> dict[str, np.ndarray]:
    """Coverage (S, S) float32 of 0..1 times strength, for each kind of lesion present."""
    amounts = {}
    for kind in dict.fromkeys(lesion.kind for lesion in lesions):
        fine = canvas(view)
        # The densest last, so that a pale one never hides it.
        these = sorted((lesion for lesion in lesions if lesion.kind == kind), key=lambda lesion: lesion.strength)
        fill(fine, view, np.stack([one.outline for one in these]), np.array([one.strength for one in these]))
        amounts[kind] = coverage(fine)
    return amounts


def add_lesions(picture: np.ndarray, blood: np.ndarray, amounts: dict[str, np.ndarray], view: View, over: bool) -> None:
    """Put lesions into picture and blood in place. over: those that lie before the vessels, else the others."""
    for kind, amount in amounts.items():
        look = COVERS[kind]
        if look.over != over:
            continue
        sigma = look.softness * view.scale
        rows, columns = _box(amount, int(3 * sigma) + 1)
        soft = soften(amount[rows, columns], sigma)
        if look.colour is None:
            target = blood[rows, columns]
            np.maximum(target, soft * np.float32(look.density), out=target)
        else:
            _cover(picture[:, rows, columns], soft, np.log(look.colour))


def _box(amount: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold all of a map, and a margin in px."""
    rows, columns = np.flatnonzero(amount.any(1)), np.flatnonzero(amount.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return tuple(slice(max(0, at[0] - margin), at[-1] + 1 + margin) for at in (rows, columns))


def absorb(picture: np.ndarray, blood: np.ndarray) -> None:
    """Take away what the blood (S, S) absorbs, in place."""
    for plane, strength in zip(picture, BLOOD, strict=True):
        plane -= blood * strength


def masks(amounts: dict[str, np.ndarray], anatomy: Anatomy, view: View) -> dict[str, np.ndarray]:
    """(S, S) bool for each kind of lesion and the disc: every pixel of the visible field that it touches."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    disc = canvas(view)
    fill(disc, view, (np.stack([np.cos(turn), np.sin(turn)], -1) * anatomy.disc)[None], np.ones(1))
    x, y = view.grid(1)
    seen = (x * x + y * y < 1) & (np.abs(y) < view.cut / view.radius)
    return {kind: (amount > 0.03) & seen for kind, amount in (amounts | {"disc": coverage(disc)}).items()}
