"""The systems: a system is its members and a combiner; a member is a preprocess, a network, a task and its views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from m2cnn.combine import Blend, Combiner, Elastic, Forest, combiner_from_dict
from m2cnn.data.augment import Augment
from m2cnn.data.views import Views
from m2cnn.errors import SettingError, did_you_mean
from m2cnn.models import (
    MinPooling,
    NetworkSettings,
    OOSettings,
    PlainSettings,
    ReformedGamblers,
    ZoomInNet,
)
from m2cnn.preprocess import Preprocess, graham
from m2cnn.recipe import Recipe
from m2cnn.tasks import Classification, MultiTask, Regression, Task, task_from_dict

GONE_ON = "gone on from "  # begins the source of a system that is a trained model, taught more; its hash follows


@dataclass(frozen=True)
class Member:
    """One network with what it needs to be trained and read.

    `network` is a settings object with `build(outputs, cells) -> nn.Module` and `to_dict()`: one of
    those of the rows below or your own. One that has a `size` takes pictures of that size alone.
    name: where a system has several.  views: how it is shown a photograph that it grades.
    frame: side of the prepared picture / side of what the network is shown of it, 1 or more.
    snapshots: which weights are kept, each a member of its own at the end: those of the best validation "kappa", the
    best validation "loss", the "last".
    start: name of the member before it whose trained weights it starts from.
    pseudo: it learns, too, from photographs without a grade, with the grades that the members before it give them.
    gap: it learns only from patients whose two eyes differ by no more grades than this.
    joins: False for one that only lends its weights to others and says nothing at the end.
    """

    network: PlainSettings = NetworkSettings()
    task: Task = MultiTask()
    preprocess: Preprocess = Preprocess()
    name: str = ""
    views: Views = Views()
    frame: float = 1.0
    snapshots: tuple[str, ...] = ("kappa",)
    start: str = ""
    pseudo: bool = False
    gap: int = 4
    joins: bool = True


@dataclass(frozen=True)
class System:
    """A row of the table. title: as the paper prints it.  paper: (val, test) kappa there, or None for a system of your
    own.  combiner: what joins members, views and both eyes; None for a member that stands alone.

    source: where the description comes from, and what of it is a reconstruction.  cells: how many run on each rung of
    the ladder.
    """

    name: str
    title: str
    members: tuple[Member, ...]
    source: str
    paper: tuple[float, float] | None = None
    cells: tuple[int, int, int] = (0, 0, 0)
    combiner: Combiner | None = None

    def customised(self, recipe: Recipe) -> System:
        """The same system with the recipe's [network], [task], [preprocess], [views] and [combiner] applied.

        Raises SettingError for [members.NAME] of a member that there is not.
        """
        names = [member.name for member in self.members]
        for name in recipe.members:
            if name not in names:
                repair = did_you_mean(name, names)
                raise SettingError("recipe, members", f'"{name}"', f"a member of {self.name}", repair)
        members = tuple(_customise(member, recipe.of(member.name)) for member in self.members)
        return replace(self, members=members, combiner=_combiner(self.combiner, recipe.combiner))


def described(member: Member) -> dict:
    """A member as plain values, to tell whether it is still the same."""
    parts = {"network": member.network, "task": member.task, "preprocess": member.preprocess, "views": member.views}
    plain = {"name": member.name, "frame": member.frame, "snapshots": list(member.snapshots)}
    plain |= {"start": member.start, "pseudo": member.pseudo, "gap": member.gap, "joins": member.joins}
    return {name: part.to_dict() for name, part in parts.items()} | plain


def _combiner(combiner: Combiner | None, changes: dict) -> Combiner | None:
    """Another combiner starts from its own defaults; the same one keeps the row's settings; "none" is none."""
    if not changes:
        return combiner
    own = combiner.to_dict() if combiner and changes.get("name", combiner.name) == combiner.name else {}
    settings = own | changes
    return None if settings.get("name") == "none" else combiner_from_dict(settings)


def _customise(member: Member, recipe: Recipe) -> Member:
    network = member.network
    if recipe.network:
        if not isinstance(network, PlainSettings):
            got = f"[network] changes {', '.join(recipe.network)}"
            raise SettingError("recipe", got, "none for a network of your own", "Change it where you define it.")
        network = type(network).from_dict(network.to_dict() | recipe.network)
    # Another task starts from its own defaults; the same task keeps the row's settings.
    task = member.task.to_dict() if recipe.task.get("name", member.task.name) == member.task.name else {}
    preprocess = Preprocess.from_dict(member.preprocess.to_dict() | recipe.preprocess)
    views = Views.from_dict(member.views.to_dict() | recipe.views)
    task = task_from_dict(task | recipe.task)
    return replace(member, network=network, task=task, preprocess=preprocess, views=views)


# --- the rows ---

_BASENET = (
    "Zhou et al. 2018 (poster): losses, sizes and decodes known; "
    "trunk computed from its map sizes (Inception-ResNet-v2)"
)
_ZOOM = (
    "Wang et al. 2017 (abstract of arXiv 1706.04372): three parts and four boxes known; layers, stages and decode "
    "reconstructed"
)
_TURNS = Augment(rotation=180, flip_axes=1, scale=0, shift=0, brightness=0, contrast=0)
_EXPECTED = Classification(rule="expectation")


def _min_pooling(net: int, radius: int, views: int) -> Member:
    """Known: preprocess, views, the last weights. Reconstruction: pooling regions stay as drawn once."""
    side = MinPooling(net).size
    shown = Views("random", views, 0, replace(_TURNS, shift=30 / side, whole_px=True))
    return Member(MinPooling(net), _EXPECTED, graham(radius, side), f"net-{net}", shown, snapshots=("last",))


def _o_o(net: str, colour: float) -> Member:
    """Known: 448 of 512 px, 50 points of a Halton sequence; three sets of weights, each with points of its own.

    Reconstruction: which set has which points.
    """
    shift = {"shift_px": 40} if net == "a" else {"shift": 40 / 448}
    drawn = replace(_TURNS, zoom=1.15, colour=colour, interpolation="nearest", **shift)
    views = Views("halton", 50, 0, drawn)
    return Member(
        OOSettings(net), Regression(), name=net, views=views, frame=8 / 7, snapshots=("kappa", "loss", "last")
    )


def _gambler(name: str, row: str = "", **more: Any) -> Member:
    """Known: crops of 0.8 to 0.95 of the frame, 16 views; cut-offs are the combiner's."""
    network = ReformedGamblers(row or name)
    frame = network.row.frame / network.size
    drawn = replace(_TURNS, crop=(0.8, 0.95), crop_apart=name == "m51_1", interpolation="cubic")
    views = Views("random", 16, 0, drawn)
    return Member(network, Regression(clipped=True), name=name, views=views, frame=frame, **more)


# Their twelve predictors, as far as they are known: m55 was not seen.
_GAMBLERS = (
    _gambler("m28", joins=False),
    _gambler("cyc28", start="m28"),
    _gambler("m41"),
    _gambler("m42"),
    _gambler("m46"),
    _gambler("m47"),
    _gambler("m51", gap=1),
    _gambler("m51_1", start="m51"),
    _gambler("m52", start="m46", gap=1),
    _gambler("m53", start="m46"),
    _gambler("m58"),
    _gambler("m53_2_psl", "m53", start="m53", pseudo=True),
)

SYSTEMS = {
    system.name: system
    for system in (
        System(
            "min-pooling",
            "Min-pooling",
            (_min_pooling(1, 300, 12), _min_pooling(2, 300, 12), _min_pooling(3, 500, 6)),
            "Graham 2015 (report and code): known, but for what docstrings call a reconstruction",
            (0.860, 0.849),
            combiner=Forest(),
        ),
        System("zoom-in-net", "Zoom-in-Net", (Member(ZoomInNet("mac"), _EXPECTED),), _ZOOM, (0.857, 0.849)),
        System(
            "o-o",
            "o_O",
            (_o_o("a", 0.5), _o_o("b", 0.25)),
            "Antony and Brueggemann 2015 (report and code): known, but for what docstrings call a reconstruction",
            (0.854, 0.844),
            combiner=Blend(),
        ),
        System(
            "reformed-gamblers",
            "Reformed Gamblers",
            _GAMBLERS,
            "Xu, Dunavent, Kainkaryam 2015 (code): known; who had which regime, m46, m51, m58 reconstructed; no m55",
            (0.851, 0.839),
            combiner=Elastic(),
        ),
        System("m-net-a-net", "M-Net+A-Net", (Member(ZoomInNet("ma"), _EXPECTED),), _ZOOM, (0.837, 0.832)),
        System("basenet", "BaseNet", (Member(task=Regression()),), _BASENET, (0.835, 0.828)),
        System("basenet-mt", "BaseNet+MT", (Member(),), _BASENET, (0.841, 0.838)),
        System("m2cnn", "M2CNN", (Member(),), f"{_BASENET}; cells reconstructed", (0.844, 0.841), (0, 1, 2)),
        System(
            "m2cnn+blend",
            "M2CNN + blend",
            (Member(views=Views("random", 8)),),
            f"{_BASENET}; cells reconstructed; both eyes joined as by o_O: ours, not in the paper",
            cells=(0, 1, 2),
            combiner=Blend(fit_cuts=True),
        ),
    )
}


def network_kinds() -> dict[str, type[PlainSettings]]:
    """The networks that a bundle can name, and be rebuilt from: those of the rows."""
    return {type(m.network).__name__: type(m.network) for system in SYSTEMS.values() for m in system.members}


def get(name: str) -> System:
    """The system of that name; SettingError with the nearest name otherwise."""
    if name not in SYSTEMS:
        raise SettingError("system", f'"{name}"', "a system's name", did_you_mean(name, SYSTEMS))
    return SYSTEMS[name]
