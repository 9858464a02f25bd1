"""Random views of a prepared picture: numbers are drawn in `draw`, become a view in `view_of`, are applied in `apply`.

Defaults are a reconstruction, common to the systems of the paper's table: rotation 0-360 degrees, both flips, scale
0.9-1.1, shift +-5 %, brightness and contrast +-0.1. The other settings are what single systems had, off by default;
docs/explanation/method.md says which system had what.

Every view is one affine warp, from a prepared picture (frame, frame, 3) to what the network sees (size, size, 3).
Coordinates are OpenCV's: x to the right, y down, the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Self

import cv2
import numpy as np

from m2cnn.checks import check_keys, is_number
from m2cnn.errors import SettingError, did_you_mean

# One uniform number each, in the order in which they are drawn. New ones come last: those before stay what they were.
DRAWS = (
    *("angle", "scale", "shift_x", "shift_y", "brightness", "contrast", "flip_x", "flip_y"),
    *("zoom_x", "zoom_y", "stretch", "skew", "share_x", "share_y", "place_x", "place_y"),
    *("colour_1", "colour_2", "colour_3"),
)
INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST, "cubic": cv2.INTER_CUBIC}

# Known (o_O's code): principal axes of EyePACS colours as columns (rows R, G, B), the spread along each, and the
# standard deviation of each channel in grey levels that their pictures were divided by before.
COLOUR_AXES = np.array([[-0.5654, 0.7198, 0.4024], [-0.5989, -0.0230, -0.8004], [-0.5669, -0.6936, 0.4442]])
COLOUR_SPREAD = np.array([1.65513, 0.48450, 0.15651])
COLOUR_SD = np.array([70.539, 51.715, 43.034])

_RANGES = {
    "rotation": (0, 360),
    "scale": (0, 0.9),
    "shift": (0, 1),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "shift_px": (0, 4096),
    "zoom": (1, 4),
    "stretch": (0, 0.9),
    "skew": (0, 1.5),
    "colour": (0, 10),
}


@dataclass(frozen=True)
class Augment:
    """Half-widths of uniform draws; 0 switches a part off, unless another value is named.

    rotation: degrees.  flip: mirror with probability 1/2, both ways.  scale: fraction around 1.
    shift: fraction of the side of what the network sees.  brightness: fraction of 255.  contrast: fraction around 1.
    flip_axes: 1 mirrors left and right alone, 2 also up and down.
    shift_px: px of what the network sees, at any size; on top of `shift`.  whole_px: shift by whole px.
    zoom: each axis by a factor of its own, log-uniform in 1/zoom..zoom; 1 for none.
    stretch: 1 + r along one axis and 1 - r along the other.  skew: radians, of one axis against the other.
    crop: lowest and highest share of the frame's side that is shown, at a uniform random place; () shows it px by px.
    crop_apart: width and height of the crop are drawn apart.
    colour: standard deviation along the axes of COLOUR_AXES, in units of COLOUR_SPREAD.
    interpolation: "linear", "nearest" or "cubic".

    Raises SettingError for a value that means nothing.
    """

    rotation: float = 180.0
    flip: bool = True
    scale: float = 0.1
    shift: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.1
    flip_axes: int = 2
    shift_px: float = 0.0
    whole_px: bool = False
    zoom: float = 1.0
    stretch: float = 0.0
    skew: float = 0.0
    crop: tuple[float, ...] = ()
    crop_apart: bool = False
    colour: float = 0.0
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        for key, (low, high) in _RANGES.items():
            value = getattr(self, key)
            _check(is_number(value) and low <= value <= high, key, value, f"a number in {low}..{high}")
            object.__setattr__(self, key, float(value))
        for key in ("flip", "whole_px", "crop_apart"):
            _check(isinstance(getattr(self, key), bool), key, getattr(self, key), "true or false")
        axes, crop, how = self.flip_axes, self.crop, self.interpolation
        _check(is_number(axes) and axes in (1, 2), "flip_axes", axes, "1 or 2")
        _check(_is_crop(crop), "crop", crop, "lowest and highest share of the frame, above 0 and up to 2, or nothing")
        object.__setattr__(self, "crop", tuple(float(share) for share in crop))
        known = isinstance(how, str) and how in INTERPOLATIONS
        _check(known, "interpolation", how, "a way to interpolate", did_you_mean(str(how), INTERPOLATIONS))

    @property
    def varied(self) -> tuple[str, ...]:
        """The draws that change anything, in the order of DRAWS."""
        crops = bool(self.crop)
        resized = crops and self.crop[0] < self.crop[1]
        on = {"angle": self.rotation, "skew": self.skew, "stretch": self.stretch, "scale": self.scale}
        on |= {"brightness": self.brightness, "contrast": self.contrast}
        on |= {"flip_x": self.flip, "flip_y": self.flip and self.flip_axes == 2}
        on |= dict.fromkeys(("shift_x", "shift_y"), self.shift or self.shift_px)
        on |= dict.fromkeys(("zoom_x", "zoom_y"), self.zoom > 1)
        on |= {"share_x": resized, "share_y": resized and self.crop_apart}
        on |= dict.fromkeys(("place_x", "place_y"), crops)
        on |= dict.fromkeys(("colour_1", "colour_2", "colour_3"), self.colour)
        return tuple(name for name in DRAWS if on[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for system.json."""
        return asdict(self) | {"crop": list(self.crop)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of to_dict; SettingError for an unknown key or a bad value."""
        check_keys("augment", values, cls)
        return cls(**values)


@dataclass(frozen=True)
class View:
    """One draw: `matrix` (2, 3) maps output to input pixels; grey' = gain * (grey - 127.5) + 127.5 + offset.

    colour: grey levels added to R, G and B after that.  interpolation: a key of INTERPOLATIONS.
    """

    matrix: np.ndarray
    gain: float = 1.0
    offset: float = 0.0
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)
    interpolation: str = "linear"


def draw(augment: Augment, size: int, rng: np.random.Generator, frame: int | None = None) -> View:
    """A random view of `size` px of a (frame, frame) picture (default: size). Always takes as many numbers of `rng`."""
    return view_of(augment, rng.random(len(DRAWS)), size, frame)


def middle(augment: Augment, size: int, frame: int | None = None) -> View:
    """The middle of every draw: nothing is turned, mirrored or toned.

    Without a crop it is the centre of the frame, px by px; with one, the share between its lowest and its highest.
    """
    return view_of(augment, np.full(len(DRAWS), 0.5), size, frame)


def view_of(augment: Augment, uniforms: Sequence[float] | np.ndarray, size: int, frame: int | None = None) -> View:
    """The view of `size` px of a (frame, frame) picture that numbers in [0, 1) choose, one for each of DRAWS."""
    drawn = dict(zip(DRAWS, (float(u) for u in uniforms), strict=True))
    around = {name: 2 * u - 1 for name, u in drawn.items()}
    shrink, centre = _window(augment, drawn, size, frame or size)
    linear = shrink[:, None] * _linear(augment, drawn, around)
    origin = centre - linear @ ((size - 1) / 2 + _shift(augment, drawn, around, size))
    return View(
        np.column_stack([linear, origin]),
        1 + around["contrast"] * augment.contrast,
        around["brightness"] * augment.brightness * 255,
        _colour(augment, drawn),
        augment.interpolation,
    )


def apply(view: View, picture: np.ndarray, border: int = 0, size: int | None = None) -> np.ndarray:
    """(F, F, 3) uint8 -> (size, size, 3) uint8, default size F; outside the picture is `border`.

    Brightness and contrast leave that value alone; colour changes it too.
    """
    size = picture.shape[0] if size is None else size
    flags = INTERPOLATIONS[view.interpolation] | cv2.WARP_INVERSE_MAP
    levels = _levels(view, border)
    toned = cv2.LUT(picture, levels[None])
    return cv2.warpAffine(toned, view.matrix, (size, size), flags=flags, borderValue=levels[border].tolist())


def _levels(view: View, border: int) -> np.ndarray:
    """(256, 3) uint8: what becomes of each grey level of R, G and B."""
    # Brightness first: the border stays what a photograph has outside its field of view. Colour moves it, as in o_O.
    levels = (np.arange(256) - 127.5) * view.gain + 127.5 + view.offset
    levels[border] = border
    return np.clip(np.rint(levels[:, None] + np.array(view.colour)), 0, 255).astype(np.uint8)


def _linear(augment: Augment, drawn: dict[str, float], around: dict[str, float]) -> np.ndarray:
    """Output to input px, (2, 2), without crop and shift.

    The inverse of mirrors * zoom * diag(1 + r, 1 - r) * scale * ((cos a, sin a), (-sin b, cos b)), b = a + skew.
    """
    skew = around["skew"] * augment.skew
    a = np.deg2rad(around["angle"] * augment.rotation)
    b = a + skew
    turned = np.array([[np.cos(b), -np.sin(a)], [np.sin(b), np.cos(a)]]) / np.cos(skew)
    stretch = 1 + around["stretch"] * augment.stretch * np.array([1, -1])
    zoom = augment.zoom ** np.array([around["zoom_x"], around["zoom_y"]])
    return turned / (1 + around["scale"] * augment.scale) * (_mirror(augment, drawn) / (zoom * stretch))


def _mirror(augment: Augment, drawn: dict[str, float]) -> np.ndarray:
    """(2,): -1 along the axes that are mirrored."""
    axes = ("flip_x", "flip_y")[: augment.flip_axes] if augment.flip else ()
    return np.array([-1.0 if axis in axes and drawn[axis] < 0.5 else 1.0 for axis in ("flip_x", "flip_y")])


def _shift(augment: Augment, drawn: dict[str, float], around: dict[str, float], size: int) -> np.ndarray:
    """(2,): how far the picture moves, in output px."""
    if augment.whole_px:
        most = round(augment.shift * size + augment.shift_px)
        return np.array([np.floor(drawn[axis] * (2 * most + 1)) - most for axis in ("shift_x", "shift_y")])
    way = np.array([around["shift_x"], around["shift_y"]])
    return way * augment.shift * size + way * augment.shift_px


def _window(augment: Augment, drawn: dict[str, float], size: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Input px per output px along x and y, (2,), and the centre of what is shown, (2,), in input px."""
    if not augment.crop:
        # On whole px where frame - size is odd, so that the centre is cut out and not interpolated.
        return np.ones(2), np.full(2, (size - 1) / 2 + (frame - size) // 2)
    low, high = augment.crop
    share = low + (high - low) * np.array([drawn["share_x"], drawn["share_y" if augment.crop_apart else "share_x"]])
    place = np.array([drawn["place_x"], drawn["place_y"]]) - 0.5
    return share * frame / size, (frame - 1) / 2 + place * (1 - share) * frame


def _colour(augment: Augment, drawn: dict[str, float]) -> tuple[float, float, float]:
    """Grey levels to add to R, G and B: `colour` * N(0, 1) * COLOUR_SPREAD along COLOUR_AXES."""
    if not augment.colour:
        return (0.0, 0.0, 0.0)
    # The normal quantile of a uniform number, so that quasi-random numbers serve too; 0 has none.
    alpha = [NormalDist(0, augment.colour).inv_cdf(max(drawn[f"colour_{n}"], 2**-53)) for n in (1, 2, 3)]
    red, green, blue = COLOUR_SD * (COLOUR_AXES @ (np.array(alpha) * COLOUR_SPREAD))
    return float(red), float(green), float(blue)


def _check(holds: bool, key: str, value: object, expected: str, repair: str = "") -> None:
    if not holds:
        raise SettingError(f"augment.{key}", repr(value), expected, repair)


def _is_crop(crop: object) -> bool:
    if not isinstance(crop, list | tuple) or len(crop) not in (0, 2) or not all(is_number(share) for share in crop):
        return False
    return not crop or 0 < crop[0] <= crop[1] <= 2
