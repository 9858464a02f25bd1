"""An entry of SYSTEMS whole, as text or plain values: members, combiner, costs, one member's layer table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from m2cnn import packaged
from m2cnn.bundle import framed, load_bundle
from m2cnn.combine import Combiner
from m2cnn.data.augment import Augment
from m2cnn.errors import SettingError, did_you_mean
from m2cnn.grades import NUM_GRADES
from m2cnn.models import LADDERS, NetworkSettings
from m2cnn.recipe import load_recipe, recipe_names
from m2cnn.systems import SYSTEMS, Member, System, described, get
from m2cnn.wording import table, words
from m2cnn.work import passes

if TYPE_CHECKING:
    from m2cnn.models.describe import Description

PATIENTS = {"train": "training patients", "val": "validation patients"}
NO_AUGMENT = Augment(rotation=0, flip=False, scale=0, shift=0, brightness=0, contrast=0)


@dataclass(frozen=True)
class Entry:
    """descriptions: one of each member, as it grades.  shown: number of the member of the layer table.

    description: of that member, at the size and part that were asked for.
    """

    system: System
    descriptions: tuple[Description, ...]
    shown: int
    description: Description

    def to_json(self) -> dict[str, Any]:
        """The values of the layer table, and "system": all else."""
        system, combiner = self.system, self.system.combiner
        plain = {"name": system.name, "title": system.title, "source": system.source}
        plain |= {"paper": list(system.paper) if system.paper else None, "shown": system.members[self.shown].name}
        plain["members"] = [_member_json(*pair) for pair in zip(system.members, self.descriptions, strict=True)]
        told = combiner and combiner.to_dict() | {"reads": combiner.reads, "fitted_on": list(combiner.splits)}
        return self.description.to_json() | {"system": plain | {"combiner": told}}

    def to_text(self) -> str:
        """The entry, and the layer table below it."""
        parts = [_heading(self.system), self._members(), _combiner_text(self.system.combiner), self._costs()]
        name = self.system.members[self.shown].name
        return "\n\n".join([*parts, (f"member {name}\n" if name else "") + self.description.to_text()])

    def _members(self) -> str:
        """What all members have in common, one a line; what differs, a table."""
        members = self.system.members
        facts = [_facts(*pair) for pair in zip(members, self.descriptions, strict=True)]
        common = {key: value for key, value in facts[0].items() if all(each[key] == value for each in facts)}
        own = [key for key in facts[0] if key not in common]
        lines = [f"{key:<15}{value}" for key, value in common.items()]
        rows = [[member.name, *(each[key] for key in own)] for member, each in zip(members, facts, strict=True)]
        return "\n".join([*lines, *(["", table(["member", *own], rows, left=1 + len(own))] if own else [])])

    def _costs(self) -> str:
        """Parameters and multiply-adds of each member, and of the grade of one photograph."""
        rows, total = [], [0, 0]
        for member, each in zip(self.system.members, self.descriptions, strict=True):
            cost = each.multiply_adds * passes(member)
            counts = [f"{count:,}" for count in (each.parameters, each.multiply_adds, passes(member), cost)]
            rows.append([member.name or self.system.name, f"{each.size}", *counts])
            total = [total[0] + passes(member), total[1] + cost]
        if len(rows) > 1:
            rows.append(["total", "", "", "", *(f"{count:,}" for count in total)])
        names = ["cost", "size", "parameters", "multiply-adds", "passes", "for a photograph"]
        return table(names, rows, left=1)


def show(
    name: str,
    member: str = "",
    size: int | None = None,
    cells: int | None = None,
    part: int = -1,
    settings: Mapping[str, Any] | None = None,
) -> Entry:
    """The entry of that name with the layer table of one member, the first unless it is named.

    size: default, what the network grades with, or 224 px where any will do.  cells: default, what the system runs on
    the highest rung of the ladder that `size` reaches.  part: of a network with parts, -1 for all.  settings: changes
    to every member's network.

    Raises SettingError for a name, setting, size, cells or part that there is not, SizeError for too small a size.
    """
    _refuse_no_system(name)
    system = _changed(get(name), settings or {})
    shown = _number(system, member)
    description = _describe(system, system.members[shown], size, cells, part)
    if len(system.members) == 1:
        return Entry(system, (description,), shown, description)
    return Entry(system, tuple(_describe(system, each) for each in system.members), shown, description)


def _refuse_no_system(name: str) -> None:
    """Raises SettingError for a packaged model or a recipe that is no system, and says which one it is of."""
    if name in SYSTEMS:
        return
    if name in packaged.names():
        system, what, more = load_bundle(packaged.HOME / name).system, "packaged model", f"; m2cnn card {name}, its own"
    elif name in recipe_names():
        system, what, more = load_recipe(name).system, "recipe", ", which the recipe may change"
    else:
        return
    got = f'"{name}" is a {what} of the system {system}'
    repair = f"m2cnn systems show {system} shows the system's networks{more}."
    raise SettingError("system", got, "a system's name", repair)


def list_systems() -> str:
    """Every system: the paper's kappa, its members, its combiner, its source."""
    return "\n".join(f"{_heading(system)}\n{_joined(system)}\n" for system in SYSTEMS.values())


def _changed(system: System, settings: Mapping[str, Any]) -> System:
    networks = [type(each.network).from_dict(each.network.to_dict() | settings) for each in system.members]
    pairs = zip(system.members, networks, strict=True)
    return replace(system, members=tuple(replace(each, network=network) for each, network in pairs))


def _number(system: System, member: str) -> int:
    names = [each.name for each in system.members]
    if not member or member in names:
        return names.index(member) if member else 0
    if len(names) == 1:
        raise SettingError("member", f'"{member}" of {system.name}', "none: it has one member, without a name")
    raise SettingError("member", f'"{member}"', f"a member of {system.name}", did_you_mean(member, names))


def _describe(
    system: System, member: Member, size: int | None = None, cells: int | None = None, part: int = -1
) -> Description:
    from m2cnn.models.describe import describe_network

    network = member.network
    size = network.usual_size(part) if size is None else size
    cells = _cells(system, network, size) if cells is None else cells
    return describe_network(network, member.task.outputs, size, cells, part)


def _cells(system: System, network: object, size: int) -> int:
    """What a system runs on the highest rung of the ladder that `size` reaches."""
    if not isinstance(network, NetworkSettings):
        return 0
    ladder = LADDERS[network.ladder]
    return max(n for n, rung in zip(system.cells, ladder, strict=True) if rung <= max(size, ladder[0]))


def _heading(system: System) -> str:
    kappa = "{:.3f} / {:.3f}".format(*system.paper) if system.paper else "not in it"
    return f"{system.name}: {system.title}\n{'paper':<15}{kappa}\n{'source':<15}{system.source}"


def _joined(system: System) -> str:
    names = ", ".join(filter(None, (member.name for member in system.members)))
    members = f"{len(system.members)}{f': {names}' if names else ''}"
    combiner = system.combiner.name if system.combiner else "none"
    return f"{'members':<15}{members}\n{'combiner':<15}{combiner}"


def _member_json(member: Member, description: Description) -> dict[str, Any]:
    plain = described(member) | {"network_kind": type(member.network).__name__, "size": description.size}
    plain |= {"prepared": framed(description.size, member.frame), "parameters": description.parameters}
    work = description.multiply_adds
    return plain | {"multiply_adds": work, "passes": passes(member), "grading_work": work * passes(member)}


def _facts(member: Member, description: Description) -> dict[str, str]:
    """A member in words, but for its name and its layers."""
    size, prepared = description.size, framed(description.size, member.frame)
    return {
        "network": f"{type(member.network).__name__}: {words(member.network.to_dict())}",
        "preprocess": words(member.preprocess.to_dict(), "version"),
        "picture": f"{size} px" if prepared == size else f"{prepared} px, {size} px of it shown",
        "views": _views(member),
        "view": _augment(member.views.augment) if member.views.kind != "one" else "the centre, nothing changed",
        "task": f"{member.task.name}: {words(member.task.to_dict(), 'name')}",
        "snapshots": ", ".join(member.snapshots),
        "start": member.start or "-",
        "learns from": _learns_from(member),
        "pseudo-labels": "yes" if member.pseudo else "no",
        "joins": "yes" if member.joins else "no",
    }


def _views(member: Member) -> str:
    views = member.views
    if views.kind == "one":
        return "1"
    return f"{views.count} {views.kind}, from {views.start}"


def _augment(augment: Augment) -> str:
    off, own = NO_AUGMENT.to_dict(), augment.to_dict()
    return words({key: value for key, value in own.items() if value != off[key]}) or "nothing changed"


def _learns_from(member: Member) -> str:
    return "all patients" if member.gap >= NUM_GRADES - 1 else f"patients whose eyes differ by {member.gap} or less"


def _combiner_text(combiner: Combiner | None) -> str:
    if combiner is None:
        return f"{'combiner':<15}none: the member stands alone"
    settings = words(combiner.to_dict(), "name")
    fitted = " and ".join(PATIENTS[split] for split in combiner.splits) or "nothing: there is nothing to fit"
    cuts = f"fitted on {PATIENTS['val']}" if combiner.fit_cuts else "as they stand"
    lines = {"combiner": f"{combiner.name}: {settings}", "reads": combiner.reads, "fitted on": fitted, "cuts": cuts}
    return "\n".join(f"{key:<15}{value}" for key, value in lines.items())
