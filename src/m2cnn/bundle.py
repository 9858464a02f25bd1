"""A saved model: a folder with `system.json` and the files below. Reading one needs no torch.

weights.safetensors    the network's weights, for torch
model.onnx             the network, for ONNX Runtime
photographs.npy        hashes and fingerprints of the photographs that it was trained on (m2cnn.data.known)

system.json (schema "m2cnn.bundle/2") says what the files mean: the task with its frozen cuts, the preprocess, the input
size, the labels and end-points, the recipe and data it was trained with, and the sha256 of every other file. The
bundle's own hash is the sha256 of system.json, so it covers everything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2cnn.data.known import Known, read_known
from m2cnn.data.manifest import file_hash
from m2cnn.errors import BundleError, SettingError, did_you_mean, require
from m2cnn.preprocess import Preprocess
from m2cnn.tasks import Task, task_from_dict

SCHEMA = "m2cnn.bundle/2"
SETTINGS, WEIGHTS, ONNX, KNOWN = "system.json", "weights.safetensors", "model.onnx", "photographs.npy"
FILES = (WEIGHTS, ONNX, KNOWN)
INPUT = "pictures"
BACKENDS = ("onnx", "torch")

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. hash: the first 16 hex digits of system.json's sha256.  size: input side in px."""

    folder: Path
    settings: dict[str, Any]
    hash: str
    system: str
    size: int
    task: Task
    preprocess: Preprocess

    def predictor(self, backend: str = "onnx") -> Predict:
        """A function (N, S, S, 3) uint8 -> (N, K) float32 outputs.

        Raises SettingError for an unknown backend, MissingExtra for "torch" without the extra.
        """
        if backend not in BACKENDS:
            raise SettingError("backend", f'"{backend}"', "onnx or torch", did_you_mean(backend, BACKENDS))
        return _onnx_predictor(self) if backend == "onnx" else _torch_predictor(self)

    def known(self) -> Known:
        """The photographs that this model must not be measured on."""
        return read_known(self.folder / KNOWN)


def load_bundle(folder: str | Path) -> Bundle:
    """The bundle in that folder (or in FOLDER/bundle, for a run), every file checked against its hash.

    Raises BundleError for a missing, changed, damaged or newer bundle.
    """
    folder = Path(folder)
    if not (folder / SETTINGS).is_file() and (folder / "bundle" / SETTINGS).is_file():
        folder = folder / "bundle"
    settings, digest = _read_settings(folder / SETTINGS)
    for name in set(FILES) - settings["files"].keys():
        raise BundleError(
            folder / SETTINGS, f"it has no hash of {name}", "one of every file", "Export the bundle again."
        )
    for name, expected in settings["files"].items():
        _check_file(folder, name, expected)
    try:
        task, preprocess = task_from_dict(settings["task"]), Preprocess.from_dict(settings["preprocess"])
        return Bundle(folder, settings, digest[:16], settings["system"], settings["size"], task, preprocess)
    except (KeyError, TypeError) as cause:
        raise BundleError(
            folder / SETTINGS, f"unusable ({cause})", f"the keys of {SCHEMA}", "Export the bundle again."
        ) from cause


def _read_settings(path: Path) -> tuple[dict[str, Any], str]:
    if not path.is_file():
        raise BundleError(path, "no such file", f"a bundle: {', '.join((SETTINGS, *FILES))}", "Name its folder.")
    text = path.read_bytes()
    try:
        settings = json.loads(text)
    except ValueError as cause:
        raise BundleError(path, f"not JSON ({cause})", SCHEMA, "Copy the bundle again.") from cause
    schema = settings.get("schema") if isinstance(settings, dict) else None
    if schema != SCHEMA:
        raise BundleError(path, f'schema is "{schema}"', f'"{SCHEMA}"', "A newer bundle needs a newer m2cnn.")
    if not isinstance(settings.get("files"), dict):
        raise BundleError(path, "it names no files", "the sha256 of weights and model", "Export the bundle again.")
    return settings, hashlib.sha256(text).hexdigest()


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise BundleError(
            path, "no such file in the bundle", "the file that system.json names", "Copy the bundle again."
        )
    actual = file_hash(path)
    if actual != expected:
        raise BundleError(
            path,
            f"sha256 is {actual[:16]}...",
            f"{expected[:16]}...",
            "The file was changed or damaged: copy the bundle again.",
        )


def _onnx_predictor(bundle: Bundle) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(bundle.folder / ONNX), options, providers=["CPUExecutionProvider"])

    def predict(pictures: np.ndarray) -> np.ndarray:
        return session.run(None, {INPUT: np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))})[0]

    return predict


def _torch_predictor(bundle: Bundle) -> Predict:
    torch = require("torch", "train")
    network = load_network(bundle)

    def predict(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))).float().numpy()

    return predict


def load_network(bundle: Bundle, network: Any = None) -> Any:
    """The torch network of a bundle, in evaluation mode. `network`: its settings, where they are your own.

    Raises BundleError for a network that this package did not define and that `network` does not give.
    """
    require("torch", "train")
    from safetensors.torch import load_file

    from m2cnn.models import KINDS

    if network is None:
        kind = bundle.settings["network_kind"]
        if kind not in KINDS:
            raise BundleError(
                bundle.folder, f"its network is {kind}", "one that m2cnn defines", "Pass network=, or use ONNX."
            )
        # The bundle's weights replace whatever the network started from.
        network = KINDS[kind].from_dict(bundle.settings["network"]).without_weights()
    built = network.build(bundle.task.outputs, bundle.settings["cells"])
    built.load_state_dict(load_file(bundle.folder / WEIGHTS))
    return built.eval()
