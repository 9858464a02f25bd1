"""The photographs that had a say in a model, as its bundle carries them: hashes and fingerprints, no names.

Whoever has a photograph can tell from them whether the model saw it, or another of the same view of that eye, also as
a copy of another size, compression or colour; nothing else. A number measured on photographs of the training set is
worthless, and refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from m2cnn.data.manifest import Row
from m2cnn.data.survey import Seen, planes_of
from m2cnn.errors import BundleError
from m2cnn.fingerprint import TERNARY_LENGTH, TERNARY_SAME, ternary_codes, ternary_likeness

BLOCK = 512
# What photographs were for: weights learned from them, operating points were chosen on them, passes and cuts were.
# Where two lists say different things, the first of these counts.
TRAIN, CALIBRATION, VAL = ROLES = ("train", "calibration", "val")
ROLE = f"U{max(map(len, ROLES))}"


class Met(NamedTuple):
    """A photograph that a model knows. role: what it was there, of ROLES.  how: same bytes or photograph."""

    image: str
    role: str
    how: str


@dataclass(frozen=True)
class Known:
    """sha256 (N, 32) uint8, role (N,) of ROLES, codes (N, D) int8, zeros where is no fingerprint."""

    sha256: np.ndarray
    role: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.role)

    def digests(self, role: str) -> set[str]:
        """The sha256 of all photographs of a role, in hex."""
        return {bytes(digest).hex() for digest in self.sha256[self.role == role]}

    def meet(self, seen: dict[str, Seen]) -> list[Met]:
        """The photographs of a survey that are among these, in its order; the likest decides which role."""
        place = {bytes(digest): number for number, digest in enumerate(self.sha256)}
        met = {
            image: Met(image, str(self.role[place[digest]]), "same bytes")
            for image, what in seen.items()
            if what.sha256 and (digest := bytes.fromhex(what.sha256)) in place
        }
        images, planes = planes_of({image: what for image, what in seen.items() if image not in met})
        for start in range(0, len(images) if len(self.codes) else 0, BLOCK):
            likeness = ternary_likeness(ternary_codes(planes[start : start + BLOCK, 0]), self.codes)
            nearest, names = likeness.argmax(axis=1), images[start : start + BLOCK]
            for image, number, alike in zip(names, nearest, likeness.max(axis=1), strict=True):
                if alike >= TERNARY_SAME:
                    met[image] = Met(image, str(self.role[number]), "same photograph")
        return [met[image] for image in seen if image in met]

    def joined(self, other: Known) -> Known:
        """Both; what was trained on in one was trained on."""
        ours, theirs = (dict(zip(map(bytes, k.sha256), k.role, strict=True)) for k in (self, other))
        fresh = np.array([bytes(digest) not in ours for digest in other.sha256], bool)
        named = zip(map(bytes, self.sha256), self.role, strict=True)
        role = [min(role, theirs.get(digest, role), key=ROLES.index) for digest, role in named]
        return Known(
            np.concatenate([self.sha256, other.sha256[fresh]]),
            np.concatenate([np.array(role, ROLE), other.role[fresh]]),
            np.concatenate([self.codes, other.codes[fresh]]),
        )

    def to_bytes(self) -> bytes:
        """One .npy, the same for the same photographs; a code takes two bits a number."""
        plus, minus = (np.packbits(self.codes == sign, axis=1) for sign in (1, -1))
        kinds = [("sha256", "u1", 32), ("val", "?"), ("plus", "u1", plus.shape[1]), ("minus", "u1", minus.shape[1])]
        calibration = self.role == CALIBRATION
        table = np.empty(len(self), kinds + [("calibration", "?")] * bool(calibration.any()))
        table["sha256"], table["val"], table["plus"], table["minus"] = self.sha256, self.role == VAL, plus, minus
        if calibration.any():
            table["calibration"] = calibration
        file = io.BytesIO()
        np.save(file, table, allow_pickle=False)
        return file.getvalue()


def known_of(rows: Iterable[Row], seen: dict[str, Seen], role: str = "") -> Known:
    """The photographs of training and validation among `rows`; with a role, all of them in that one."""
    rows = [row for row in rows if (role or row.split in (TRAIN, VAL)) and seen[row.image].sha256]
    images, planes = planes_of({row.image: seen[row.image] for row in rows})
    codes = np.zeros((len(rows), TERNARY_LENGTH), np.int8)
    number = {row.image: n for n, row in enumerate(rows)}
    codes[[number[image] for image in images]] = ternary_codes(planes[:, 0])
    digests = np.frombuffer(b"".join(bytes.fromhex(seen[row.image].sha256) for row in rows), np.uint8)
    return Known(digests.reshape(-1, 32), np.array([role or row.split for row in rows], ROLE), codes)


def read_known(path: Path) -> Known:
    """Read what `to_bytes` made. Raises BundleError for a damaged file."""
    try:
        table = np.load(path, allow_pickle=False)
        bits = [np.unpackbits(table[sign], axis=1, count=TERNARY_LENGTH).astype(np.int8) for sign in ("plus", "minus")]
        role = np.where(table["val"], VAL, TRAIN).astype(ROLE)
        if "calibration" in table.dtype.names:
            role[table["calibration"]] = CALIBRATION
        return Known(table["sha256"], role, bits[0] - bits[1])
    except (OSError, ValueError, KeyError, IndexError) as cause:
        raise BundleError(path, f"unreadable ({cause})", "hashes and fingerprints", "Copy the bundle again.") from cause
