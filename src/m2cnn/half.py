"""Half storage: the large weights of a network as float16, rounded before anything is chosen by it or measured on it.

Large are the parameters of two dimensions or more, kernels and matrices. Biases, norms and buffers are few, and some of
them (running variances) do not fit float16: they stay float32. Whatever is stored as float16 must be rounded already,
so that storing changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2cnn.errors import BundleError, SettingError


def large(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that half storage rounds, by name."""
    return {name: weight for name, weight in network.named_parameters() if weight.dim() >= 2}


@torch.no_grad()
def round_to_half(network: nn.Module) -> None:
    """Round the large weights to float16, in place; they stay float32 tensors.

    Raises SettingError, and changes nothing, where one of them is beyond float16 or no number.
    """
    weights = large(network)
    rounded = {name: weight.half() for name, weight in weights.items()}
    for name, half in rounded.items():
        if not half.isfinite().all():
            got = f"a weight of {weights[name].abs().max():.3g}"
            most = f"numbers up to {torch.finfo(torch.float16).max:g}, which float16 can hold"
            raise SettingError(f"half, {name}", got, most, "Train without half=true.")
    for name, half in rounded.items():
        weights[name].copy_(half)


def as_half(name: str, weight: Tensor) -> Tensor:
    """A rounded weight as float16. Raises BundleError for one that float16 would change."""
    half = weight.half()
    if not torch.equal(half.float(), weight):
        raise BundleError(name, "a weight that is not rounded to float16", "one that is", "Call round_to_half first.")
    return half
