"""What a set of photographs is like, and how two sets differ: one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from m2cnn.data.leaks import find_twins
from m2cnn.data.manifest import Manifest
from m2cnn.data.opening import open_data
from m2cnn.data.survey import survey
from m2cnn.errors import SettingError
from m2cnn.profile.comparison import compare_sets
from m2cnn.profile.comparison_page import comparison_page
from m2cnn.profile.findings import profile
from m2cnn.profile.look import CODE, look_at_all
from m2cnn.profile.page import profile_page
from m2cnn.profile.table import Table, table_of, without_lockbox
from m2cnn.tables import write_atomically

CACHE = ".m2cnn-cache"  # beside the page


def write_profile(
    specs: Sequence[str | Path],
    out: str | Path,
    *,
    cache: str | Path | None = None,
    workers: int = 2,
    pictures: bool = True,
    images: Sequence[str | Path] = (),
) -> Path:
    """Write the page of one set, or of two side by side, to `out`; returns its path.

    specs: one or two of what open_data takes.  cache: what was seen is kept there, by default beside the page; a second
    call looks only at new photographs.  pictures=False: no thumbnail, no name of a file or patient.  images: for each
    set the folder that its paths start from, where it is another than written. Raises SettingError for another number
    of sets or folders, or an `out` that is no page; DataError for sets that cannot be trusted or have nothing to look
    at.
    """
    if len(specs) not in (1, 2):
        raise SettingError("data profile", f"{len(specs)} sets", "one, or two to compare")
    if len(images) not in (0, len(specs)):
        raise SettingError("--images", f"{len(images)} folders for {len(specs)} sets", "none, or one for each set")
    out = _page(Path(out))
    folder = out.parent / CACHE if cache is None else Path(cache)
    sets = [open_data(spec, root) for spec, root in zip(specs, images or [None] * len(specs), strict=True)]
    tables = [_seen(name, one, folder, workers) for name, one in zip(_names(specs), sets, strict=True)]
    find = partial(find_twins, workers=workers)
    if len(tables) == 1:
        html = profile_page(profile(tables[0], find), pictures)
    else:
        html = comparison_page(compare_sets(*tables, find), pictures)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, html.encode("utf-8", "backslashreplace"))
    return out


def _page(out: Path) -> Path:
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise SettingError("--out", f'"{out}"', "a page to write, such as profile.html")
    return out


def _seen(name: str, manifest: Manifest, folder: Path, workers: int) -> Table:
    return table_of(name, manifest, survey(without_lockbox(manifest), look_at_all, folder, workers, CODE))


def _names(specs: Sequence[str | Path]) -> list[str]:
    """What to call the sets: the name of a folder, or of a CSV, or of its folder; numbered where both are called so."""
    paths = [Path(str(spec).partition(":")[2] or spec) if not Path(spec).exists() else Path(spec) for spec in specs]
    homes = [(path.parent if path.name == "manifest.csv" else path).resolve() for path in paths]
    names = [home.stem if home.is_file() else home.name for home in homes]
    return names if len(set(names)) == len(names) else [f"{name} {n}" for n, name in enumerate(names, 1)]
