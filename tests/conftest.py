"""What several test files need: real photographs where there are any, a rendered set, a trained slim M2CNN."""

import hashlib
import os
from pathlib import Path

import cv2
import pytest
from filelock import FileLock

# Two test processes share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
cv2.setNumThreads(1)

TINY = [
    "network.width=1/16",
    "network.repeats=[1,1,1]",
    "network.residual_blocks=1",
    "network.ladder=quarter",
    "precision=32",
]
TINY += ["optimiser.name=adamw", "stages.*.lr=0.003", "stages.*.batch=8", "stages.*.accumulate=1", "stages.*.epochs=2"]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs; skips where M2CNN_DATA does not name it."""
    folder = os.environ.get("M2CNN_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("M2CNN_DATA does not name a folder of real photographs")
    return Path(folder)


@pytest.fixture
def build(tmp_path):
    """Files by path; content is the path itself unless given."""

    def make(*names, **contents):
        for name in (*names, *contents):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents.get(name, name.encode() + b"." * len(tuple(path.parent.iterdir()))))
        return tmp_path

    return make


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): the path `name` that all test processes share, which the first to ask makes by make(path)."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of the folders of all processes

    def get(name, make):
        path, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                make(path)
                done.touch()
        return path

    return get


@pytest.fixture(scope="session")
def rendered(once):
    """48 rendered photographs of 24 patients, 224 px, with their manifest written and split."""
    from m2cnn.data import assign_splits, read_manifest, write_manifest
    from m2cnn.data.rendered import render_manifest

    def render(folder):
        manifest = render_manifest(folder, 24, 5, 224, workers=1)
        manifest = assign_splits(manifest, {"train": 0.6, "val": 0.2, "test": 0.2}, lockbox=0.1)
        write_manifest(manifest, folder / "manifest.csv")

    return read_manifest(once("rendered", render) / "manifest.csv")


@pytest.fixture(scope="session")
def tiny_recipe():
    """M2CNN, 56 px without and 112 px with one cell, as small as it gets."""
    from dataclasses import replace

    from m2cnn.recipe import load_recipe

    recipe = load_recipe("m2cnn", TINY)
    return replace(recipe, stages=recipe.stages[:2])


class SharedTraces:
    """As `export_onnx`, which takes 10 s of each bundle: one trace for all of an architecture, with norms unfolded,
    into which the weights are put. `save_bundle` compares each file with torch all the same.
    """

    def __init__(self, export_onnx, once):
        self.export_onnx = export_onnx
        self.once = once

    def __call__(self, network, size, path, half=False):
        import onnx

        from m2cnn.export import Both

        if half:
            return self.export_onnx(network, size, path, half)
        key = hashlib.sha256(f"{network!r} {size}".encode()).hexdigest()
        kept = self.once(f"{key}.onnx", lambda to: self.export_onnx(network, size, to, half=True))
        traced, weights = onnx.load(kept), Both(network).state_dict()
        if any(tensor.name.endswith(".half") for tensor in traced.graph.initializer):
            return self.export_onnx(network, size, path)  # some are stored as float16, under another name
        for tensor in traced.graph.initializer:
            if tensor.name in weights:
                value = weights[tensor.name].detach().cpu().contiguous().numpy()
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        onnx.save(traced, path)


@pytest.fixture(scope="session", autouse=True)
def traces(once):
    """Bundles of one architecture are traced once."""
    import m2cnn.export

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(m2cnn.export, "export_onnx", SharedTraces(m2cnn.export.export_onnx, once))
        yield


@pytest.fixture(scope="session")
def tiny_run(rendered, tiny_recipe, once):
    """The folder of a finished run."""
    from m2cnn.train import train

    return once("tiny", lambda folder: train(tiny_recipe, rendered, folder))
