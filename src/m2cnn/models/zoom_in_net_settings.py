"""What a Zoom-in-Net is made of, as plain checked values: no torch, so that a row of the table needs none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m2cnn.checks import is_number
from m2cnn.errors import SettingError, require
from m2cnn.grades import NUM_GRADES
from m2cnn.models.settings import (
    FULL_REPEATS,
    INCEPTION_RESNET_V2,
    INCEPTION_SOURCE,
    MEAN_SOURCE,
    NORMALISE_SOURCE,
    TIMM_PREFIX,
    NetworkSettings,
    PlainSettings,
    Source,
    check,
    check_choice,
    differing,
    is_count,
)

if TYPE_CHECKING:
    from m2cnn.models.zoom_in_net import ZoomInNetwork

PARTS = ("m", "ma", "mac")
TRUNK_KEYS = ("trunk", "width", "repeats", "ladder", "dropout", "weights", "trunk_options")
# Side in px of M-Net's picture by ladder, whose map is 14 x 14.
WHOLE_SIZES = {"full": 492, "half": 248, "quarter": 128}
LAYERS_SOURCE = "reconstruction: all of its layers; known: the part and what it is for (abstract)"


@dataclass(frozen=True)
class ZoomInNet(PlainSettings):
    """The network of the rows "Zoom-in-Net" and "M-Net + A-Net"; all defaults but the four boxes are a reconstruction.

    parts: "m" (M-Net alone), "ma" (M-Net + A-Net) or "mac" (the whole Zoom-in-Net).
    trunk, width, repeats, ladder, dropout, weights, trunk_options: as in NetworkSettings; C-Net's trunk is a second one
        of the same kind. `width` is a factor on `gate` and `hidden` too.
    zoom: side of C-Net's picture / side of M-Net's, above 1 and at most 8: 1230 px and 492 px.
    patch: side in px of each patch that C-Net sees, cut from the large picture.
    boxes: patches of a picture, 1..16.
    gate: channels of the two hidden layers of A-Net's gate.
    hidden: channels of C-Net's hidden linear layer.
    patch_dropout: probability before C-Net's last linear layer, 0 <= p < 1.
    average: the outputs are the mean of all three parts' logits instead of C-Net's alone.

    Raises SettingError for a value that means nothing.
    """

    parts: str = "mac"
    trunk: str = INCEPTION_RESNET_V2
    width: float = 1.0
    repeats: tuple[int, int, int] = FULL_REPEATS
    ladder: str = "full"
    dropout: float = 0.2
    weights: str = ""
    trunk_options: dict[str, Any] = field(default_factory=dict)
    zoom: float = 2.5
    patch: int = 384
    boxes: int = 4
    gate: int = 512
    hidden: int = 512
    patch_dropout: float = 0.5
    average: bool = False

    def __post_init__(self) -> None:
        for key, value in self.trunk_settings.to_dict().items():
            if key in TRUNK_KEYS:
                object.__setattr__(self, key, value)
        object.__setattr__(self, "repeats", tuple(self.repeats))
        check_choice("parts", self.parts, PARTS)
        check(is_number(self.zoom) and 1 < self.zoom <= 8, "zoom", self.zoom, "a number above 1 and at most 8")
        object.__setattr__(self, "zoom", float(self.zoom))
        for key, most in (("patch", 8192), ("boxes", 16), ("gate", 8192), ("hidden", 8192)):
            value = getattr(self, key)
            check(is_count(value, most) and value > 0, key, value, f"a whole number, 1..{most}")
        good = is_number(self.patch_dropout) and 0 <= self.patch_dropout < 1
        check(good, "patch_dropout", self.patch_dropout, "a probability: 0 <= p < 1")
        object.__setattr__(self, "patch_dropout", float(self.patch_dropout))
        check(isinstance(self.average, bool), "average", self.average, "true or false")
        check(not self.average or self.parts == "mac", "average", self.average, 'false, or parts = "mac"')

    @property
    def trunk_settings(self) -> NetworkSettings:
        """The part of the settings that makes a trunk."""
        return NetworkSettings(**{key: getattr(self, key) for key in TRUNK_KEYS})

    def usual_size(self, part: int = -1) -> int:
        whole = WHOLE_SIZES[self.ladder]
        runs_c_net = self.parts == "mac" and part in (-1, PARTS.index("mac"))
        return round(whole * self.zoom) if runs_c_net else whole

    def sources(self) -> dict[str, Source]:
        trunk = {name: self._trunk_sources(name, words) for name, words in (("", "{}"), ("c_net.", self._on_patches))}
        own = LAYERS_SOURCE
        return {
            "normalise": Source(NORMALISE_SOURCE, "(x / 255 - mean) / std"),
            **trunk[""],
            "a_net.score": Source(own, "{}: scores"),
            "a_net.gate": Source(own, "{}; softmax over positions, times scores"),
            **trunk["c_net."],
            "c_net.hidden": Source(own, "maximum over patches, beside M-Net's vector; {}, ReLU"),
            **dict.fromkeys(("dropout", "classif", "c_net.dropout", "c_net.classif"), Source(own)),
        }

    @property
    def _on_patches(self) -> str:
        return f"{{}}, on {self.boxes} patches"

    def _trunk_sources(self, prefix: str, words: str) -> dict[str, Source]:
        if self.trunk_settings.is_timm:
            known = f"known: {self.trunk.removeprefix(TIMM_PREFIX)} as in timm; reconstruction: that it is the trunk"
            return {f"{prefix}trunk.net.*": Source(known, words)}
        known = f"{INCEPTION_SOURCE}; reconstruction: that it is the trunk"
        return {f"{prefix}trunk.pool": Source(MEAN_SOURCE, words), f"{prefix}trunk.*": Source(known, words)}

    def notes(self) -> tuple[str, ...]:
        resize = (
            "reconstruction: with C-Net, M-Net's picture is made inside the network, by two matrix products that are "
            "not counted here; computed: 3.1 G multiply-adds for 1230 to 492 px"
        )
        return (*differing(self, "parts"), *((resize,) if self.parts == "mac" else ()))

    def check_parts(self, parts: Sequence[int]) -> None:
        """Raises SettingError unless A-Net learns before C-Net does, and the last stage runs all parts; -1: all."""
        last = PARTS.index(self.parts)
        runs = [last if part == -1 else part for part in parts]
        for number, part in enumerate(runs):
            if part > last:
                raise SettingError(f"recipe, stages.{number}.part", str(part), f'0..{last} with parts = "{self.parts}"')
        if 2 in runs and 1 not in runs:
            first = runs.index(2)
            expected = "part 1 in a stage before: C-Net looks where A-Net has learnt to"
            raise SettingError(f"recipe, stages.{first}.part", str(parts[first]), expected)
        if runs[-1] < last:
            got, repair = str(runs[-1]), 'A network of fewer parts: network.parts = "ma".'
            raise SettingError(f"recipe, stages.{len(runs) - 1}.part", got, f"{last}: all parts are trained", repair)

    def build(self, outputs: int = NUM_GRADES, cells: int = 0) -> ZoomInNetwork:
        """The network, with every part running, in training mode.

        Random weights come from torch's generator; `weights` fills both trunks.

        Raises SettingError for other than five outputs, for cells, and for weights that do not fit; MissingExtra
        without torch.
        """
        require("torch", "train")
        from m2cnn.models.zoom_in_net import ZoomInNetwork

        if isinstance(outputs, bool) or outputs != NUM_GRADES:
            expected = f"{NUM_GRADES}: A-Net has one attention map per grade"
            raise SettingError("network.outputs", f"got {outputs!r}", expected, 'Use the task "classification".')
        if isinstance(cells, bool) or cells != 0:
            raise SettingError("network.cells", f"got {cells!r}", "0: only M2CNN has cells")
        return ZoomInNetwork(self)
