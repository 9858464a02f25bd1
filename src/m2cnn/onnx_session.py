"""Running ONNX files: the only file that imports ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_session(model: str | Path | bytes) -> Any:
    """An ONNX file, or its bytes, ready to `run` on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
