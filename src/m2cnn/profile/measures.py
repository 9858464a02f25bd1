"""What is measured of every photograph, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2cnn.metrics import Floats


@dataclass(frozen=True)
class Measure:
    """One number per photograph.

    title, meaning: what it is, for a heading and in a sentence.  unit: behind its values, "%" for a share 0..1.
    less, more: how photographs with low and high values look beside others: "much MORE than the rest".
    least: the smallest spread, on `scaled`, that counts as one: below it all photographs are alike.
    harm_less, harm_more: why a network may fail on photographs that are so beside those it learnt from; "" where
    nothing speaks for it.  logarithmic: a factor counts, not a difference.  camera: only the camera
    and the file can change it; what is seen in an eye, disease among it, can change the others.
    """

    name: str
    title: str
    meaning: str
    unit: str
    less: str
    more: str
    least: float
    harm_less: str
    harm_more: str
    logarithmic: bool = False
    camera: bool = False

    def scaled(self, values: Floats) -> Floats:
        """Values as they are compared: logarithms to base 2 where a factor counts."""
        return np.log2(np.maximum(values, 1e-3)) if self.logarithmic else values

    def shown(self, value: float) -> str:
        """A value with its unit."""
        if np.isnan(value):
            return "-"
        if self.unit == "%":
            return f"{100 * value:.1f} %" if abs(value) < 0.1 else f"{100 * value:.0f} %"
        if self.unit == "px":
            return f"{value:,.0f} px"
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"


COLOUR = "Networks learn absolute colours; haemorrhages and exudates are told from the retina by colour."
LOST = "Microaneurysms are the first thing that is lost: mild retinopathy looks like none."
FINE = "A network that learnt from less detail may take fine structure and noise for lesions."
LIGHT = "What the network learnt of dark and bright spots lies at other values here."
FRAME = "The rim of the field, and what lies beyond it, looks unlike anything that was learnt."
HIDDEN = "Lesions in the hidden part are missed, and the cut edge looks unlike anything that was learnt."
CLIPPED = "Where colours are clipped, lesions leave no trace."
BLOCKS = "The blocks and rings of compression drown or mimic small lesions."

MEASURES = (
    Measure(
        "diameter",
        "Field of view",
        "pixels of the file across the round field",
        "px",
        "smaller in pixels",
        "larger in pixels",
        0.1,
        LOST,
        "",
        logarithmic=True,
        camera=True,
    ),
    Measure(
        "detail",
        "True detail",
        "pixels across the field that would hold what is really resolved, at most 1,024",
        "px",
        "less detailed",
        "more detailed",
        0.2,
        LOST,
        FINE,
        logarithmic=True,
    ),
    Measure(
        "kept",
        "Pixels needed",
        "true detail over pixels: 100 % is a photograph "
        "as sharp as its size allows, less is an enlarged, blurred or heavily compressed one",
        "%",
        "less sharp for the size",
        "sharper for the size",
        0.1,
        LOST,
        FINE,
    ),
    Measure(
        "reach",
        "Field over frame",
        "diameter of the field over the frame's shorter side; above 1 the frame cuts the field",
        "",
        "narrower in the frame",
        "wider in the frame",
        0.03,
        FRAME,
        FRAME,
        camera=True,
    ),
    Measure(
        "cut",
        "Not shown",
        "share of the round field beyond the frame or black",
        "%",
        "more complete",
        "less complete",
        0.03,
        "",
        HIDDEN,
        camera=True,
    ),
    Measure(
        "jpeg",
        "JPEG quality",
        "the quality, 1 to 100, at which it was saved last",
        "",
        "more compressed",
        "less compressed",
        3.0,
        BLOCKS,
        "",
        camera=True,
    ),
    Measure(
        "brightness", "Brightness", "mean of the field, 100 % is white", "%", "darker", "brighter", 0.04, LIGHT, LIGHT
    ),
    Measure(
        "unevenness",
        "Unevenness",
        "how much the light varies over the field, relative to its mean",
        "%",
        "more even in light",
        "less even in light",
        0.04,
        "",
        LIGHT,
    ),
    Measure(
        "clipped",
        "Overexposed",
        "share of the field where a colour stands at its maximum",
        "%",
        "less overexposed",
        "more overexposed",
        0.03,
        "",
        CLIPPED,
    ),
    Measure(
        "redness",
        "Red",
        "red's part of the field's median colour; grey is 33 %",
        "%",
        "less red",
        "redder",
        0.03,
        COLOUR,
        COLOUR,
    ),
    Measure(
        "blueness",
        "Blue",
        "blue's part of the field's median colour; grey is 33 %",
        "%",
        "less blue",
        "bluer",
        0.03,
        COLOUR,
        COLOUR,
    ),
    Measure(
        "saturation",
        "Saturation",
        "how colourful the field is; grey is 0 %",
        "%",
        "paler",
        "more colourful",
        0.05,
        COLOUR,
        COLOUR,
    ),
    Measure(
        "stretch",
        "Colour stretch",
        "how much of 0..255 the least used of red, green and blue spans. Cameras leave "
        "blue a narrow span; near 100 % each colour was stretched on its own, and colour tells little",
        "%",
        "less stretched in colour",
        "more stretched in colour",
        0.1,
        COLOUR,
        COLOUR,
    ),
    Measure(
        "contrast",
        "Contrast",
        "strength of vessels and lesions in green, relative to its mean",
        "%",
        "poorer in contrast",
        "richer in contrast",
        0.15,
        LIGHT,
        LIGHT,
        logarithmic=True,
    ),
    Measure(
        "sharpness",
        "Sharpness",
        "fine structure over coarse structure on a field of 256 px",
        "",
        "softer",
        "sharper",
        0.05,
        LOST,
        FINE,
    ),
)
BY_NAME = {measure.name: measure for measure in MEASURES}
