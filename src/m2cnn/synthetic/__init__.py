"""Rendered fundus photographs: seeded, with lesion masks, for tests and demonstrations without any real photograph."""

from m2cnn.synthetic.dataset import render_dataset
from m2cnn.synthetic.render import Rendered, render, render_patients
from m2cnn.synthetic.spots import Lesion

__all__ = ["Lesion", "Rendered", "render", "render_dataset", "render_patients"]
