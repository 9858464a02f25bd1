"""A torch module as one ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def export_module(
    module: nn.Module, example: Tensor, path: str | Path, input_name: str, output_names: Sequence[str]
) -> None:
    """Write the module, on the CPU and in evaluation mode, as one file whose first dimension is free.

    example: a batch of at least two: one would be taken for a constant.
    """
    with warnings.catch_warnings():
        # The exporter warns of its own deprecated internals.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            path,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
