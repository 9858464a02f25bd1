"""The lockbox: photographs that nobody looks at until someone says, on record, that he does, and why."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from m2cnn.data.manifest import OPEN_LOCKBOX, Manifest
from m2cnn.errors import DataError, LockboxError, SettingError

RECORD = "lockbox.jsonl"


def open_lockbox(manifest: Manifest, csv: str | Path, by: str, reason: str) -> dict:
    """Record that the lockbox of a manifest (its CSV: `csv`) is opened: one more line of lockbox.jsonl beside the CSV.

    Returns the record: time (UTC), by, reason, manifest (its digest), photographs, patients. Lines are never removed.
    Raises SettingError without a name or a reason, DataError when the manifest has no lockbox.
    """
    for name, value in (("by", by), ("reason", reason)):
        if not value.strip():
            raise SettingError("lockbox", f"{name} is empty", "who opens it, and why", "It stands beside every result.")
    rows = _locked(manifest)
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": by.strip(),
        "reason": reason.strip(),
        "manifest": manifest.digest(),
        "photographs": len(rows),
        "patients": len(set(rows.patients())),
    }
    with open(Path(csv).parent / RECORD, "a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return record


def lockbox_rows(manifest: Manifest, folder: str | Path) -> tuple[Manifest, list[dict]]:
    """The photographs in the lockbox and the records of its openings, which belong into the results.

    folder: where the manifest's CSV lies. Raises LockboxError unless this very manifest (by digest) was opened there.
    """
    digest = manifest.digest()
    records = [record for record in _records(Path(folder) / RECORD) if record["manifest"] == digest]
    if not records:
        repair = f"Open it once all choices are made: {OPEN_LOCKBOX}."
        raise LockboxError(folder, f"the lockbox of manifest {digest[:12]} is closed", f"a record in {RECORD}", repair)
    return _locked(manifest), records


def _locked(manifest: Manifest) -> Manifest:
    rows = tuple(row for row in manifest if row.split == "lockbox")
    if not rows:
        raise DataError(
            "manifest", "no photograph in the lockbox", "split lockbox", "Set one aside: m2cnn data split MANIFEST."
        )
    return Manifest(rows, manifest.root)


def _records(path: Path) -> list[dict]:
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            records.append(record | {"manifest": record["manifest"]})
        except (ValueError, KeyError, TypeError) as cause:
            repair = "Restore the file: it is the proof of who looked, and when."
            raise DataError(f"{path.name}, line {number}", "damaged record", "JSON as written", repair) from cause
    return records
