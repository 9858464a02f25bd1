"""The retina as the camera sees it: anatomy and lesions put together in log reflectance, then lit and exposed.

In logarithms blood takes light away by addition (Beer-Lambert), and whatever covers the retina pulls towards its own colour.
"""

from __future__ import annotations

import cv2
import numpy as np

from m2cnn.synthetic.anatomy import Anatomy
from m2cnn.synthetic.spots import COVERS, Lesion
from m2cnn.synthetic.paint import canvas, coverage, fill, smooth_noise, soften, strips
from m2cnn.synthetic.view import View

PIGMENT = np.float32([0.55, 1.0, 1.05])  # how strongly melanin and macular pigment darken red, green, blue
BLOOD = np.float32([0.30, 0.80, 0.62])  # the same for a full vein's blood
DISC = np.log([252.0, 218.0, 165.0])
CUP = np.log([255.0, 240.0, 205.0])


def tissue(anatomy: Anatomy, view: View, rng: np.random.Generator) -> np.ndarray:
    """Log colour (S, S, 3) float32 of the retina without disc and vessels: pigment, mottling, choroid, macula."""
    style = anatomy.style
    half = (view.size + 1) // 2
    pigment = 0.10 * smooth_noise(rng, 5, half) + 0.05 * smooth_noise(rng, 14, half) + 0.03 * smooth_noise(rng, 45, half)
    pigment *= np.float32(style.mottling)
    choroid = np.abs(smooth_noise(rng, 22, half) + 0.4 * smooth_noise(rng, 40, half))
    if style.tessellation:
        pigment += np.float32(0.30 * style.tessellation) * (np.minimum(choroid, 1) - 0.6)
    pigment += _macula(anatomy, view, half)
    pigment = cv2.resize(pigment, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)[: view.size, : view.size]
    grain = smooth_noise(rng, 150, view.size)
    pigment += np.float32(0.018 * style.mottling) * grain
    return style.colour.astype(np.float32) - pigment[..., None] * PIGMENT


def _macula(anatomy: Anatomy, view: View, half: int) -> np.ndarray:
    """Extra pigment: a broad macula and a small dark foveola, less around the disc's rim."""
    x, y = _retina_grid(view, half)
    d2 = (x - anatomy.fovea[0]) ** 2 + (y - anatomy.fovea[1]) ** 2
    dark = 0.24 * np.exp(d2 * np.float32(-1 / (2 * 0.62**2))) + 0.26 * np.exp(d2 * np.float32(-1 / (2 * 0.17**2)))
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


def add_disc(log_colour: np.ndarray, anatomy: Anatomy, view: View) -> None:
    """Blend disc and cup into (S, S, 3) in place."""
    rows, columns = _around(view, (0.0, 0.0), 0.9)
    x, y = _patch_grid(view, rows, columns)
    away = np.sqrt((x / anatomy.disc[0]) ** 2 + (y / anatomy.disc[1]) ** 2)
    cup = np.sqrt(((x - anatomy.cup_at[0]) / anatomy.disc[0]) ** 2 + ((y - anatomy.cup_at[1]) / anatomy.disc[1]) ** 2)
    patch = log_colour[rows, columns]
    inside = _step(1 - away, 0.10) * np.float32(anatomy.style.disc_pallor)
    patch += inside[..., None] * (DISC.astype(np.float32) - patch)
    pale = _step(anatomy.cup - cup, 0.16) * np.float32(0.75 * anatomy.style.disc_pallor)
    patch += pale[..., None] * (CUP.astype(np.float32) - patch)


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
    thin = 0.55 / (view.scale * 2)  # half a canvas pixel, in DD: a thinner vessel is drawn as wide as this, but paler
    for branches in reversed(anatomy.tree):
        radii = np.maximum(branches.radii, thin)
        pale = np.minimum(1, branches.radii.mean(1) / thin) * np.clip(branches.radii.mean(1) / 0.022, 0.3, 1) ** 0.6
        level = np.where(branches.vein, 0.95, 0.68) * pale
        order = np.argsort(branches.radii.mean(1))
        fill(fine, view, strips(branches.points, radii)[order], level[order])
    trunks = anatomy.tree[0]
    shine = np.where(trunks.vein, 0.22, 0.38)
    fill(reflex, view, strips(trunks.points, trunks.radii * 0.3), shine * (trunks.radii[:, 0] * view.scale > 1.5))
    blood = soften(coverage(fine), 0.006 * view.scale)
    blood *= 1 - coverage(reflex)
    return blood * np.float32(anatomy.style.blood)


def lesion_masks(lesions: tuple[Lesion, ...], view: View) -> dict[str, np.ndarray]:
    """Coverage (S, S) float32 of 0..1 times strength, for each kind of lesion present."""
    drawn = {}
    for kind in dict.fromkeys(lesion.kind for lesion in lesions):
        drawn[kind] = canvas(view)
    for lesion in sorted(lesions, key=lambda lesion: lesion.strength):
        fill(drawn[lesion.kind], view, lesion.outline[None], np.array([lesion.strength]))
    return {kind: coverage(fine) for kind, fine in drawn.items()}


def add_lesions(log_colour: np.ndarray, blood: np.ndarray, drawn: dict[str, np.ndarray], view: View, over: bool) -> None:
    """Put lesions into the picture in place. over: those that lie before the vessels, else those behind or in them."""
    for kind, amount in drawn.items():
        look = COVERS[kind]
        if look.over != over:
            continue
        amount = soften(amount, look.softness * view.scale)
        if look.colour is None:
            np.maximum(blood, amount * np.float32(look.density), out=blood)
        else:
            log_colour += amount[..., None] * (np.log(look.colour).astype(np.float32) - log_colour)


def absorb(log_colour: np.ndarray, blood: np.ndarray) -> None:
    """Take away what the blood (S, S) absorbs, in place."""
    log_colour -= blood[..., None] * BLOOD
