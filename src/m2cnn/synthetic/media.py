"""Opaque media: what a cataract does to a photograph. It hides lesions as it does in life, never by their grade."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from m2cnn.synthetic.camera import Look
from m2cnn.synthetic.paint import enlarge, smooth_noise
from m2cnn.synthetic.view import View

YELLOW = np.array([0.0, 0.10, 0.55])  # log loss of red, green, blue through the densest lens: it absorbs blue
MOST_VEIL = 0.42  # of the light; more, and the photograph would be ungradable


@dataclass(frozen=True)
class Media:
    """Lens and vitreous of one eye. veil: share of the light that is scattered.  centre: share of it in the middle.

    at (2,), wide: where the middle is and how wide, in field radii.  yellow: 0..1.
    """

    veil: float
    centre: float
    at: np.ndarray
    wide: float
    yellow: float


def draw_media(opacity: float, rng: np.random.Generator) -> Media:
    """One eye of a patient with this opacity, 0..1; the two eyes differ."""
    share, centre, wide = rng.uniform((0.5, 0.0, 0.35), (1.0, 0.6, 0.7))
    return Media(MOST_VEIL * opacity * share, centre, rng.normal(0, 0.18, 2), wide, opacity * rng.uniform(0.3, 1.0))


def through(media: Media, look: Look) -> Look:
    """The camera's look through these media: yellower and less sharp."""
    return replace(look, gain=look.gain - media.yellow * YELLOW, blur=look.blur + 0.0022 * media.veil)


def veil(media: Media, view: View, rng: np.random.Generator) -> np.ndarray | None:
    """Share of the light that is scattered, (S, S) float32, denser in places; None for clear media."""
    step = max(1, view.size // 64)
    x, y = view.grid(step)
    cloud = smooth_noise(rng, 3, len(y)) + 0.5 * smooth_noise(rng, 6, len(y))
    if not media.veil:
        return None
    middle = np.exp(-((x - media.at[0]) ** 2 + (y - media.at[1]) ** 2) / (2 * media.wide**2))
    share = media.veil * (1 - media.centre + media.centre * middle) * (1 + 0.18 * cloud)
    return enlarge(np.clip(share, 0, MOST_VEIL).astype(np.float32), step, view.size)


def scatter_light(picture: np.ndarray, share: np.ndarray | None, colour: np.ndarray) -> np.ndarray:
    """Dim the log picture (3, S, S) in place by what is scattered; returns the grey levels (3, S, S) that come back.

    Scattered light has the colour of the retina, log RGB `colour` (3,), somewhat whiter. Lesions do not change it: they
    would show their grade everywhere.
    """
    if share is None:
        return np.zeros((3, 1, 1), np.float32)
    mean = np.exp(colour)
    picture += np.log1p(-share)
    return (0.7 * mean + 0.4 * mean.mean()).astype(np.float32)[:, None, None] * share
