"""Which groups of patients may be told: none of few patients, and none that gives such a group away by subtraction.

Who knows the whole and all groups of a column but one knows that one; who knows a country and all its clinics but one
knows that clinic. So groups that are not small themselves are left out too: secondary suppression, as official
statistics call it. Looked at are a column by itself, and a group, or all but it, less what is told of another column
that lies within it; not what groups of three columns tell together, nor several of one less several of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Groups:
    """column: (G,) names; the groups of a column share out all N photographs.  rows: (G, N) which are of each group.

    patient: (N,) any ids.  measured: for every kind of metric, (N,) which photographs have a part in it.
    fewest: patients of what may be told: all of them and, unless there are none, those who are measured.
    """

    column: NDArray[np.str_]
    rows: Bools
    patient: NDArray
    measured: tuple[Bools, ...]
    fewest: int

    def to_hide(self) -> Bools:
        """(G,) the groups of few, and the smallest others that would give them away."""
        hidden = np.array([self.few(rows) for rows in self.rows], bool)
        while (risky := self._risky(hidden)).any():
            hidden[min(np.flatnonzero(risky), key=self._size)] = True
        return hidden

    def few(self, rows: Bools) -> bool:
        """Whether (N,) photographs are of too few patients; no photograph is nobody's secret."""
        return any(0 < self._patients(some) < self.fewest for some in (rows, *(rows & own for own in self.measured)))

    def _patients(self, rows: Bools) -> int:
        return len(np.unique(self.patient[rows]))

    def _size(self, group: int) -> tuple[int, int]:
        rows = self.rows[group]
        return min(self._patients(rows & own) for own in self.measured), self._patients(rows)

    def _risky(self, hidden: Bools) -> Bools:
        """(G,) groups of which one more must be hidden; none where all that is told is safe."""
        names = np.unique(self.column)
        for name in names:
            shown, lost = (self.column == name) & ~hidden, (self.column == name) & hidden
            if shown.any() and lost.any() and (lost.sum() == 1 or self.few(self.rows[lost].any(0))):
                return shown
        for name, other in permutations(names, 2):
            told = self._told(name, hidden)
            for whole in (*told, *(~rows for rows in told)):
                inside = [rows for rows in self._told(other, hidden) if not (rows & ~whole).any()]
                if inside and self.few(whole & ~np.any(inside, axis=0)):
                    shown = (self.column == other) & ~hidden
                    within = shown & ~(self.rows & ~whole).any(1)
                    return within if within.any() else shown
        return np.zeros_like(hidden)

    def _told(self, name: str, hidden: Bools) -> list[Bools]:
        """What of a column is known: (N,) of each group that is told, and of all others together."""
        mine = self.column == name
        rest = self.rows[mine & hidden].any(0)
        return [*self.rows[mine & ~hidden], *([rest] if rest.any() else [])]
