"""ONNX Runtime, as we start it, keeps to itself."""

import os
import subprocess
import sys

from m2cnn.packaged import DEFAULT, located


def test_nothing_is_collected_of_who_grades(tmp_path):
    """Its Linux builds keep an identity of the machine and what they are about to send below the home folder."""
    model = located(DEFAULT) / "combiner.onnx"
    home = {key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY")}
    home |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = "import sys; from m2cnn.onnx_session import open_session; open_session(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(model)], env=home, check=True)
    assert list(tmp_path.rglob("*")) == []
