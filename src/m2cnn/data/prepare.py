"""A set of photographs made small, once: each is decoded, cropped around its field of view, resized and written.

What is written is an ordinary dataset, in a folder or behind a URL:

    OUT/manifest.csv      the same rows, less the unreadable; written last
    OUT/pictures/...      one file per photograph: `train/1_left.jpeg` becomes `pictures/train/1_left.jpeg.png`
    OUT/unreadable.csv    the photographs that have no picture, each with its reason
    OUT/prepared.json     settings, and of each photograph what it was made from
    OUT/journal/          what is finished, while the work goes on

Every file is written whole or not at all, and a photograph stands in the journal only after its picture was written:
kill it anywhere, call it again, and it goes on. On object stores nothing keeps two processes from writing at the same
time; they write the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import m2cnn
from m2cnn.data.files import LOCK, Folder, is_half, is_url, open_folder, split
from m2cnn.data.identity import code_identity
from m2cnn.data.manifest import CHANGED, Manifest, Row, manifest_bytes, read_manifest
from m2cnn.data.opening import read_data
from m2cnn.data.reduce import JPEG_QUALITY, KINDS, reduce_photograph
from m2cnn.errors import DataError, ImageError, SettingError, did_you_mean
from m2cnn.parallel import check_workers, in_chunks
from m2cnn.photograph import MAX_BYTES, PhotographFile, too_long
from m2cnn.tables import table_bytes

VERSION = 1
CODE = ("m2cnn.field", "m2cnn.photograph", "m2cnn.preprocess", "m2cnn.data.reduce")
CHUNK = 16  # photographs between two entries of the journal: what a kill can cost each worker
LONGEST_NAME = 220  # bytes; most file systems allow 255, and ours grows by an ending
SIZES = 96, 4096  # px; below the first no photograph is graded
STATE, TABLE, UNREADABLE, JOURNAL = "prepared.json", "manifest.csv", "unreadable.csv", "journal"


@dataclass(frozen=True)
class Prepared:
    """place: where, for people.  manifest: of the pictures; its root is a path only where they are local.

    unreadable: image -> why it has none.  fresh: how many were looked at by this call.
    """

    place: str
    manifest: Manifest
    unreadable: dict[str, str]
    fresh: int


@dataclass(frozen=True)
class Record:
    """What is known of a finished photograph.

    identity: the hash of the manifest, or length and time of the file; [] where another try may end otherwise.
    sha256: of the bytes that were read.
    picture: its name, hash and length, and the diameter of its field of view, px.
    field: x, y and radius in the photograph before, px.  reason: why there is no picture, else "".
    """

    image: str
    identity: list[Any]
    sha256: str
    reason: str = ""
    picture: str = ""
    picture_sha256: str = ""
    length: int = 0
    diameter: int = 0
    field: list[float] | None = None


class Task(NamedTuple):
    row: Row
    known: Record | None


class Outcome(NamedTuple):
    record: Record
    fresh: bool = True


def open_source(data: str, images: str | None = None) -> tuple[Manifest, str | Path]:
    """The manifest of whatever read_data opens, or of a CSV at a URL, and where its photographs lie: a path or a URL.

    Raises DataError as read_data does. Nobody looks whether the photographs are there: `prepare` will say.
    """
    if not is_url(data) and not is_url(images):
        manifest = read_data(data, images)
        return manifest, manifest.root
    if not is_url(data):
        path = Path(data)
        return read_manifest(path / TABLE if path.is_dir() else path), str(images)
    place, name = split(data)
    name = name or TABLE
    with TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(open_folder(place).read(name))
        return read_manifest(Path(folder) / name), images or place


def prepare(
    manifest: Manifest,
    out: str | Path,
    size: int,
    kind: str = "png",
    images: str | Path | None = None,
    workers: int = 2,
) -> Prepared:
    """Reduce every photograph of a manifest for pictures of up to `size` px; what is in `out` already is kept.

    out, images: a folder or any URL of fsspec; images (default: the manifest's root) is where the photographs lie.
    kind: "png", whose picture of that size is the same bit by bit, or "jpeg", a quarter as long.
    A photograph that cannot be read or has no round field is in `unreadable`. A script that calls this with more than
    one worker needs `if __name__ == "__main__":`. Raises SettingError, and DataError when `out` holds anything else,
    was made with other settings or other code, cannot be written, or is too small.
    """
    _check(manifest, size, kind)
    check_workers(workers)
    source, target = open_folder(images or manifest.root), open_folder(out)
    settings = _settings(size, kind)
    _check_place(target)
    with target.alone():
        state = _begin(target, settings)
        known = _known(target, state, settings, manifest)
        target.sweep()
        tasks = [Task(row, known.get(row.image)) for row in manifest]
        work = partial(prepare_chunk, source, target, settings)
        chunks = in_chunks(work, tasks, workers, CHUNK, "preparing photographs")
        outcomes = list(_watched(chunks, target, sum(task.known is None for task in tasks)))
        return _finish(target, state, manifest, outcomes)


def _check(manifest: Manifest, size: int, kind: str) -> None:
    if not len(manifest):
        raise DataError("manifest", "no photographs", "at least one", "Check the selection.")
    if isinstance(size, bool) or not isinstance(size, int) or not SIZES[0] <= size <= SIZES[1]:
        repair = "The size that the model will grade at: the last of its recipe."
        raise SettingError("size", f"{size!r}", f"{SIZES[0]}..{SIZES[1]} px", repair)
    if kind not in KINDS:
        raise SettingError("format", f"{kind!r}", "a known format", did_you_mean(str(kind), KINDS))


def _settings(size: int, kind: str) -> dict[str, Any]:
    code = hashlib.sha256("".join(code_identity(CODE)).encode()).hexdigest()[:16]
    quality = {"quality": JPEG_QUALITY} if kind == "jpeg" else {}
    return {"version": VERSION, "size": size, "format": kind, **quality, "code": code}


# What is there already


def _check_place(target: Folder) -> None:
    """Raises DataError for a folder of another kind: nothing of it must be written over, or mixed with ours."""
    others = [] if target.stamp(STATE) else [name for name in target.names("") if name != LOCK and not is_half(name)]
    if others:
        got = f"it has other files, such as {others[0]}"
        raise DataError(target.shown, got, "an empty folder, or a prepared one", "Choose another folder.")


def _begin(target: Folder, settings: dict[str, Any]) -> dict[str, Any]:
    """What prepared.json says; a new one where there is none. Raises DataError for other settings."""
    if target.stamp(STATE) is None:
        state = {"m2cnn": m2cnn.__version__, "settings": settings, "manifests": [], "photographs": []}
        _write_json(target, STATE, state)
        return state
    state = _read_json(target, STATE)
    kinds = {"settings": dict, "manifests": list, "photographs": list}
    if not (isinstance(state, dict) and all(isinstance(state.get(name), kind) for name, kind in kinds.items())):
        raise DataError(f"{target.shown}/{STATE}", "no settings", "what m2cnn wrote", "Choose another folder.")
    for name, value in settings.items():
        was = state["settings"].get(name, "(unknown)")
        if was != value:
            got = f"it was prepared with {name} {was}"
            raise DataError(target.shown, got, f"{name} {value}", "Choose another folder, or remove this one.")
    return state


def _known(target: Folder, state: dict[str, Any], settings: dict[str, Any], manifest: Manifest) -> dict[str, Record]:
    """image -> its record, of earlier calls and of interrupted ones. Raises DataError where rows would be lost."""
    known = _records(state["photographs"])
    for name in target.names(_journal(settings)):
        with suppress(DataError):  # torn, where a file system writes in parts: its photographs are done again
            known |= _records(_read_json(target, f"{_journal(settings)}/{name}"))
    strange = sorted(known.keys() - {row.image for row in manifest})
    if strange:
        got = f"it has {len(strange)} photographs that this manifest has not, the first is {strange[0]}"
        raise DataError(target.shown, got, "the same set, or a larger one", "Choose another folder.")
    if target.stamp(TABLE) is not None and _sha256(target.read(TABLE)) not in state["manifests"]:
        got, repair = f"its {TABLE} was changed", "Keep a copy of it elsewhere and remove it, or choose another folder."
        raise DataError(target.shown, got, "the one that was written, which would be written anew", repair)
    return known


def _records(entries: Any) -> dict[str, Record]:
    """image -> its record; of what is no entry nothing is known, and its photograph is done again."""
    known = {}
    for entry in entries if isinstance(entries, list) else ():
        with suppress(TypeError):
            known[entry["image"]] = Record(**entry)
    return known


def _journal(settings: dict[str, Any]) -> str:
    return f"{JOURNAL}/{_sha256(json.dumps(settings, sort_keys=True).encode())[:16]}"


# The work


def prepare_chunk(source: Folder, target: Folder, settings: dict[str, Any], tasks: list[Task]) -> list[Outcome]:
    """Write the pictures of some photographs, and then their entry in the journal."""
    outcomes = [_prepare(source, target, settings, task) for task in tasks]
    entries = [asdict(outcome.record) for outcome in outcomes if outcome.fresh]
    if entries:
        content = json.dumps(entries).encode()
        target.write(f"{_journal(settings)}/{_sha256(content)[:16]}.json", content)
    return outcomes


def _prepare(source: Folder, target: Folder, settings: dict[str, Any], task: Task) -> Outcome:
    row, known = task
    if len(name := row.image.rpartition("/")[2].encode()) > LONGEST_NAME:
        return Outcome(Record(row.image, [], "", f"its name is {len(name)} bytes long, more than {LONGEST_NAME}"))
    stamp = source.stamp(row.image)
    identity = [row.sha256] if row.sha256 else stamp
    if known and known.identity == identity and _is_there(target, known):
        return Outcome(known, fresh=False)
    if stamp and (stamp[0] or 0) > MAX_BYTES:
        return Outcome(Record(row.image, [], "", too_long(stamp[0])))
    try:
        data = source.read(row.image)
    except DataError as fault:
        return Outcome(Record(row.image, [], "", fault.got))
    record = Record(row.image, identity or [], _sha256(data))
    if row.sha256 and record.sha256 != row.sha256:
        return Outcome(replace(record, identity=[], reason=CHANGED))
    try:
        reduced = reduce_photograph(PhotographFile(data), settings["size"], settings["format"])
    except ImageError as fault:
        return Outcome(replace(record, reason=fault.got))
    picture = f"pictures/{row.image}.{settings['format']}"
    target.write(picture, reduced.content)
    facts = {"picture_sha256": _sha256(reduced.content), "length": len(reduced.content)}
    field = [round(value, 2) for value in astuple(reduced.field)]
    return Outcome(replace(record, picture=picture, **facts, diameter=reduced.reduction.diameter, field=field))


def _is_there(target: Folder, known: Record) -> bool:
    """Whether the picture still has its length; a photograph that has none needs none."""
    return bool(known.reason) or (target.stamp(known.picture) or [None])[0] == known.length


def _watched(chunks: Iterator[list[Outcome]], target: Folder, total: int) -> Iterator[Outcome]:
    """All outcomes. total: photographs that have no record yet. Raises DataError once the first pictures show that all
    will not find room, and where no photograph of a whole chunk can be opened: a disk was lost, or a key has expired.
    """
    asked = False
    for chunk in chunks:
        closed = [outcome.record for outcome in chunk if not outcome.record.sha256]
        if len(closed) == len(chunk) >= min(CHUNK, total):
            got = f"{len(chunk)} photographs in a row cannot be opened; {closed[0].image}: {closed[0].reason}"
            repair = "Is the disk there? Call again, it goes on; or take their rows out of the manifest."
            raise DataError("photographs", got, "most of them", repair)
        lengths = [outcome.record.length for outcome in chunk if outcome.fresh and outcome.record.length]
        total -= sum(outcome.fresh for outcome in chunk)
        if lengths and not asked:
            _check_space(target, sum(lengths) / len(lengths) * max(0, total))
            asked = True
        yield from chunk


def _check_space(target: Folder, needed: float) -> None:
    free = target.free()
    if free is not None and needed > free:
        got, expected = f"{free / 1e9:.1f} GB are free", f"about {needed / 1e9:.1f} GB for the other photographs"
        raise DataError(target.shown, got, expected, "Make room and call again, it goes on; or choose a smaller size.")


# The end


def _finish(target: Folder, state: dict[str, Any], manifest: Manifest, outcomes: list[Outcome]) -> Prepared:
    records = {outcome.record.image: outcome.record for outcome in outcomes}
    unreadable = {image: record.reason for image, record in records.items() if record.reason}
    rows = (_row(row, records[row.image]) for row in manifest if row.image not in unreadable)
    prepared = Manifest(tuple(rows), Path(target.shown))
    # First what the table will be, then the table: whenever it is interrupted, the next call knows it for its own.
    manifests = [*state["manifests"], prepared.digest()]
    photographs = [asdict(record) for record in records.values()]
    _write_json(target, STATE, state | {"manifests": sorted(set(manifests)), "photographs": photographs})
    reasons = ((row.image, row.patient, unreadable[row.image]) for row in manifest if row.image in unreadable)
    target.write(UNREADABLE, table_bytes(("image", "patient", "reason"), reasons))
    target.write(TABLE, manifest_bytes(prepared))
    target.remove(JOURNAL)
    return Prepared(target.shown, prepared, unreadable, sum(outcome.fresh for outcome in outcomes))


def _row(row: Row, record: Record) -> Row:
    return replace(row, image=record.picture, sha256=record.picture_sha256)


def _write_json(target: Folder, name: str, value: Any) -> None:
    target.write(name, json.dumps(value, indent=1).encode())


def _read_json(target: Folder, name: str) -> Any:
    content = target.read(name)
    try:
        return json.loads(content)
    except ValueError as cause:
        got = f"damaged ({cause})"
        raise DataError(f"{target.shown}/{name}", got, "what m2cnn wrote", "Choose another folder.") from cause


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
