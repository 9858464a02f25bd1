"""Models that come with the package: each folder here is a bundle, and its name is the model's.

"default" is what `m2cnn grade` takes where nobody names a model. A copy of the package may hold none of them.
"""

from __future__ import annotations

from pathlib import Path

HOME = Path(__file__).parent
SETTINGS = "system.json"
DEFAULT = "default"


def names() -> list[str]:
    """The models that this copy of the package holds."""
    return sorted(path.parent.name for path in HOME.glob(f"*/{SETTINGS}"))


def located(model: str | Path) -> Path:
    """The folder of a model: of a path, or of a packaged name where no such folder is."""
    folder = Path(model)
    return HOME / folder if not folder.is_dir() and str(model) in names() else folder


def is_packaged(folder: Path) -> bool:
    return folder.parent == HOME


def repair(folder: Path) -> str:
    """What to do where a folder has no model."""
    held = f"Packaged models: {', '.join(names()) or 'none in this copy of m2cnn'}."
    hidden = f' A folder named "{folder}" hides the packaged one.' if folder.is_dir() and str(folder) in names() else ""
    return f"Name the folder of a bundle or of a run. {held}{hidden}"
