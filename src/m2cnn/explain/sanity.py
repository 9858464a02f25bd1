"""Does a method look at what the network has learnt? The same network at random weights must give another map.

Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018: methods that draw much the same map of a network that
knows nothing are edge detectors, however convincing they look. Here all weights are drawn anew at once, batch norms are
measured on the checked photographs, and a method fails when the rank correlation of the two maps, its sign left out, is
FAILS or more in the mean over photographs. The limit is ours; the paper gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from m2cnn.bundle import Bundle
from m2cnn.explain.maps import AT_ONCE, ready
from m2cnn.fit import measure_norms
from m2cnn.systems import network_kinds

FAILS = 0.5
SEED = 0


@dataclass(frozen=True)
class Check:
    """correlation: the mean over `photographs` of the absolute rank correlation; None where none could be checked.

    A map that is blank, of either network, cannot be compared: a network at random weights often has none.
    """

    correlation: float | None
    photographs: int

    @property
    def warning(self) -> str:
        """What a reader of the map must know, or ""."""
        if self.correlation is None:
            return "not checked with random weights: on no photograph were there two maps to compare"
        if self.correlation < FAILS:
            return ""
        said = f"rank correlation {self.correlation:.2f} on {self.photographs} photographs, {FAILS:g} or more fails"
        return f"fails the check with random weights ({said}): this map does not show what the network has learnt"


def check(correlations: Sequence[float]) -> Check:
    """The check of a method from its rank correlations, one per photograph; NaN where one of two maps is blank."""
    compared = np.abs([each for each in correlations if not np.isnan(each)])
    return Check(float(compared.mean()) if len(compared) else None, len(compared))


def at_random(bundle: Bundle, pictures: np.ndarray) -> nn.Module:
    """The network of a bundle at random weights, the same ones whenever it is called.

    pictures: (N, S, S, 3) uint8, on which its batch norms are measured.
    """
    settings = network_kinds()[bundle.settings["network_kind"]].from_dict(bundle.settings["network"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = settings.without_weights().build(bundle.task.outputs, bundle.settings["cells"])
    batch = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    measure_norms(network, [(part, part) for part in batch.split(AT_ONCE)])
    return ready(network)
