"""What a safetensors file holds, from its header alone: the base install has no safetensors."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

from m2cnn.errors import BundleError

KINDS = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}


def stored_numbers(path: Path) -> dict[str, int]:
    """How many numbers of each kind a file of weights holds. Raises BundleError for another file."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        found: Counter[str] = Counter()
        for name, tensor in header.items():
            if name != "__metadata__":
                found[KINDS.get(tensor["dtype"], tensor["dtype"])] += math.prod(tensor["shape"])
    except (ValueError, KeyError, TypeError, OverflowError, MemoryError) as cause:
        raise BundleError(path, f"no safetensors ({cause})", "a file of weights", "Copy the bundle again.") from cause
    return dict(sorted(found.items()))
