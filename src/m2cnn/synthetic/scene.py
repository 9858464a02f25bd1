"""The retina as the camera sees it: anatomy and lesions put together in log reflectance, then lit and exposed.

In logarithms blood takes light away by addition (Beer-Lambert), and whatever covers the retina pulls towards its own
colour. Pictures are planes here, (3, S, S): several times faster than pixels of three in NumPy.
"""

from __future__ import annotations

import numpy as np

from m2cnn.synthetic.anatomy import Anatomy
from m2cnn.synthetic.paint import canvas, coverage, fill, rounded, soften, strips
from m2cnn.synthetic.spots import COVERS, Lesion
from m2cnn.synthetic.view import View

DISC = np.log([350.0, 215.0, 142.0])
CUP = np.log([480.0, 310.0, 235.0])
SCLERA = np.log([320.0, 205.0, 150.0])
ORANGE = np.log([126.0, 84.0, 55.0])  # the retina beside which disc, scars and deposits have the colours given here
SHARED = np.array([0.2, 0.5, 0.95])  # how much of another retina's deviation from it they share, from IDRiD's discs


def beside(log_colour: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """The log colour (3,) of a disc or deposit in an eye, under a camera, that show the retina so."""
    return log_colour + SHARED * (retina - ORANGE)


def add_disc(picture: np.ndarray, anatomy: Anatomy, colour: np.ndarray, view: View) -> None:
    """Blend crescent, disc and cup into (3, S, S) in place. colour: log RGB of the retina."""
    rows, columns = _around(view, (0.0, 0.0), 1.0)
    x, y = _patch_grid(view, rows, columns)
    wide, high = anatomy.disc
    patch, style = picture[:, rows, columns], anatomy.style
    from_cup = np.hypot((x - anatomy.cup_at[0]) / wide, (y - anatomy.cup_at[1]) / high)
    pallor = np.float32(style.disc_pallor)
    temporal = np.hypot((x - 0.10) / wide, y / high)
    _cover(patch, _step(1.08 - temporal, 0.16) * np.float32(max(0.0, style.crescent)), beside(SCLERA, colour))
    rim = _step(1 - np.hypot(x / wide, y / high), 0.20) * pallor  # paler temporally
    _cover(patch, rim * (np.float32(0.90) + np.float32(0.14) * x / np.float32(wide)), beside(DISC, colour))
    _cover(patch, _step(anatomy.cup - from_cup, 0.55) * pallor * np.float32(0.75), beside(CUP, colour))


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
        radii = branches.radii * np.where(branches.vein, 1.0, anatomy.artery)[:, None]
        bands, width = strips(rounded(branches.points), rounded(radii)), radii.mean(1)
        order = np.argsort(width)  # the thickest last: it covers the side branches' roots
        level = np.where(branches.vein, 1.0, 0.72) * np.clip(width / 0.022, 0.3, 1) ** 0.5
        fill(fine, view, bands[order], level[order])
    trunks = anatomy.tree[0]
    shine = np.where(trunks.vein, 0.22, min(0.8, 0.38 * anatomy.shine))
    stripes = strips(rounded(trunks.points), rounded(trunks.radii * 0.3))
    fill(reflex, view, stripes, shine * (trunks.radii[:, 0] * view.scale > 1.5))
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


def add_lesions(
    picture: np.ndarray,
    blood: np.ndarray,
    amounts: dict[str, np.ndarray],
    colour: np.ndarray,
    view: View,
    over: bool,
) -> None:
    """Put lesions into picture and blood in place. over: those that lie before the vessels, else the others.

    colour: log RGB of the retina, beside which the lesions have theirs.
    """
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
            _cover(picture[:, rows, columns], soft, beside(np.log(look.colour), colour))


def _box(amount: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold all of a map, and a margin in px."""
    rows, columns = np.flatnonzero(amount.any(1)), np.flatnonzero(amount.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return tuple(slice(max(0, at[0] - margin), at[-1] + 1 + margin) for at in (rows, columns))


def absorb(picture: np.ndarray, blood: np.ndarray, strengths: tuple[float, float, float]) -> None:
    """Take away what the blood (S, S) absorbs of red, green, blue, in place."""
    for plane, strength in zip(picture, np.float32(strengths), strict=True):
        plane -= blood * strength


def masks(amounts: dict[str, np.ndarray], anatomy: Anatomy, view: View) -> dict[str, np.ndarray]:
    """(S, S) bool for each kind of lesion and mark and the disc: every pixel of the visible field that it touches."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    disc = canvas(view)
    fill(disc, view, (np.stack([np.cos(turn), np.sin(turn)], -1) * anatomy.disc)[None], np.ones(1))
    x, y = view.grid(1)
    seen = (x * x + y * y < 1) & (np.abs(y) < view.cut / view.radius)
    return {kind: (amount > 0.03) & seen for kind, amount in (amounts | {"disc": coverage(disc)}).items()}
