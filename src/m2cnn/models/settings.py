"""What a network is made of, as plain checked values: no torch, so that recipes are read and refused without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from m2cnn.checks import is_number
from m2cnn.errors import SettingError, did_you_mean

if TYPE_CHECKING:
    from m2cnn.models.m2cnn import M2CNN

INCEPTION_RESNET_V2 = "inception_resnet_v2"
TIMM_PREFIX = "timm:"
FULL_REPEATS = (10, 20, 9)
CELL_KINDS = ("inception", "plain", "residual")

# Input sizes (px) of the stages with 0, 1 and 2 cells. Every ladder has the same maps 5 / 12 / 21 before the switch.
LADDERS = {"full": (224, 448, 720), "half": (112, 224, 360), "quarter": (56, 112, 184)}

USUAL_SIZE = 224

# How sure we are of what several networks share.
INCEPTION_SOURCE = "known: Inception-ResNet-v2 (arXiv 1602.07261; layout as in Cadene's and timm's weights)"
MEAN_SOURCE = "reconstruction: mean over the map instead of the fixed 8 x 8 pool, so that every input size works"
NORMALISE_SOURCE = "known: the mean and standard deviation that the trunk's ImageNet weights expect"

# What ImageNet weights of mobilenet_edgetpu_100 need that were converted from the MLPerf graph (mlcommons/mobile_open).
EDGETPU_OPTIONS = {
    "pad_type": "same",
    "linear_first_block": True,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


class Source(NamedTuple):
    """How sure we are of a layer: "known: ..", "computed: .." and "reconstruction: ..", joined by semicolons.

    operation: what the layer does, with {} for what its modules say themselves.
    """

    text: str
    operation: str = "{}"


class PlainSettings:
    """A frozen dataclass that becomes plain values, and comes back from them.

    batch_norm: whether it needs two photographs to train on.  rescales: whether the network has `rescale(pictures)`.
    own_bias: whether its last bias starts as the network has it, not at the task's mean grade.
    """

    batch_norm: ClassVar[bool] = True
    rescales: ClassVar[bool] = False
    own_bias: ClassVar[bool] = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; `from_dict` reads them back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def at(self, size: int) -> Self:
        """The settings of the network for pictures of `size` px: these, unless each size has a network of its own."""
        return self

    @property
    def fixed_sizes(self) -> tuple[int, ...]:
        """The sides in px of the only pictures that it, or the same network `at` another of them, takes; () for any."""
        size = getattr(self, "size", 0)
        return (size,) if size else ()

    def usual_size(self, part: int = -1) -> int:
        """Side in px of the pictures that it, or this part of it, grades with when nobody says another."""
        return self.fixed_sizes[-1] if self.fixed_sizes else USUAL_SIZE

    def sources(self) -> dict[str, Source]:
        """Which submodules get a row of the layer table, by patterns such as "trunk.*"; the first that fits counts."""
        return {"*": Source("not stated")}

    def notes(self) -> tuple[str, ...]:
        """What the layer table does not say of the network."""
        return ()

    def check_parts(self, parts: Sequence[int]) -> None:
        """Raises SettingError unless a training may run these parts of the network, stage after stage; -1: all."""
        for number, part in enumerate(parts):
            if part != -1:
                got = f"{part} for {type(self).__name__}"
                raise SettingError(f"recipe, stages.{number}.part", got, "-1: it has no parts")

    def without_weights(self) -> Self:
        """The same settings, starting at random: for a network whose weights are loaded next."""
        return replace(self, weights="") if hasattr(self, "weights") else self

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Raises SettingError for an unknown key."""
        known = [each.name for each in fields(cls)]
        for key in values:
            if key not in known:
                raise SettingError("network", f'unknown setting "{key}"', repair=did_you_mean(key, known))
        return cls(**values)


@dataclass(frozen=True)
class NetworkSettings(PlainSettings):
    """The network part of a recipe.

    trunk: "inception_resnet_v2" (BaseNet, our own definition) or "timm:NAME", any convolutional network of timm.
    width: factor on every channel count of BaseNet, above 0 and at most 4; no count falls below 4; 1 is as published.
    repeats: how many Block35, Block17 and Block8 BaseNet has, each 0..99; one more Block8, the last, is always there.
    ladder: "full", "half" or "quarter": BaseNet's stem strides for photographs of less detail; see LADDERS. A timm
        trunk keeps its own strides: there the ladder only names the input sizes.
    cell: "inception", "plain" or "residual", see `m2cnn.models.m2cnn`.
    residual_blocks: Block8 in each inception cell, 0..5. The other two kinds of cell have none.
    dropout: probability before the last linear layer, 0 <= p < 1.
    weights: "" (random), "timm" (ImageNet weights that timm downloads), or a local .safetensors file with timm's names
        ("PATH" or "file:PATH").
    trunk_options: for a timm trunk, keyword arguments of `timm.create_model` such as {"pad_type": "same"}, and our own
        "mean" and "std", three numbers each: the normalisation of pixel values in 0..1 when it is not timm's own;
        "linear_first_block": True takes the activation out of the first block of an EfficientNet-like trunk.
        A mobilenet_edgetpu_100 converted from the MLPerf graph needs all four: see EDGETPU_OPTIONS.

    Raises SettingError for a value that means nothing.
    """

    trunk: str = INCEPTION_RESNET_V2
    width: float = 1.0
    repeats: tuple[int, int, int] = FULL_REPEATS
    ladder: str = "full"
    cell: str = "inception"
    residual_blocks: int = 2
    dropout: float = 0.2
    weights: str = ""
    trunk_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_trunk(self.trunk)
        check_choice("ladder", self.ladder, LADDERS)
        check_choice("cell", self.cell, CELL_KINDS)
        check_width(self.width)
        check(is_number(self.dropout) and 0 <= self.dropout < 1, "dropout", self.dropout, "a probability: 0 <= p < 1")
        check(is_count(self.residual_blocks, 5), "residual_blocks", self.residual_blocks, "a whole number, 0..5")
        check(is_repeats(self.repeats), "repeats", self.repeats, "three whole numbers, 0..99, such as [10, 20, 9]")
        check(isinstance(self.weights, str), "weights", self.weights, '"", "timm" or the path of a .safetensors file')
        check(isinstance(self.trunk_options, Mapping), "trunk_options", self.trunk_options, "a table of options")
        object.__setattr__(self, "repeats", tuple(self.repeats))
        object.__setattr__(self, "width", float(self.width))
        object.__setattr__(self, "dropout", float(self.dropout))
        object.__setattr__(self, "trunk_options", dict(self.trunk_options))
        _check_timm(self) if self.is_timm else _check_own(self)

    @property
    def is_timm(self) -> bool:
        return self.trunk.startswith(TIMM_PREFIX)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Input sizes in px of the stages with 0, 1 and 2 cells."""
        return LADDERS[self.ladder]

    def build(self, outputs: int, cells: int = 0) -> M2CNN:
        """The network with random weights from torch's generator, or the first weights that `weights` names."""
        from m2cnn.models import build_network

        return build_network(self, outputs, cells)


def differing(settings: PlainSettings, *chosen: str) -> tuple[str, ...]:
    """The note on what is not as published, that is as the defaults are; none where all is.

    chosen: settings that choose between published networks.
    """
    pairs = [(each.name, getattr(settings, each.name), each.default) for each in fields(settings)]
    changed = [pair for pair in pairs if pair[0] not in (*chosen, "weights", "trunk_options") and pair[1] != pair[2]]
    if not changed:
        return ()
    ours = ", ".join(f"{name} {_plain(value)}" for name, value, _ in changed)
    theirs = ", ".join(f"{name} {_plain(value)}" for name, _, value in changed)
    return (f"reconstruction: {ours}; the full network has {theirs}",)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{list(value) if isinstance(value, tuple) else value}"


def is_count(value: object, most: int) -> bool:
    """Whether it is a whole number, 0..most."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_repeats(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 3 and all(is_count(each, 99) for each in value)


def check(good: bool, key: str, value: object, expected: str) -> None:
    """Raise SettingError of a network's setting unless it is good."""
    if not good:
        raise SettingError(f"network.{key}", f"got {value!r}", expected)


def check_width(width: object) -> None:
    check(is_number(width) and 0 < width <= 4, "width", width, "a number above 0 and at most 4")


def checked_outputs(outputs: int) -> int:
    """The number itself. Raises SettingError for less than one, and for what is no whole number."""
    check(
        isinstance(outputs, int) and is_count(outputs, outputs) and outputs > 0,
        "outputs",
        outputs,
        "a whole number from 1",
    )
    return outputs


def check_choice(key: str, value: object, choices: Mapping | tuple) -> None:
    if not isinstance(value, str) or value not in choices:
        raise SettingError(f"network.{key}", f"got {value!r}", "a known one", did_you_mean(str(value), choices))


def _check_trunk(trunk: object) -> None:
    if not isinstance(trunk, str) or (trunk != INCEPTION_RESNET_V2 and not trunk.removeprefix(TIMM_PREFIX)):
        raise SettingError("network.trunk", f"got {trunk!r}", f'"{INCEPTION_RESNET_V2}" or "timm:NAME"')
    if trunk != INCEPTION_RESNET_V2 and not trunk.startswith(TIMM_PREFIX):
        raise SettingError(
            "network.trunk",
            f'unknown trunk "{trunk}"',
            f'"{INCEPTION_RESNET_V2}" or "timm:NAME"',
            f'{did_you_mean(trunk, [INCEPTION_RESNET_V2])} A network of timm: "{TIMM_PREFIX}{trunk}".',
        )


def _check_timm(settings: NetworkSettings) -> None:
    check(settings.width == 1, "width", settings.width, "1 with a timm trunk: choose a narrower one by its name")
    check(settings.repeats == FULL_REPEATS, "repeats", settings.repeats, "nothing with a timm trunk: its name says it")


def _check_own(settings: NetworkSettings) -> None:
    published = settings.width == 1 and settings.repeats == FULL_REPEATS
    if settings.weights == "timm" and not published:
        raise SettingError(
            "network.weights",
            f'"timm" with width {settings.width:g} and repeats {list(settings.repeats)}',
            "width 1 and repeats [10, 20, 9], the network that the ImageNet weights belong to",
        )
    check(not settings.trunk_options, "trunk_options", settings.trunk_options, f"nothing with {INCEPTION_RESNET_V2}")
