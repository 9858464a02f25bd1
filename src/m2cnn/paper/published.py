"""What the M2CNN poster prints (Zhou et al. 2018): quadratic weighted kappa on its "val set", 10,906 photographs.

Known: the numbers. Inferred: that the ablation is of the val set (its 720 px row repeats the val column of the
comparison).
"""

from __future__ import annotations

SIZES = (224, 448, 720)  # px, training and test

# (arm, decode) -> kappa at 224, 448 and 720 px; None where the poster has a dash. M2CNN has no row at 224 px: with zero
# cells it is BaseNet with the multi-task loss.
ABLATION: dict[tuple[str, str], tuple[float | None, float, float]] = {
    ("mse", "scores"): (0.720, 0.790, 0.835),
    ("ce", "prob"): (0.725, 0.772, 0.751),
    ("mt", "scores"): (0.742, 0.812, 0.841),
    ("mt", "prob"): (0.718, 0.782, 0.826),
    ("m2cnn", "scores"): (None, 0.830, 0.844),
    ("m2cnn", "prob"): (None, 0.812, 0.842),
}


def ablation(arm: str, decode: str, rung: int) -> float | None:
    """The poster's kappa, or None where it has none."""
    return ABLATION.get((arm, decode), (None, None, None))[rung]
