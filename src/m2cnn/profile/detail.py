"""How much a photograph truly resolves, whatever number of pixels it is stored with.

The power spectrum of a retina falls like a power of the frequency, until optics, focus, movement, compression or an
enlargement take more away. Where it lies ten times below that power law, nothing is resolved any more.

Copies of 30 photographs of EyePACS and IDRiD, reduced to a half and a quarter and enlarged again, come out at 0.57 and
0.29 of their former size (medians); blurred ones at less the more they are blurred. Noise counts as detail: in a noisy
photograph the number is an upper bound.
"""

from __future__ import annotations

import cv2
import numpy as np

LARGEST = 1024  # px across the field; more is reduced first
WINDOW = 0.6  # of the diameter: the square that is transformed lies within the circle
FROM, TO = 6.0, 20.0  # cycles per diameter: vessels, of which every photograph shows some
SLOPE = 2.4  # of the power over the frequency, on logarithmic scales
LOST = 0.1  # of the power that the law expects


def resolved(green: np.ndarray) -> float:
    """Pixels across the field of view that would hold what is resolved; green: the square (S, S) uint8 around it.

    At most the pixels that are there, or LARGEST.
    """
    side = min(green.shape[0], LARGEST)
    if side < green.shape[0]:
        green = cv2.resize(green, (side, side), interpolation=cv2.INTER_AREA)
    cut = round(side * (1 - WINDOW) / 2)
    power = _power(green[cut : side - cut, cut : side - cut].astype(np.float32))
    frequency = np.arange(len(power)) * side / (side - 2 * cut)  # cycles per diameter
    above = _above_the_law(np.log(power + 1e-6), frequency)
    lost = frequency[(frequency > TO) & (above < np.log(LOST))]
    return float(min(side, 2 * lost[0])) if len(lost) else float(side)


def _power(square: np.ndarray) -> np.ndarray:
    """Mean power of (n, n) at 0..n/2 cycles, in squared grey levels: what white noise of that variance has."""
    n = square.shape[0]
    window = np.outer(np.hanning(n), np.hanning(n)).astype(np.float32)
    flat = (square - np.average(square, weights=window)) * window
    power = np.abs(np.fft.rfft2(flat)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(n, 1 / n)[:, None], np.arange(power.shape[1])[None, :])
    ring = np.rint(radius).astype(int).ravel()
    return (np.bincount(ring, power.ravel()) / np.maximum(np.bincount(ring), 1))[: n // 2]


def _above_the_law(power: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Logarithm of the power over that of the law fitted to the vessels, as a mean over 7 % of the frequency."""
    law = -SLOPE * np.log(np.maximum(frequency, 1))
    vessels = (frequency >= FROM) & (frequency <= TO)
    total = np.concatenate([[0.0], np.cumsum(power)])
    place = np.arange(len(power))
    first, last = (place * 0.93).astype(int), np.minimum((place * 1.07).astype(int) + 2, len(power))
    smooth = (total[last] - total[first]) / (last - first)
    return smooth - law - float(np.mean((power - law)[vessels]))
