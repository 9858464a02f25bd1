"""In which precision a network is trained here, and what this CPU does badly in bf16."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from m2cnn.tasks import Task


class DepthwiseInFloat(TorchFunctionMode):
    """Within autocast on a CPU, grouped convolutions stay in float32; everything else is as autocast has it.

    Their bf16 kernels are the slow ones of oneDNN: forward and backward of a strided depthwise convolution take 8 to 17
    times as long as in float32, of other 5 x 5 ones 3 to 4 times (AMD EPYC with avx512_bf16, torch 2.x); a whole step
    of mobilenet_edgetpu_100 at 192 px, 1.6 times.
    """

    def __torch_function__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.conv2d and torch.is_autocast_enabled("cpu") and args[0].device.type == "cpu":
            groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
            if groups > 1:
                with torch.autocast("cpu", enabled=False):
                    return function(args[0].float(), *args[1:], **kwargs)
        return function(*args, **kwargs)


def depthwise_in_float() -> AbstractContextManager:
    """DepthwiseInFloat where autocast on a CPU is on, else nothing: a mode takes part in every call of torch."""
    return DepthwiseInFloat() if torch.is_autocast_enabled("cpu") else nullcontext()


def faster_precision(network: nn.Module, task: Task, size: int, batch: int) -> str:
    """ "bf16" where one training step of this network is measured at least 10 % faster with it here, else "32"."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "32"
    trial = copy.deepcopy(network).train().to(memory_format=torch.channels_last)
    pictures = torch.zeros(batch, 3, size, size, dtype=torch.uint8)
    grades = torch.zeros(batch, dtype=torch.int64)

    def step(enabled: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), depthwise_in_float():
            outputs = trial(pictures)
        task.loss(outputs.float(), grades).backward()
        return time.perf_counter() - start

    step(False), step(True)
    seconds = {enabled: min(step(enabled) for _ in range(3)) for enabled in (False, True)}
    return "bf16" if seconds[True] < 0.9 * seconds[False] else "32"
