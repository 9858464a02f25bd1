"""Rendered fundus photographs: seeded, with lesion masks, for tests and demonstrations without any real photograph."""

from m2cnn.synthetic.cameras import CAMERAS, Camera
from m2cnn.synthetic.dataset import Rendering, render_dataset
from m2cnn.synthetic.nuisances import NONE, Nuisances, parse_nuisances
from m2cnn.synthetic.render import FIELDS, Rendered, render, render_patients
from m2cnn.synthetic.spots import Lesion

__all__ = [
    "CAMERAS",
    "FIELDS",
    "NONE",
    "Camera",
    "Lesion",
    "Nuisances",
    "Rendered",
    "Rendering",
    "parse_nuisances",
    "render",
    "render_dataset",
    "render_patients",
]
