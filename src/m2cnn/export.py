"""Writing a bundle: weights as safetensors, the network as ONNX, and system.json that hashes both."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import m2cnn
from m2cnn.bundle import (
    COMBINED_FILES,
    COMBINER,
    FILES,
    INPUT,
    KNOWN,
    MEMBERS,
    ONNX,
    OUTPUTS,
    SCHEMA,
    SETTINGS,
    WEIGHTS,
    Bundle,
    answers_of,
    both,
    copy_bundle,
    load_bundle,
)
from m2cnn.calibration import NONE
from m2cnn.checkpoint import save_weights
from m2cnn.combine import Combiner
from m2cnn.data.manifest import file_hash
from m2cnn.data.terms import Terms
from m2cnn.errors import BundleError
from m2cnn.grades import DISCLAIMER, ENDPOINTS, GRADES
from m2cnn.onnx_export import export_module
from m2cnn.systems import Member
from m2cnn.tables import write_json

TOLERANCE = 1e-4  # largest difference between ONNX and torch that a bundle may have


@dataclass(frozen=True)
class Origin:
    """Where a bundle comes from. system, source: the row's name, and what is known of it.  training: facts of it.

    known: the photographs of training and validation, of `Known.to_bytes`.  terms: of all that it learned from.
    """

    system: str
    source: str
    training: dict[str, Any]
    known: bytes
    terms: Terms = Terms()


class Both(nn.Module):
    """A network that gives outputs and features."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return both(self.network, pictures)


def export_onnx(network: nn.Module, size: int, path: Path, half: bool = False) -> None:
    """The network as one ONNX file.

    Input "pictures" (N, 3, size, size) uint8; outputs "outputs" (N, K) and "features" (N, D), float32. half: weights
    that float16 holds exactly are stored so; ONNX Runtime computes in float32 all the same.
    """
    network = Both(network).cpu().eval().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    export_module(network, example, path, INPUT, OUTPUTS, half)


def save_bundle(
    folder: Path, network: nn.Module, member: Member, origin: Origin, *, size: int, cells: int, half: bool = False
) -> Bundle:
    """Write, check and return a bundle. Nothing appears at `folder` until it is whole.

    half: the large weights, rounded already (m2cnn.half), take two bytes each in both files.
    Raises BundleError where ONNX Runtime and torch disagree by more than 1e-4.
    """
    fresh = _fresh(folder)
    save_weights(network, fresh / WEIGHTS, half)
    export_onnx(network, size, fresh / ONNX, half)
    settings = {
        "network_kind": type(member.network).__name__,
        "network": member.network.to_dict(),
        "cells": cells,
        "size": size,
        "task": member.task.to_dict(),
        "preprocess": member.preprocess.to_dict(),
        "views": member.views.to_dict(),
        "frame": member.frame,
    }
    _write_settings(fresh, settings, FILES, origin)
    _check_agreement(load_bundle(fresh), network)
    return _settle(fresh, folder)


def save_combined(folder: Path, members: dict[str, Bundle], combiner: Combiner, onnx: bytes, origin: Origin) -> Bundle:
    """Write, check and return the bundle of several members, or of both eyes; the members' bundles are copied into it.

    combiner, onnx: of m2cnn.combine_fit.  What a member knows of photographs is kept once where the origin says it too.
    """
    fresh = _fresh(folder)
    for name, bundle in members.items():
        known = copy_bundle(bundle, fresh / MEMBERS / name) / KNOWN
        if known.read_bytes() == origin.known:
            known.unlink()
    (fresh / COMBINER).write_bytes(onnx)
    settings = {
        "members": {name: file_hash(bundle.folder / SETTINGS) for name, bundle in members.items()},
        "combiner": combiner.to_dict(),
        "task": combiner.task.to_dict(),
    }
    _write_settings(fresh, settings, COMBINED_FILES, origin)
    load_bundle(fresh)
    return _settle(fresh, folder)


def _write_settings(folder: Path, own: dict[str, Any], files: tuple[str, ...], origin: Origin) -> None:
    (folder / KNOWN).write_bytes(origin.known)
    first = {"schema": SCHEMA, "m2cnn": m2cnn.__version__, "system": origin.system, "source": origin.source}
    last = {
        "labels": [vars(grade) for grade in GRADES],
        "endpoints": ENDPOINTS,
        "calibration": NONE.to_dict(),
        "training": origin.training,
        "terms": origin.terms.to_dict(),
        "licence": origin.terms.text,
        "disclaimer": DISCLAIMER,
        "files": {name: file_hash(folder / name) for name in files},
    }
    write_json(folder / SETTINGS, first | own | last)


def _fresh(folder: Path) -> Path:
    """An empty folder beside it, where it can grow."""
    fresh = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    return fresh


def _settle(fresh: Path, folder: Path) -> Bundle:
    if folder.exists():
        shutil.rmtree(folder)
    fresh.rename(folder)
    return load_bundle(folder)


def _check_agreement(bundle: Bundle, network: nn.Module) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, bundle.size, bundle.size, 3), dtype=np.uint8)
    for ours, theirs in zip(answers_of(network)(pictures), bundle.answers("onnx")(pictures), strict=True):
        worst = float(np.abs(ours - theirs).max(initial=0.0))
        if not worst <= TOLERANCE * max(1.0, float(np.abs(ours).max(initial=0.0))):
            got = f"differs from torch by {worst:.2g}"
            raise BundleError(bundle.folder / ONNX, got, f"at most {TOLERANCE}", "Please report it.")
