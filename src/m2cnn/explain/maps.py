"""The methods: a network, what it is shown and a target -> a map (S, S) of where the answer comes from.

grad-cam              the last map, channels weighted by the mean gradient; positive part (Selvaraju et al., ICCV 2017)
grad-cam-fine         the same at an earlier layer: the last map with a cell for every FINE px, and finer than grad-cam
integrated-gradients  gradients between the plain picture and this one, times their difference, summed over colours and
                      smoothed (Sundararajan et al., ICML 2017); signed; it sums to the difference of the two answers
occlusion             how far the answer falls when a window becomes plain, mean over the windows that cover a place;
                      signed (Zeiler and Fergus, ECCV 2014)
attention             of a Zoom-in-Net, its own: A-Net's gated map of the grade; for the severity the response that
                      C-Net's boxes follow

Works for any network whose maps lie as the picture does. Of a Zoom-in-Net the two Grad-CAMs read the trunk that sees
the whole picture; what C-Net's patches add is seen by the other methods. Windows, steps, sigmas: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2cnn.errors import SettingError, did_you_mean
from m2cnn.explain.shown import Shown
from m2cnn.explain.targets import GRADE, Target
from m2cnn.models.zoom_in_net import A_NET, ZoomInNetwork, response

Maps = list[np.ndarray]  # (S, S) float32, one per target
AT_ONCE = 8  # pictures
FINE = 20  # px: a stride of 16, and a network that does not pad
STEPS = 12
SMOOTH = 1 / 100  # sigma, of the side
WINDOW, WINDOWS = 1 / 6, 8  # side of a window, of the picture's; windows along a side


def ready(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, its weights at rest, laid out as convolutions on a CPU are quickest."""
    for each in network.parameters():
        each.requires_grad_(False)
    return network.eval().to(memory_format=torch.channels_last)


def answer(network: nn.Module, pictures: np.ndarray) -> np.ndarray:
    """(N, S, S, 3) uint8 -> outputs (N, K) float32, a few pictures at a time."""
    with torch.inference_mode():
        parts = [network(_tensor(pictures[n : n + AT_ONCE])).float() for n in range(0, len(pictures), AT_ONCE)]
    return torch.cat(parts).numpy()


def _tensor(pictures: np.ndarray) -> Tensor:
    """(N, S, S, 3) -> (N, 3, S, S) floats; their memory is channels last already."""
    return torch.from_numpy(np.ascontiguousarray(pictures, np.float32)).permute(0, 3, 1, 2)


def methods_of(network: nn.Module, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Those of `wanted` (default: all) that this network has. Raises SettingError for one that there is not."""
    for name in wanted:
        if name not in METHODS:
            raise SettingError("--methods", f'"{name}"', "known methods", did_you_mean(name, METHODS))
    attends = isinstance(network, ZoomInNetwork) and network.stage >= A_NET
    return tuple(name for name in METHODS if (not wanted or name in wanted) and (attends or name != ATTENTION))


def explain(network: nn.Module, shown: Shown, targets: Sequence[Target], method: str) -> Maps:
    """One map per target, float32, 0 outside the field."""
    found = METHODS[method](network, shown, targets)
    return [np.where(shown.inside, each, 0).astype(np.float32) for each in found]


# --- gradients of a map ---


def grad_cam(network: nn.Module, shown: Shown, targets: Sequence[Target]) -> Maps:
    layers = _layers(network, shown)
    return _cams(network, shown, targets, layers[-1][0])


def grad_cam_fine(network: nn.Module, shown: Shown, targets: Sequence[Target]) -> Maps:
    layers = _layers(network, shown)
    side = max(len(shown.picture) / FINE, layers[-1][1] + 1)
    fine = [name for name, each in layers if each >= side] or [layers[0][0]]
    return _cams(network, shown, targets, fine[-1])


def _whole(network: nn.Module) -> nn.Module:
    """The part of a network whose maps are of the whole picture."""
    return network.trunk if isinstance(network, ZoomInNetwork) else network


def _layers(network: nn.Module, shown: Shown) -> list[tuple[str, int]]:
    """(name, side) of every layer that gives a map of the whole picture, in the order in which they end."""
    found: list[tuple[str, int]] = []

    def note(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, given: Any, made: Any) -> None:
            # One copy: the turned ones of a cyclic network lie otherwise. Above three channels: no mere input.
            if isinstance(made, Tensor) and made.dim() == 4 and made.shape[0] == 1 and made.shape[1] > 3:
                found.append((name, min(made.shape[2:])))

        return hook

    hooks = [each.register_forward_hook(note(name)) for name, each in _whole(network).named_modules() if name]
    try:
        answer(network, shown.picture[None])
    finally:
        for hook in hooks:
            hook.remove()
    maps = [(name, side) for name, side in found if side > 1]
    if not maps:
        got = f"{type(network).__name__} has no layer that gives a map"
        raise SettingError("grad-cam", got, "a convolutional network", "Use occlusion or integrated-gradients.")
    return maps


def _cams(network: nn.Module, shown: Shown, targets: Sequence[Target], layer: str) -> Maps:
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, made: Tensor) -> Tensor:
        kept.append(made if made.requires_grad else made.requires_grad_())
        return made.clone()  # what follows may change it in place

    hook = _whole(network).get_submodule(layer).register_forward_hook(keep)
    try:
        outputs = network(_tensor(shown.picture[None]))
    finally:
        hook.remove()
    return [_cam(kept[-1], _gradient(target.of(outputs), kept[-1]), len(shown.picture)) for target in targets]


def _gradient(value: Tensor, by: Tensor) -> Tensor:
    """Of the sum of `value`; zeros where it does not depend on `by`."""
    (found,) = torch.autograd.grad(value.sum(), by, retain_graph=True, allow_unused=True, materialize_grads=True)
    return found


def _cam(features: Tensor, gradient: Tensor, size: int) -> np.ndarray:
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (1, C, 1, 1)
    heat = (weights * features).sum(dim=1, keepdim=True).relu()
    return _enlarged(heat.detach(), size)


def _enlarged(heat: Tensor, size: int) -> np.ndarray:
    """(1, 1, h, w) -> (size, size)."""
    return F.interpolate(heat.float(), (size, size), mode="bilinear", align_corners=False)[0, 0].numpy()


# --- gradients of the picture ---


def integrated_gradients(network: nn.Module, shown: Shown, targets: Sequence[Target]) -> Maps:
    start, end = _tensor(shown.plain[None]), _tensor(shown.picture[None])
    places = (torch.arange(STEPS) + 0.5) / STEPS
    sums = [torch.zeros_like(end) for _ in targets]
    for part in places.split(AT_ONCE):
        pictures = (start + part.view(-1, 1, 1, 1) * (end - start)).requires_grad_()
        outputs = network(pictures)
        for total, target in zip(sums, targets, strict=True):
            total += _gradient(target.of(outputs), pictures).sum(dim=0, keepdim=True)
    return [_smooth((total / STEPS * (end - start)).sum(dim=1)[0].numpy()) for total in sums]


def _smooth(heat: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(heat, (0, 0), SMOOTH * len(heat), borderType=cv2.BORDER_REFLECT)


# --- answers without a place ---


def occlusion(network: nn.Module, shown: Shown, targets: Sequence[Target]) -> Maps:
    windows = list(_windows(shown))
    hidden = np.repeat(shown.picture[None], len(windows) + 1, axis=0)
    for picture, window in zip(hidden[1:], windows, strict=True):
        picture[window] = shown.plain[window]
    outputs = torch.from_numpy(answer(network, hidden))
    return [_mean_fall(target.of(outputs).numpy(), windows, len(shown.picture)) for target in targets]


def _windows(shown: Shown) -> Iterator[tuple[slice, slice]]:
    """Even windows over the picture, edge to edge; those that show no retina are left out."""
    size = len(shown.picture)
    side = max(1, round(WINDOW * size))
    starts = np.unique(np.rint(np.linspace(0, size - side, WINDOWS)).astype(int))
    for top in starts:
        for left in starts:
            window = slice(top, top + side), slice(left, left + side)
            if shown.inside[window].any():
                yield window


def _mean_fall(values: np.ndarray, windows: Sequence[tuple[slice, slice]], size: int) -> np.ndarray:
    """values: the answer to the whole picture, then to each hidden window."""
    falls, count = np.zeros((size, size)), np.zeros((size, size))
    for value, window in zip(values[1:], windows, strict=True):
        falls[window] += float(values[0]) - float(value)
        count[window] += 1
    return falls / np.maximum(count, 1)


# --- a network's own attention ---


def attention(network: ZoomInNetwork, shown: Shown, targets: Sequence[Target]) -> Maps:
    with torch.inference_mode():
        x = _tensor(shown.picture[None])
        gated = network.attention(x)[0]
        logits = network.parts(x)
        found = response(gated, (logits["m"] + logits["a"]) / 2)[:, None]
    heats = [gated[:, [target.grade]].relu() if target.kind == GRADE else found for target in targets]
    return [_enlarged(heat, len(shown.picture)) for heat in heats]


def boxes(network: nn.Module, shown: Shown) -> list[list[int]]:
    """Top, left, bottom, right in px of the picture, of what C-Net looks at; none of other networks."""
    if ATTENTION not in methods_of(network):
        return []
    with torch.inference_mode():
        return network.attention(_tensor(shown.picture[None]))[1][0].tolist()


ATTENTION = "attention"
METHODS: dict[str, Callable[[nn.Module, Shown, Sequence[Target]], Maps]] = {
    "grad-cam": grad_cam,
    "grad-cam-fine": grad_cam_fine,
    "integrated-gradients": integrated_gradients,
    "occlusion": occlusion,
    ATTENTION: attention,
}
