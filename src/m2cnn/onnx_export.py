"""A torch module as one ONNX file, its large weights as float32 or as float16."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

LEAST = 1024  # numbers of an initializer that is worth a Cast


def export_module(
    module: nn.Module,
    example: Tensor,
    path: str | Path,
    input_name: str,
    output_names: Sequence[str],
    half: bool = False,
) -> None:
    """Write the module, on the CPU and in evaluation mode, as one file whose first dimension is free.

    example: a batch of at least two: one would be taken for a constant.  half: as `store_half`; batch norms then stay
    apart, because a kernel with a norm folded into it is no float16 any more. ONNX Runtime folds them when it loads.
    """
    with warnings.catch_warnings():
        # The exporter warns of its own deprecated internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
            optimize=not half,
        )
        if half:
            _fold_constants(program.model)
        model = program.model_proto
    _forget_traces(model)
    if half:
        store_half(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _fold_constants(model: object) -> None:
    """What is left of the exporter's optimiser without the rules that rewrite kernels."""
    from onnxscript import optimizer

    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)


def _forget_traces(model: onnx.ModelProto) -> None:
    """Remove in whose folders each node was traced: a bundle must not tell, and it is longer than some kernels."""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]


def store_half(model: onnx.ModelProto) -> None:
    """Store the large float32 initializers that float16 holds exactly as float16, each with a Cast, in place.

    Nothing that is computed changes: a number that would change stays as it is.
    """
    casts = []
    for tensor in model.graph.initializer:
        values = _as_half(onnx.numpy_helper.to_array(tensor))
        if values is not None:
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _as_half(values: np.ndarray) -> np.ndarray | None:
    """The same numbers as float16, None where there are few of them or they would change."""
    if values.dtype != np.float32 or values.size < LEAST:
        return None
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None
