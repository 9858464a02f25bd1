"""Where a network's weights come from, in words: for its card and for the checklists of a report. No torch."""

from __future__ import annotations

from m2cnn.bundle import Bundle
from m2cnn.systems import GONE_ON, SYSTEMS

KEPT = {
    "kappa": "The pass with the best kappa on validation patients",
    "loss": "The pass with the least loss on validation patients",
    "last": "The last pass",
}


def gone_on_from(member: Bundle) -> str:
    """The model that it was before it was taught more, "" where it was none."""
    _, _, before = (member.settings.get("source") or "").partition(GONE_ON)
    return before


def began(member: Bundle) -> str:
    """What it was before training, "" where nothing tells."""
    weights, start = member.settings["network"].get("weights"), _recorded(member, "start", "")
    if before := gone_on_from(member):
        return f"From model {before}"
    if start:
        return f"From the trained weights of {start}"
    if weights:
        return f"From {str(weights).rpartition('/')[2]}"
    return "" if start is None else "At random"


def kept(member: Bundle) -> str:
    """Which weights of its training it has, "" where nothing tells or no patients could choose."""
    snapshot = _recorded(member, "snapshot", "kappa")
    if not snapshot or not member.settings["training"].get("validation_patients"):
        return ""
    return KEPT[snapshot] + (", or the start where none was better" if gone_on_from(member) else "")


def _recorded(member: Bundle, key: str, usual: str) -> str | None:
    """What its training recorded; of an older model `usual`, where its system knows nothing else, or None."""
    told, row = member.settings["training"], SYSTEMS.get(member.system)
    if key in told:
        return told[key]
    plain = row is not None and all(one.snapshots == ("kappa",) and not one.start for one in row.members)
    return usual if plain else None
