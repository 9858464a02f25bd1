"""What a network is asked: how many outputs it has, its loss, and how outputs become a grade.

The loss is the poster's L = L1 + L2 (Zhou et al., 2018): softmax cross-entropy over the five grades plus the squared
error of one scalar on the grade. Decoding is NumPy, so that the base install grades without torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from m2cnn.errors import SettingError, did_you_mean
from m2cnn.grades import NUM_GRADES
from m2cnn.metrics import kappa_of_confusion

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING_CUTS = (0.5, 1.5, 2.5, 3.5)
