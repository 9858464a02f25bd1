"""Three cameras: what photographs of each have in common. Ranges are (lowest, highest) of what is drawn evenly.

`eyepacs` and `idrid` are fitted to photographs of these sets (`benchmarks/renderer.py`); `handheld` to no set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2cnn.errors import SettingError, did_you_mean

Range = tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """A make of camera, with the clinic that uses it.

    share: of patients.  colour: the retina's median RGB, 0..255.  spread (3, 3): the directions in which its logarithm
    differs between photographs, one standard deviation each.
    field_dd: the field's diameter in DD.  fill: it in shares of the frame's side.
    cut, cut_share: visible height in shares of the field's diameter, and how often the frame cuts it at all.
    notch: share of photographs with the marker at the field's edge.
    aim: where the field's centre lies on the way from the disc (0) to the fovea (1).
    vignette: log darkening at the edge.  patches: strength of uneven light.
    blood: (3,) how strongly the blood of a full vein darkens red, green, blue (log).
    choroid: log strength of the fine structure that only red shows.
    rim, rim_share, rim_colour: stray light at the edge.
    haze: share of stray light.  blur: sigma in shares of the frame's side.
    noise: deviation in grey levels.  chroma: the share of its variance that the channels do not have in common.
    """

    name: str
    share: float
    colour: tuple[float, float, float]
    spread: tuple[tuple[float, float, float], ...]
    field_dd: Range
    fill: Range
    cut: Range
    cut_share: float
    notch: float
    aim: Range
    vignette: Range
    patches: Range
    blood: tuple[float, float, float]
    choroid: float
    rim: Range
    rim_share: float
    rim_colour: tuple[float, float, float]
    haze: Range
    blur: Range
    noise: Range
    chroma: float


CAMERAS = {
    camera.name: camera
    for camera in (
        Camera(
            name="eyepacs",
            share=0.5,
            colour=(158, 101, 60),
            spread=((0.33, 0.41, 0.57), (0.21, 0.09, -0.17), (0.06, -0.09, 0.03)),
            field_dd=(6.5, 7.9),
            fill=(0.93, 0.985),
            cut=(0.80, 0.95),
            cut_share=0.55,
            notch=0.6,
            aim=(0.62, 1.0),
            vignette=(0.2, 1.0),
            patches=(0.04, 0.15),
            blood=(0.21, 0.56, 0.40),
            choroid=0.010,
            rim=(0.2, 0.8),
            rim_share=0.45,
            rim_colour=(120, 150, 150),
            haze=(0.0, 0.12),
            blur=(0.0005, 0.0020),
            noise=(0.8, 3.8),
            chroma=0.3,
        ),
        Camera(
            name="idrid",
            share=0.35,
            colour=(196, 92, 21),
            spread=((0.04, 0.15, 0.72), (0.18, 0.23, 0.0), (0.04, -0.03, 0.0)),
            field_dd=(5.9, 7.2),
            fill=(0.96, 0.985),
            cut=(0.832, 0.840),
            cut_share=1.0,
            notch=1.0,
            aim=(0.78, 1.05),
            vignette=(0.25, 0.62),
            patches=(0.03, 0.10),
            blood=(0.13, 0.56, 0.40),
            choroid=0.021,
            rim=(0.05, 0.3),
            rim_share=0.4,
            rim_colour=(150, 140, 110),
            haze=(0.0, 0.08),
            blur=(0.0008, 0.0020),
            noise=(2.6, 3.4),
            chroma=0.75,
        ),
        Camera(
            name="handheld",
            share=0.15,
            colour=(140, 78, 42),
            spread=((0.30, 0.36, 0.50), (0.20, 0.08, -0.15), (0.06, -0.09, 0.03)),
            field_dd=(5.7, 6.6),
            fill=(0.88, 0.97),
            cut=(0.9, 1.0),
            cut_share=0.0,
            notch=0.0,
            aim=(0.6, 0.95),
            vignette=(0.4, 0.95),
            patches=(0.06, 0.16),
            blood=(0.20, 0.56, 0.40),
            choroid=0.010,
            rim=(0.2, 0.7),
            rim_share=0.5,
            rim_colour=(150, 130, 110),
            haze=(0.03, 0.15),
            blur=(0.0010, 0.0020),
            noise=(1.6, 3.4),
            chroma=0.4,
        ),
    )
}


def draw_camera(names: Sequence[str], rng: np.random.Generator) -> Camera:
    """One of these cameras, by their shares of patients. Raises SettingError for an unknown name, or none."""
    if not names:
        raise SettingError("camera", "no camera", "one or several", f"Known: {', '.join(CAMERAS)}.")
    cameras = [get_camera(name) for name in names]
    shares = np.array([camera.share for camera in cameras])
    return cameras[int(rng.choice(len(cameras), p=shares / shares.sum()))]


def get_camera(name: str) -> Camera:
    """Raises SettingError for an unknown name."""
    if name not in CAMERAS:
        raise SettingError("camera", f'"{name}"', "a camera of the renderer", did_you_mean(name, CAMERAS))
    return CAMERAS[name]
