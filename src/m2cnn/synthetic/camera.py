"""The camera's look: field of view, colours, exposure, uneven light, blur, noise. Nothing here sees the grade."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from m2cnn.synthetic.cameras import Camera
from m2cnn.synthetic.paint import enlarge, smooth_noise, soften
from m2cnn.synthetic.view import View

OWN, VISIT = 0.8, 0.6  # how much of a photograph's colour is the patient's pigmentation, and how much the visit's light
HIGHEST = np.log(225.0)
KNEE, SPAN = np.float32(180), np.float32(85)  # grey levels: where bright light begins to saturate, and how gently


@dataclass(frozen=True)
class Look:
    """What a camera and its operator do to a photograph.

    field_dd: the field's diameter in DD.  fill: it in shares of the frame's side.  cut: visible height in shares
    of the field's diameter.  aim: from the disc (0) to the fovea (1).  cast: (3,) deviation of the colours along the
    camera's directions.  gain: (3,) log of the exposure.  haze: share of stray light, haze_colour (3,) in 0..255.
    tilt (2,): log brightness change from the centre to the edge.  vignette: log darkening at the edge.
    patches: strength of uneven light.  rim: strength of the stray light at the edge, from direction rim_at (rad).
    blur: sigma in shares of the frame's side.  noise: deviation in grey levels.
    """

    camera: Camera
    field_dd: float
    fill: float
    cut: float
    notch: bool
    aim: float
    cast: np.ndarray
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


def draw_look(camera: Camera, rng: np.random.Generator) -> Look:
    """A patient's visit: one camera for both eyes."""
    blur = np.exp(rng.uniform(*np.log(camera.blur)))
    return Look(
        camera=camera,
        field_dd=rng.uniform(*camera.field_dd),
        fill=rng.uniform(*camera.fill),
        cut=rng.uniform(*camera.cut) if rng.random() < camera.cut_share else 1.1,
        notch=bool(rng.random() < camera.notch),
        aim=rng.uniform(*camera.aim),
        cast=_normal(rng),
        gain=np.zeros(3),
        haze=rng.uniform(*camera.haze),
        haze_colour=np.array([110.0, 120, 125]) * rng.uniform(0.6, 1.3),
        tilt=np.zeros(2),
        vignette=rng.uniform(*camera.vignette),
        patches=rng.uniform(*camera.patches),
        rim=rng.uniform(*camera.rim) * (rng.random() < camera.rim_share),
        rim_at=rng.uniform(0, 2 * np.pi),
        blur=float(blur),
        noise=rng.uniform(*camera.noise),
    )


def jitter_look(look: Look, rng: np.random.Generator) -> Look:
    """The same camera's next photograph: exposure, light, aim and focus differ a little."""
    return replace(
        look,
        aim=look.aim + rng.normal(0, 0.04),
        gain=rng.normal(0, 0.10) + rng.normal(0, (0.02, 0.02, 0.04)),
        haze=float(np.clip(look.haze + rng.normal(0, 0.03), 0, 0.2)),
        tilt=rng.normal(0, 0.16, 2),
        rim_at=look.rim_at + rng.normal(0, 0.6),
        blur=look.blur * rng.uniform(0.8, 1.25),
    )


def _normal(rng: np.random.Generator) -> np.ndarray:
    return np.clip(rng.standard_normal(3), -1.8, 1.8)


def draw_pigment(rng: np.random.Generator) -> np.ndarray:
    """(3,) deviation of a patient's pigmentation from the median, in standard deviations."""
    return _normal(rng)


def retina_colour(look: Look, pigment: np.ndarray) -> np.ndarray:
    """Log RGB (3,) of a patient's retina, as this camera shows it. No retina is green or blue."""
    deviation = (OWN * pigment + VISIT * look.cast) @ np.array(look.camera.spread)
    red, green, blue = np.log(look.camera.colour) + deviation
    red = min(red, HIGHEST)
    green = min(green, red - 0.36)
    return np.array([red, green, min(blue, green - 0.15)])


# Pointing the camera


def draw_view(look: Look, eye: str, size: int, aim: np.ndarray, rng: np.random.Generator) -> View:
    """Point the camera at the retina point `aim` (2,) in DD, not quite exactly."""
    radius = look.fill * size / 2
    slack = size / 2 - radius
    middle = (size - 1) / 2
    centre = tuple(middle + rng.uniform(-1, 1, 2) * slack * 0.9)
    at = aim + rng.normal(0, (0.0, 0.22))
    flip = 1 if eye == "left" else -1
    turn = rng.normal(0, np.deg2rad(4))
    return View(size, centre, radius, look.cut * radius, 2 * radius / look.field_dd, tuple(at), turn, flip)


def aim_of(field: int, look: Look, fovea: np.ndarray) -> np.ndarray:
    """The point (2,) in DD at the centre of field 1 (near the fovea, the disc whole) or 2 (the disc)."""
    if field == 2:
        return 0.06 * fovea
    reach = look.aim * float(np.hypot(*fovea))
    return fovea * (min(reach, look.field_dd / 2 - 0.75) / np.hypot(*fovea))


# Light and exposure


def light(look: Look, view: View, rng: np.random.Generator) -> np.ndarray:
    """Log brightness over the picture, (S, S) float32: vignette, tilt, and patches of a few DD."""
    step = max(1, view.size // 64)
    x, y = view.grid(step)
    patches = smooth_noise(rng, 3, len(y)) + 0.4 * smooth_noise(rng, 7, len(y))
    coarse = look.tilt[0] * x + look.tilt[1] * y - look.vignette * (x * x + y * y) + look.patches * patches
    return enlarge(coarse.astype(np.float32), step, view.size)


def expose(scene: np.ndarray, look: Look, view: View, stray: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log scene (3, S, S) float32 -> photograph (S, S, 3) uint8: saturation, stray light, blur, noise, black surround.

    stray: (3, S, S) or (3, 1, 1) grey levels that the media and the lens add.
    """
    rim, mask = _rim(look, view), field_mask(look, view)
    common, own = look.noise * np.sqrt((1 - look.camera.chroma, look.camera.chroma))
    grey = _noise(rng, common, view.size)
    photograph = np.empty((view.size, view.size, 3), np.uint8)
    for channel in range(3):
        plane = cv2.exp(scene[channel] + np.float32(look.gain[channel]))
        plane *= np.float32(1 - look.haze)
        plane += np.float32(look.haze * look.haze_colour[channel]) + stray[channel]
        if rim is not None:
            plane += rim * np.float32(look.camera.rim_colour[channel])
        plane = _shoulder(soften(plane, look.blur * view.size))
        plane += grey
        plane += _colour_noise(rng, own, view.size)
        plane *= mask
        photograph[..., channel] = cv2.convertScaleAbs(np.maximum(plane, 0, out=plane))
    return photograph


def _shoulder(plane: np.ndarray) -> np.ndarray:
    """Bright light saturates gently: above KNEE the scale is bent, towards KNEE + SPAN."""
    bright = np.maximum(plane - KNEE, 0)
    plane -= bright
    plane += bright * SPAN / (bright + SPAN)
    return plane


def _rim(look: Look, view: View) -> np.ndarray | None:
    """Stray light (S, S): a crescent at one side of the edge, as when the pupil is narrow."""
    if not look.rim:
        return None
    step = max(1, view.size // 128)
    x, y = view.grid(step)
    off = np.hypot(x + 0.06 * np.cos(look.rim_at), y + 0.06 * np.sin(look.rim_at))
    crescent = look.rim * np.clip((off - 0.88) / 0.16, 0, 1) ** 2
    return enlarge(crescent.astype(np.float32), step, view.size)


def _noise(rng: np.random.Generator, deviation: float, size: int) -> np.ndarray:
    noise = rng.standard_normal((size, size), np.float32)
    noise *= np.float32(deviation)
    return noise


def _colour_noise(rng: np.random.Generator, deviation: float, size: int) -> np.ndarray:
    """Bumps of two pixels, for a sensor has every colour at every second pixel only."""
    half = _noise(rng, deviation / 0.625, (size + 1) // 2)  # enlarging averages neighbours
    return enlarge(half, 2, size)


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
