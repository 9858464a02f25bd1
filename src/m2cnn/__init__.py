"""m2cnn: grades diabetic retinopathy from photographs of the retina. Research software, not a medical device."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> its module; loaded on first use, so that grading never waits for torch. No name is also a module's:
# importing m2cnn.train would replace it.
_HOMES = {
    "Bundle": "bundle",
    "Grader": "grader",
    "Grading": "grades",
    "Manifest": "data",
    "Preprocess": "preprocess",
    "Predictions": "predictions",
    "Recipe": "recipe",
    "System": "systems",
    "load_bundle": "bundle",
    "load_recipe": "recipe",
    "open_data": "data",
    "quadratic_weighted_kappa": "metrics",
    "read_predictions": "predictions",
    "render": "synthetic",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'm2cnn' has no attribute '{name}'")
    return getattr(importlib.import_module(f"m2cnn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
