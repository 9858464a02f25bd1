"""A saved model: a folder with `system.json` and the files below. Reading one needs no torch.

weights.safetensors    the network's weights, for torch
model.onnx             the network, for ONNX Runtime: "pictures" -> "outputs", "features"
photographs.npy        hashes and fingerprints of the photographs that it was trained on (m2cnn.data.known)
calibrated.npy         the same of others, where its operating points were chosen on them

A system of several members, or one that looks at both eyes, is a folder of such folders:

members/NAME/          a bundle of each member; where its photographs.npy would be the one below, it has none of its own
combiner.onnx          what joins them: "rows" -> "outputs"
photographs.npy, calibrated.npy

system.json (schema "m2cnn.bundle/4") says what the files mean: the task with its frozen cuts, the calibration, the
preprocess, the views, the input size, the labels and end-points, the recipe and data it was trained with, the terms of
its weights, and the sha256 of every other file (of a member: of its system.json). The bundle's own hash is the sha256
of system.json, so it covers all of these. What lies beside them (m2cnn.card) is no part of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from m2cnn.calibration import NONE, Calibration
from m2cnn.combine import INPUT as ROWS
from m2cnn.combine import OUTPUT, Combiner, combiner_from_dict
from m2cnn.data.known import Known, read_known
from m2cnn.data.manifest import file_hash
from m2cnn.data.terms import Terms
from m2cnn.data.views import Views
from m2cnn.errors import BundleError, SettingError, did_you_mean, require
from m2cnn.eyes import Eyes
from m2cnn.onnx_session import open_session
from m2cnn.packaged import SETTINGS, is_packaged, located, repair
from m2cnn.preprocess import Preprocess
from m2cnn.reader import Answers, Reader
from m2cnn.tables import write_atomically, write_json
from m2cnn.tasks import Decoded, Task, task_from_dict

SCHEMA = "m2cnn.bundle/4"
WEIGHTS, ONNX, KNOWN = "weights.safetensors", "model.onnx", "photographs.npy"
CALIBRATED, COMBINER, MEMBERS = "calibrated.npy", "combiner.onnx", "members"
FILES = (WEIGHTS, ONNX, KNOWN)
COMBINED_FILES = (COMBINER, KNOWN)
INPUT, OUTPUTS = "pictures", ("outputs", "features")
BACKENDS = ("onnx", "torch")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. hash: the first 16 hex digits of system.json's sha256.  task: what reads its outputs.
    calibration: what its probabilities mean.  terms: who may use its weights.

    Of one network, size: its input side in px.  frame: side of the prepared picture / size.
    Of several, or of both eyes, members: by name, each a bundle of one network; combiner: what joins them.
    """

    folder: Path
    settings: dict[str, Any]
    hash: str
    system: str
    task: Task
    calibration: Calibration = NONE
    terms: Terms = Terms()
    size: int = 0
    preprocess: Preprocess = Preprocess()
    views: Views = Views()
    frame: float = 1.0
    members: dict[str, Bundle] = field(default_factory=dict)
    combiner: Combiner | None = None

    @property
    def networks(self) -> tuple[Bundle, ...]:
        """The bundles of one network each: the members, or this one."""
        return tuple(self.members.values()) or (self,)

    @property
    def bytes(self) -> int:
        """Of all its files, those of its members too."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def files(self) -> dict[str, Path]:
        """Each of its files once, those of its members too, by the name below its folder."""
        own = {name: self.folder / name for name in (SETTINGS, *self.settings["files"])}
        of_members = {
            f"{MEMBERS}/{name}/{file}": path
            for name, member in self.members.items()
            for file, path in member.files.items()
        }
        return {name: path for name, path in (own | of_members).items() if path.is_file()}

    def to_text(self) -> str:
        """Which model it is, and who may use it, in a line."""
        origin = f", packaged as {self.folder.name}" if is_packaged(self.folder) else ""
        return f"model {self.hash} ({self.system}{origin}); weights: {self.terms.short}"

    @property
    def prepared(self) -> int:
        """Side in px of the picture that the preprocess makes."""
        return framed(self.size, self.frame)

    def answers(self, backend: str = "onnx") -> Answers:
        """A function (N, S, S, 3) uint8 -> outputs (N, K), features (N, D), float32, of a bundle of one network.

        Raises SettingError for an unknown backend, MissingExtra for "torch" without the extra.
        """
        if backend not in BACKENDS:
            raise SettingError("backend", f'"{backend}"', "onnx or torch", did_you_mean(backend, BACKENDS))
        return _onnx_answers(self) if backend == "onnx" else _torch_answers(self)

    def readers(self, backend: str = "onnx") -> tuple[Reader, ...]:
        """What reads prepared pictures, one of each network."""
        return tuple(
            Reader(each.answers(backend), each.task, each.views, each.size, each.prepared, each.preprocess.background)
            for each in self.networks
        )

    def combine(self) -> Callable[[Eyes], Decoded]:
        """How the answers of the members become grades."""
        session = open_session(self.folder / COMBINER)
        return lambda eyes: self.task.read(session.run([OUTPUT], {ROWS: self.combiner.rows(eyes)})[0])

    def known(self) -> Known:
        """The photographs that this model must not be measured on."""
        known = read_known(place_of(self.folder, KNOWN))
        return known.joined(read_known(self.folder / CALIBRATED)) if CALIBRATED in self.settings["files"] else known


def load_bundle(folder: str | Path) -> Bundle:
    """The bundle in that folder (or in FOLDER/bundle, for a run), every file checked against its hash.

    folder: also the name of a packaged model ("default"), where there is no folder of that name.
    Raises BundleError for a missing, changed, damaged or newer bundle.
    """
    folder = located(folder)
    if not (folder / SETTINGS).is_file() and (folder / "bundle" / SETTINGS).is_file():
        folder = folder / "bundle"
    settings, digest = _read_settings(folder / SETTINGS)
    combined = "combiner" in settings
    for name in set(COMBINED_FILES if combined else FILES) - settings["files"].keys():
        raise BundleError(
            folder / SETTINGS, f"it has no hash of {name}", "one of every file", "Export the bundle again."
        )
    for name, expected in settings["files"].items():
        _check_file(folder, name, expected)
    try:
        task, calibration = task_from_dict(settings["task"]), Calibration.from_dict(settings["calibration"])
        terms = Terms.from_dict(settings["terms"]) if "terms" in settings else Terms()
        bundle = Bundle(folder, settings, digest[:16], settings["system"], task, calibration, terms)
        return _combined(bundle, settings) if combined else _alone(bundle, settings)
    except (KeyError, TypeError) as cause:
        raise BundleError(
            folder / SETTINGS, f"unusable ({cause})", f"the keys of {SCHEMA}", "Export the bundle again."
        ) from cause


def place_of(folder: Path, name: str) -> Path:
    """Where a file of a bundle is: what all members know of photographs may stand once, in the bundle of them all."""
    shared = folder.parent.parent / name
    missing = name == KNOWN and folder.parent.name == MEMBERS and not (folder / name).is_file()
    return shared if missing and shared.is_file() else folder / name


def copy_bundle(bundle: Bundle, folder: Path) -> Path:
    """The bundle in a new folder, and whatever lies beside its files; a member's becomes one that stands alone."""
    shutil.copytree(bundle.folder, folder)
    if not (folder / KNOWN).is_file():
        shutil.copyfile(place_of(bundle.folder, KNOWN), folder / KNOWN)
    return folder


def with_calibration(bundle: Bundle, calibration: Calibration, fitted_on: Known | None = None) -> Bundle:
    """The bundle, in its folder, with another calibration; its hash is another too.

    fitted_on: the photographs of the calibration that photographs.npy does not have.
    """
    files = {name: digest for name, digest in bundle.settings["files"].items() if name != CALIBRATED}
    if fitted_on:
        write_atomically(bundle.folder / CALIBRATED, fitted_on.to_bytes())
        files[CALIBRATED] = file_hash(bundle.folder / CALIBRATED)
    write_json(bundle.folder / SETTINGS, bundle.settings | {"calibration": calibration.to_dict(), "files": files})
    if not fitted_on:
        (bundle.folder / CALIBRATED).unlink(missing_ok=True)
    return load_bundle(bundle.folder)


def framed(size: int, frame: float) -> int:
    """Side of the prepared picture of which a network is shown `size` px."""
    return round(size * frame)


def _alone(bundle: Bundle, settings: dict[str, Any]) -> Bundle:
    views, preprocess = Views.from_dict(settings["views"]), Preprocess.from_dict(settings["preprocess"])
    return replace(bundle, size=settings["size"], preprocess=preprocess, views=views, frame=settings["frame"])


def _combined(bundle: Bundle, settings: dict[str, Any]) -> Bundle:
    members = {name: _member(bundle.folder, name, digest) for name, digest in settings["members"].items()}
    return replace(bundle, members=members, combiner=combiner_from_dict(settings["combiner"]))


def _member(folder: Path, name: str, expected: str) -> Bundle:
    if Path(name).name != name:
        raise BundleError(folder / SETTINGS, f'a member is named "{name}"', "a plain name", "Copy the bundle again.")
    path = folder / MEMBERS / name
    if path.is_dir():
        _check_hash(path / SETTINGS, expected)
    return load_bundle(path)


def _read_settings(path: Path) -> tuple[dict[str, Any], str]:
    if not path.is_file():
        raise BundleError(path, "no such file", f"a bundle: {', '.join((SETTINGS, *FILES))}", repair(path.parent))
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
    path = place_of(folder, name)
    if Path(name).name != name or not path.is_file():
        raise BundleError(
            path, "no such file in the bundle", "the file that system.json names", "Copy the bundle again."
        )
    _check_hash(path, expected)


def _check_hash(path: Path, expected: str) -> None:
    actual = file_hash(path)
    if actual != expected:
        raise BundleError(
            path,
            f"sha256 is {actual[:16]}...",
            f"{expected[:16]}...",
            "The file was changed or damaged: copy the bundle again.",
        )


def _onnx_answers(bundle: Bundle) -> Answers:
    session = open_session(bundle.folder / ONNX)

    def answers(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(session.run(OUTPUTS, {INPUT: np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))}))

    return answers


def _torch_answers(bundle: Bundle) -> Answers:
    require("torch", "train")
    return answers_of(load_network(bundle))


def answers_of(network: Any) -> Answers:
    """The answers of a torch network, in evaluation mode, where it is."""
    import torch

    device = next(network.parameters()).device

    def answers(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).to(device)
        with torch.inference_mode():
            outputs, features = both(network, batch)
        return outputs.float().cpu().numpy(), features.float().cpu().numpy()

    return answers


def both(network: Any, pictures: Any) -> tuple[Any, Any]:
    """Outputs and features of a torch network; one of your own that has no `both` gives no features: (N, 0)."""
    if hasattr(network, "both"):
        return network.both(pictures)
    outputs = network(pictures)
    return outputs, outputs[:, :0]


def load_network(bundle: Bundle, network: Any = None) -> Any:
    """The torch network of a bundle, in evaluation mode. `network`: its settings, where they are your own.

    Raises BundleError for a network that this package did not define and that `network` does not give.
    """
    require("torch", "train")
    from safetensors.torch import load_file

    from m2cnn.systems import network_kinds

    if network is None:
        kind, kinds = bundle.settings["network_kind"], network_kinds()
        if kind not in kinds:
            raise BundleError(
                bundle.folder, f"its network is {kind}", "one that m2cnn defines", "Pass network=, or use ONNX."
            )
        # The bundle's weights replace whatever the network started from.
        network = kinds[kind].from_dict(bundle.settings["network"]).without_weights()
    built = network.build(bundle.task.outputs, bundle.settings["cells"])
    built.load_state_dict(load_file(bundle.folder / WEIGHTS))
    return built.eval()
