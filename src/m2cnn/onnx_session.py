"""Running ONNX files: the only file that imports ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def open_session(model: str | Path | bytes) -> Any:
    """An ONNX file, or its bytes, ready to `run` on the CPU. Nothing is told to the makers of ONNX Runtime."""
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def runtime_version() -> str:
    return _runtime().__version__


def _runtime() -> Any:
    # Its Linux builds from 1.29 on send names and hashes of models to them, unless this is set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where somebody else has imported it before
    return onnxruntime
