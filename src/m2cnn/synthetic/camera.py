"""The camera: field of view, exposure, haze, uneven light, blur, noise. Nothing here sees the grade."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from m2cnn.synthetic.paint import smooth_noise, soften
from m2cnn.synthetic.view import View

RIM = np.float32([120, 150, 150])  # colour of the stray light at the edge: bluish


@dataclass(frozen=True)
class Look:
    """What a camera and its operator do to a photograph.

    field_dd: the field's diameter in DD.  fill: it in shares of the frame's side.  cut: visible height in shares
    of the field's diameter.  gain: (3,) log colour cast.  haze: share of stray light, haze_colour (3,) in 0..255.
    tilt (2,): log brightness change from the centre to the edge.  vignette: log darkening at the edge.
    patches: strength of uneven light.  rim: strength of the stray light at the edge, from direction rim_at (rad).
    blur: sigma in shares of the frame's side.  noise: deviation in grey levels.
    """

    field_dd: float
    fill: float
    cut: float
    notch: bool
    gain: np.ndarray
    haze: float
    haze_colour: np.ndarray
    tilt: np.ndarray
    vignette: float
    patches: float
    rim: float
    rim_at: float
    blur: float
    noise: float


def draw_look(rng: np.random.Generator) -> Look:
    """A patient's visit: one camera for both eyes."""
    return Look(
        field_dd=rng.uniform(6.9, 7.9),
        fill=rng.uniform(0.92, 0.985),
        cut=rng.choice([1.1, rng.uniform(0.86, 0.97)]),
        notch=bool(rng.random() < 0.5),
        gain=rng.normal(0, (0.04, 0.05, 0.08)),
        haze=rng.uniform(0, 0.12),
        haze_colour=np.array([110.0, 120, 125]) * rng.uniform(0.6, 1.3),
        tilt=np.zeros(2),
        vignette=rng.uniform(0.05, 0.7),
        patches=rng.uniform(0.03, 0.13),
        rim=rng.choice([0.0, rng.uniform(0.2, 0.8)]),
        rim_at=rng.uniform(0, 2 * np.pi),
        blur=rng.uniform(0.0003, 0.0011),
        noise=rng.uniform(0.6, 2.2),
    )


def jitter_look(look: Look, rng: np.random.Generator) -> Look:
    """The same camera's next photograph: exposure, light and focus differ a little."""
    return replace(
        look,
        gain=look.gain + rng.normal(0, 0.12) + rng.normal(0, (0.02, 0.02, 0.04)),
        haze=float(np.clip(look.haze + rng.normal(0, 0.03), 0, 0.2)),
        tilt=rng.normal(0, 0.16, 2),
        rim_at=look.rim_at + rng.normal(0, 0.6),
        blur=look.blur * rng.uniform(0.8, 1.25),
    )


def draw_view(look: Look, eye: str, size: int, fovea: np.ndarray, rng: np.random.Generator) -> View:
    """Point the camera between disc and fovea, nearer to the fovea, not quite exactly."""
    radius = look.fill * size / 2
    slack = size / 2 - radius
    middle = (size - 1) / 2
    centre = tuple(middle + rng.uniform(-1, 1, 2) * slack * 0.9)
    aim = fovea * rng.uniform(0.62, 0.95) + rng.normal(0, (0.0, 0.22))
    flip = 1 if eye == "left" else -1
    turn = rng.normal(0, np.deg2rad(4))
    return View(size, centre, radius, look.cut * radius, 2 * radius / look.field_dd, tuple(aim), turn, flip)


def light(look: Look, view: View, rng: np.random.Generator) -> np.ndarray:
    """Log brightness over the picture, (S, S) float32: vignette, tilt, and patches of a few DD."""
    step = max(1, view.size // 64)
    x, y = view.grid(step)
    patches = smooth_noise(rng, 3, len(y)) + 0.4 * smooth_noise(rng, 7, len(y))
    coarse = look.tilt[0] * x + look.tilt[1] * y - look.vignette * (x * x + y * y) ** 1.5 + look.patches * patches
    return _enlarge(coarse.astype(np.float32), step, view.size)


def _enlarge(coarse: np.ndarray, step: int, size: int) -> np.ndarray:
    whole = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    return whole[:size, :size]


def expose(scene: np.ndarray, look: Look, view: View, rng: np.random.Generator) -> np.ndarray:
    """Log scene (3, S, S) float32 -> photograph (S, S, 3) uint8: saturation, haze, rim, blur, noise, black surround."""
    rim, mask = _rim(look, view), field_mask(look, view)
    grey = np.float32(look.noise) * rng.standard_normal((view.size, view.size), np.float32)
    photograph = np.empty((view.size, view.size, 3), np.uint8)
    for channel in range(3):
        plane = _shoulder(cv2.exp(scene[channel] + np.float32(look.gain[channel])))
        plane *= np.float32(1 - look.haze)
        plane += np.float32(look.haze * look.haze_colour[channel])
        if rim is not None:
            plane += rim * RIM[channel]
        plane = soften(plane, look.blur * view.size)
        plane += grey
        plane += np.float32(0.7 * look.noise) * _coarse_noise(rng, view.size)
        plane *= mask
        photograph[..., channel] = cv2.convertScaleAbs(np.maximum(plane, 0, out=plane))
    return photograph


def _shoulder(plane: np.ndarray) -> np.ndarray:
    """Bright light saturates gently: above 150 the scale is bent to end at 250."""
    bright = np.maximum(plane - np.float32(150), 0)
    plane -= bright
    plane += bright * np.float32(100) / (bright + np.float32(100))
    return plane


def _rim(look: Look, view: View) -> np.ndarray | None:
    """Stray light (S, S): a crescent at one side of the edge, as when the pupil is narrow."""
    if not look.rim:
        return None
    step = max(1, view.size // 128)
    x, y = view.grid(step)
    off = np.hypot(x + 0.06 * np.cos(look.rim_at), y + 0.06 * np.sin(look.rim_at))
    crescent = look.rim * np.clip((off - 0.88) / 0.16, 0, 1) ** 2
    return _enlarge(crescent.astype(np.float32), step, view.size)


def _coarse_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Colour noise: bumps of two pixels, for a sensor has every colour at every second pixel only."""
    half = (size + 1) // 2
    return cv2.resize(rng.standard_normal((half, half), np.float32), (size, size), interpolation=cv2.INTER_LINEAR)


def field_mask(look: Look, view: View) -> np.ndarray:
    """How much of each pixel is inside the field, (S, S) float32 of 0..1, with a rim about 1/300 of the frame wide."""
    x, y = view.grid(1)
    soft = np.float32(view.radius * 150 / view.size)
    edge = (1 - np.sqrt(x * x + y * y)) * soft
    mask = np.minimum(edge, (view.cut / np.float32(view.radius) - np.abs(y)) * soft)
    if look.notch:
        # The marker at the field's edge of many cameras, that tells a mirrored photograph.
        mask = np.where((np.abs(x - 0.715) + np.abs(y + 0.70) < 0.06) & (np.abs(y) * view.radius < view.cut), 1, mask)
    return np.clip(mask, 0, 1)
