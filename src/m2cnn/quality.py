"""Is this picture a fundus photograph that can be graded? A refusal says why.

First rules with measured limits, for what is no photograph of a retina at all; then a small network on the measurements
of `m2cnn.quality_measures` that has learned from good photographs, real and rendered, from the same ones made worse
(m2cnn.synthetic.degrade), and from pictures that are no fundus. `benchmarks/quality.py` fits it and says what it
refuses, `benchmarks/degradation.py` how that grows with the dose.

Acceptance does not say that a photograph is good enough for a clinician.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np

from m2cnn.errors import ImageError
from m2cnn.field import Field, check_image, find_field
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.quality_measures import SIZE, measure

MIN_DIAMETER = 96  # px; vessels and the disc are still seen at this size, lesions are not

# name: (lowest, highest, reason); behind it the range in 6,645 real photographs, of which four lie outside a limit.
LIMITS = {
    "surround": (0.0, 100.0, "no dark surround"),  # 0..42 grey levels
    "litter": (0.0, 0.5, "no plain dark surround"),  # 0..0.43 of the surround, stretched noise
    "light": (25.0, 256.0, "too dark"),  # 23..255, 95th percentile
    "glare": (0.0, 0.4, "too bright: glare"),  # 0..0.50 of the retina
    "colour": (0.02, 9.0, "no colour: a retina is red and orange"),  # 0.05..0.99 of the brightness
    "green_red": (-6.0, 60.0, "colour is not that of a retina"),  # -3.9..54, a of Lab
    "blue_yellow": (-12.0, 80.0, "colour is not that of a retina"),  # -16..65, b of Lab
    "detail": (0.004, 9.0, "no detail: blurred, or no retina"),  # 0.006..0.15 of the brightness
}

# What the network tells apart; the first is what it accepts.
REASONS = {
    "good": "",
    "blur": "blurred",
    "darkness": "too dark",
    "haze": "hazy: too little contrast",
    "glare": "too bright: glare",
    "cut field": "too little of the retina is seen",
    "no fundus": "its structure is not that of a retina",
}
# Whatever else is said of a photograph tells its name or its size.
KNOWN_REASONS = frozenset({*REASONS.values(), *(reason for *_, reason in LIMITS.values())} - {""})


class Judge(NamedTuple):
    """A network of one hidden layer. names: the measurements that it is given, each less `middle`, over `scale`.

    hidden, hidden_bias (D, H), (H,); output, output_bias (H, 7), (7,), in the order of REASONS.  threshold: the chance
    of "good" from which a photograph is accepted.
    """

    names: list[str]
    middle: np.ndarray
    scale: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray
    threshold: float

    def chances(self, measured: dict[str, float]) -> dict[str, float]:
        """Of each of REASONS; they sum to 1."""
        given = (np.array([measured[name] for name in self.names]) - self.middle) / self.scale
        inner = np.tanh(given.clip(-OUTLYING, OUTLYING) @ self.hidden + self.hidden_bias)
        logits = inner @ self.output + self.output_bias
        shares = np.exp(logits - logits.max())
        return dict(zip(REASONS, (shares / shares.sum()).tolist(), strict=True))


OUTLYING = 6.0  # standard deviations beyond which a measurement says no more


@lru_cache
def the_judge() -> Judge:
    """The fitted network, of quality.json."""
    told = json.loads((resources.files("m2cnn") / "quality.json").read_text(encoding="utf-8"))
    arrays = {key: np.array(told[key]) for key in Judge._fields if key not in ("names", "threshold")}
    return Judge(names=told["names"], threshold=told["threshold"], **arrays)


def check_fundus(image: np.ndarray, field: Field | None = None) -> str:
    """Return "" for a gradable fundus photograph, else the reason why it is refused, such as "too dark".

    image: (H, W, 3) uint8 RGB.  field: its field of view where known, else it is sought.
    Raises ImageError when `image` is no such array.
    """
    check_image(image)
    try:
        field = find_field(image) if field is None else field
    except ImageError as cause:
        return cause.got
    diameter = round(2 * field.radius)
    if diameter < MIN_DIAMETER:
        return f"too small: the field of view is {diameter} px across, {MIN_DIAMETER} are needed"
    return judge(measure(image, field))


def check_file(file: PhotographFile) -> str:
    """`check_fundus` of a file, read as large as the check needs. Raises ImageError for what cannot be read."""
    photograph = file.at(Preprocess().diameter(SIZE))
    return check_fundus(photograph.image, photograph.field)


def judge(measured: dict[str, float]) -> str:
    """The reason why these measurements are not those of a fundus photograph that can be graded, or ""."""
    if reason := outside_limits(measured):
        return reason
    judge_of = the_judge()
    chances = judge_of.chances(measured)
    if chances.pop("good") >= judge_of.threshold:
        return ""
    return REASONS[max(chances, key=chances.__getitem__)]


def outside_limits(measured: dict[str, float]) -> str:
    """The reason of the first limit that is broken, or ""."""
    for name, (lowest, highest, reason) in LIMITS.items():
        if not lowest <= measured[name] <= highest:
            return reason
    return ""
