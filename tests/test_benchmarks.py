"""The scripts that measure: each loads, and says how it is called. Their numbers are in docs/."""

import importlib.util
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in HOME.glob("*.py"))


def script(name):
    """A script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", HOME / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_still_loads(name, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(HOME))  # as for a script
    module = script(name)
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        module.main()
    assert "usage" in capsys.readouterr().out
