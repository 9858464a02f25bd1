"""What the members of a system say of photographs, with the two eyes of a patient joined: what combiners read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2cnn.errors import DataError
from m2cnn.grades import NUM_GRADES
from m2cnn.tasks import Decoded


@dataclass(frozen=True)
class Eyes:
    """What the members say of N photographs, one a row; both eyes of a patient are two rows.

    decoded: per member, its mean over the views; the probabilities may be None.
    features: per member (N, 2 D): mean and (n - 1) standard deviation over the views; () where nothing reads them.
    photograph: (N, 7) of `m2cnn.photograph_features`, or None where nothing reads them.
    side: (N,) 1 right, 0 left, 0.5 unknown.
    other: (N,) row of the patient's other eye, -1 where there is none or it could not be read.

    Raises DataError where they do not fit together.
    """

    decoded: tuple[Decoded, ...]
    features: tuple[np.ndarray, ...]
    photograph: np.ndarray | None
    side: np.ndarray
    other: np.ndarray

    def __post_init__(self) -> None:
        _expect(len(self.decoded) > 0, "no member", "at least one", "A system has at least one member.")
        lengths = {f"severity of member {i}": len(d.severity) for i, d in enumerate(self.decoded)}
        lengths |= {f"features of member {i}": len(f) for i, f in enumerate(self.features)}
        lengths |= {"side": len(self.side)} | ({} if self.photograph is None else {"photograph": len(self.photograph)})
        for name, length in lengths.items():
            _expect(length == len(self), f"{name} has {length} rows, other has {len(self)}", "one row per photograph")
        within = np.all((self.other >= -1) & (self.other < len(self)))
        _expect(bool(within), "a row of the other eye that is not there", f"-1..{len(self) - 1}, -1 for none")
        _expect(bool(np.isin(self.side, (0, 0.5, 1)).all()), "another side", "1 right, 0 left, 0.5 unknown")

    def __len__(self) -> int:
        return len(self.other)

    def partner(self) -> np.ndarray:
        """(N,) the row that stands for the patient's other eye: the eye's own row where there is none.

        A reconstruction, one rule for all combiners: the missing eye is taken to be as this one. Both eyes of a patient
        have the same grade in 87.2 % of Kaggle's training patients (computed).
        """
        return np.where(self.other < 0, np.arange(len(self)), self.other)

    def probabilities(self) -> np.ndarray:
        """(M, N, 5). A member without them gives its severity's two neighbouring grades, so that their mean is it."""
        return np.stack([_neighbours(d.severity) if d.probabilities is None else d.probabilities for d in self.decoded])

    def severities(self) -> np.ndarray:
        """(M, N) in 0..4."""
        return np.stack([d.severity for d in self.decoded])


def _neighbours(severity: np.ndarray) -> np.ndarray:
    """(N,) in 0..4 -> (N, 5): 2.3 becomes 0.7 of grade 2 and 0.3 of grade 3. A reconstruction."""
    return np.clip(1 - np.abs(np.asarray(severity)[:, None] - np.arange(NUM_GRADES)), 0, 1)


def _expect(fine: bool, got: str, expected: str, repair: str = "") -> None:
    if not fine:
        raise DataError("eyes", got, expected, repair)
