"""Writing a bundle: weights as safetensors, the network as ONNX, and system.json that hashes both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import m2cnn
from m2cnn.bundle import FILES, INPUT, KNOWN, ONNX, SCHEMA, SETTINGS, WEIGHTS, Bundle, load_bundle
from m2cnn.checkpoint import save_weights
from m2cnn.data.manifest import file_hash
from m2cnn.errors import BundleError
from m2cnn.grades import DISCLAIMER, ENDPOINTS, GRADES
from m2cnn.onnx_export import export_module
from m2cnn.systems import Member

TOLERANCE = 1e-4  # largest difference between ONNX and torch that a bundle may have


def export_onnx(network: nn.Module, size: int, path: Path) -> None:
    """The network as one ONNX file: input "pictures" (N, 3, size, size) uint8, output "outputs" (N, K) float32."""
    network = network.cpu().eval().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    export_module(network, example, path, INPUT, ["outputs"])


def save_bundle(
    folder: Path,
    network: nn.Module,
    member: Member,
    *,
    system: str,
    source: str,
    size: int,
    cells: int,
    training: dict[str, Any],
    known: bytes,
) -> Bundle:
    """Write, check and return a bundle. Nothing appears at `folder` until it is whole.

    known: the photographs of training and validation, of `Known.to_bytes`.

    Raises BundleError where ONNX Runtime and torch disagree by more than 1e-4.
    """
    fresh = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_weights(network, fresh / WEIGHTS)
    export_onnx(network, size, fresh / ONNX)
    (fresh / KNOWN).write_bytes(known)
    settings = {
        "schema": SCHEMA,
        "m2cnn": m2cnn.__version__,
        "system": system,
        "source": source,
        "network_kind": type(member.network).__name__,
        "network": member.network.to_dict(),
        "cells": cells,
        "size": size,
        "task": member.task.to_dict(),
        "preprocess": member.preprocess.to_dict(),
        "labels": [vars(grade) for grade in GRADES],
        "endpoints": ENDPOINTS,
        "training": training,
        "licence": "Weights: the terms of the training photographs apply. Code: Apache-2.0.",
        "disclaimer": DISCLAIMER,
        "files": {name: file_hash(fresh / name) for name in FILES},
    }
    (fresh / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    _check_agreement(load_bundle(fresh), network)
    if folder.exists():
        shutil.rmtree(folder)
    fresh.rename(folder)
    return load_bundle(folder)


def _check_agreement(bundle: Bundle, network: nn.Module) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, bundle.size, bundle.size, 3), dtype=np.uint8)
    with torch.inference_mode():
        ours = network(torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))).float().numpy()
    theirs = bundle.predictor("onnx")(pictures)
    worst = float(np.abs(ours - theirs).max())
    if not worst <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
        raise BundleError(
            bundle.folder / ONNX, f"differs from torch by {worst:.2g}", f"at most {TOLERANCE}", "Please report it."
        )
