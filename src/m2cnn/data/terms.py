"""Who may use photographs, and so the weights that learned from them: the strictest of what their publishers say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from m2cnn.data.importers import IMPORTERS
from m2cnn.errors import SettingError, did_you_mean
from m2cnn.synthetic.dataset import SOURCE

# What one may do, from the freest to the strictest, and in words.
USES = {
    "free": "for any use",
    "attribution": "for any use that names the sources",
    "share alike": "for any use that names the sources and keeps their terms",
    "unknown": "the terms of the training photographs apply",
    "research only": "for research only",
}
UNKNOWN, RESEARCH = "unknown", "research only"
NAMELESS = "photographs without a source"
UNREAD = "the terms of its photographs apply"
CODE = "Code: Apache-2.0."


@dataclass(frozen=True)
class Source:
    """name: as manifests have it.  use: of USES.  terms: what its publisher says."""

    name: str
    use: str = UNKNOWN
    terms: str = UNREAD

    def __post_init__(self) -> None:
        if self.use not in USES:
            raise SettingError(f"terms of {self.name}", f'use "{self.use}"', "a use", did_you_mean(self.use, USES))


@dataclass(frozen=True)
class Terms:
    """Of all that photographs came from; of none where nobody wrote it down."""

    sources: tuple[Source, ...] = ()

    @property
    def use(self) -> str:
        """The strictest of the sources'."""
        return max((source.use for source in self.sources), key=list(USES).index, default=UNKNOWN)

    @property
    def short(self) -> str:
        """In a few words, for a line."""
        return USES[self.use]

    @property
    def text(self) -> str:
        """A licence for weights that learned from these.

        >>> terms_of(["idrid"]).text
        'Weights: for any use that names the sources (idrid: CC BY 4.0). Code: Apache-2.0.'
        >>> Terms().text
        'Weights: the terms of the training photographs apply. Code: Apache-2.0.'
        """
        said = "; ".join(f"{source.name}: {source.terms}" for source in self.sources)
        return f"Weights: {self.short}{f' ({said})' if said else ''}. {CODE}"

    def joined(self, other: Terms) -> Terms:
        """Of what learned from both."""
        return Terms(tuple({source.name: source for source in (*self.sources, *other.sources)}.values()))

    def to_dict(self) -> dict[str, Any]:
        return {"use": self.use, "sources": [vars(source) for source in self.sources]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of to_dict. KeyError or TypeError for other values, SettingError for an unknown use."""
        return cls(tuple(Source(**source) for source in values["sources"]))


def terms_of(sources: Iterable[str]) -> Terms:
    """The terms of photographs of these sources, as manifests name them; of one that no importer has: unknown."""
    return Terms(tuple(_source(name) for name in sorted(set(sources))))


def _source(name: str) -> Source:
    if name == SOURCE:
        return Source(name, "free", "rendered by m2cnn, no patient's photographs")
    for key, importer in IMPORTERS.items():
        if importer.terms and name in (key, *(part.source for part in importer.published if part.source)):
            return Source(name, importer.use, importer.terms)
    return Source(name or NAMELESS)
