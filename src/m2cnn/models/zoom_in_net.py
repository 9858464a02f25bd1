"""Zoom-in-Net: M-Net grades the whole picture, A-Net finds where to look, C-Net looks there at high resolution.

    picture 1230 -> normalise -> area resize 492 -> trunk -> M (2080 x 14 x 14) -> M-Net's head -> y_M
                        |                                    M -> A-Net -> gated maps G -> y_A
                        |                                    G -> choose_boxes -> four corners
                        +-> patches 4 x 384 -> C-Net's trunk -> max over patches, beside M-Net's vector -> y_C

Known (Wang et al., arXiv 1706.04372, abstract): the three parts and what each is for; four boxes per picture from
attention maps learnt from image-level labels; whole picture and high-resolution patches. Known (poster of M2CNN): the
kappas of the two rows. Reconstruction: everything else, that is every layer, size and rule below, the area resizing
inside the network, and its stages. At width 1:

    part    layer         operation                                              output
    M-Net   trunk         Inception-ResNet-v2 up to the last Block8 (492 px)     2080 x 14 x 14
            trunk.head    conv2d_7b, mean over the map                           1536
            classif       dropout 0.2, linear                                    5
    A-Net   score         conv 1x1 with bias: S                                  5 x 14 x 14
            gate          conv 1x1 BN ReLU twice (512), conv 1x1                 5 x 14 x 14
                          softmax over the positions of each grade: A            5 x 14 x 14
                          G = S * A; y_A = sum of G over the positions           5
    C-Net   trunk         as M-Net's, with weights of its own (384 px)           4 x 2080 x 10 x 10
            trunk.head    conv2d_7b, mean over the map                           4 x 1536
                          maximum over the patches, beside M-Net's vector        3072
            hidden        linear, ReLU                                           512
            classif       dropout 0.5, linear                                    5

The row "M-Net + A-Net" is the mean of y_M and y_A; that of Zoom-in-Net is y_C, or the mean of all three.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2cnn.errors import SettingError, SizeError
from m2cnn.grades import NUM_GRADES
from m2cnn.models import _build_trunk
from m2cnn.models.inception_resnet import ConvBnReLU, initialise, scaled
from m2cnn.models.m2cnn import LEAST_MAP, Normalise, first_size
from m2cnn.models.zoom_in_net_settings import PARTS, ZoomInNet

__all__ = ["AttentionNet", "PatchNet", "ZoomInNet", "ZoomInNetwork", "area_resize", "choose_boxes", "crop"]

STRIDE = 8
M_NET, A_NET, C_NET = range(3)
# What a taken place counts, where 1 is the highest response: less than nothing, so that a blank map gives four places.
TAKEN = -1e-3


class AttentionNet(nn.Module):
    """A-Net: map (B, C, h, w) -> gated maps G (B, grades, h, w), whose sums over the positions are its logits."""

    def __init__(self, channels: int, gate: int, grades: int = NUM_GRADES):
        super().__init__()
        self.score = nn.Conv2d(channels, grades, 1)
        last = nn.Conv2d(gate, grades, 1)
        self.gate = nn.Sequential(ConvBnReLU(channels, gate, 1), ConvBnReLU(gate, gate, 1), last)
        initialise(self)
        for each in (self.score, last):  # near uniform attention at first
            nn.init.normal_(each.weight, std=0.01)

    def attend(self, x: Tensor) -> Tensor:
        """A (B, grades, h, w): at least 0, and each grade's map sums to 1."""
        gate = self.gate(x)  # (B, 5, 14, 14)
        return gate.flatten(2).softmax(dim=2).view_as(gate)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x) * self.attend(x)


class PatchNet(nn.Module):
    """C-Net: patches (B, N, 3, p, p) and M-Net's vector (B, D) -> logits (B, grades)."""

    def __init__(self, trunk: nn.Module, hidden: int, dropout: float, grades: int = NUM_GRADES):
        super().__init__()
        self.trunk = trunk
        self.hidden = nn.Linear(2 * trunk.head_channels, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classif = nn.Linear(hidden, grades)

    def features(self, patches: Tensor) -> Tensor:
        """(B, N, 3, p, p) -> (B, D): of each feature its maximum over the N patches, in whatever order they come."""
        vectors = self.trunk.head(self.trunk(patches.flatten(0, 1)))  # (4 B, 1536)
        return vectors.reshape(-1, patches.shape[1], vectors.shape[1]).amax(dim=1)

    def forward(self, patches: Tensor, whole: Tensor) -> Tensor:
        both = torch.cat([self.features(patches), whole], dim=1)  # (B, 3072)
        return self.classif(self.dropout(F.relu(self.hidden(both))))


def area_resize(x: Tensor, size: int) -> Tensor:
    """(B, C, S, S) -> (B, C, size, size): the mean over the area that each new pixel covers, cut pixels by their share.

    OpenCV's INTER_AREA; torch's mode "area" counts a cut pixel as a whole one.
    """
    edges = torch.arange(size + 1, device=x.device, dtype=torch.float32) * (x.shape[-1] / size)
    pixels = torch.arange(x.shape[-1], device=x.device, dtype=torch.float32)
    ends = torch.minimum(edges[1:, None], pixels + 1)
    shares = (ends - torch.maximum(edges[:-1, None], pixels)).clamp(min=0) * (size / x.shape[-1])  # (size, S)
    shares = shares.to(x.dtype)
    return shares @ x @ shares.T


def response(gated: Tensor, logits: Tensor) -> Tensor:
    """How suspicious each place is: gated maps (B, K, h, w) and logits (B, K) -> (B, h, w), highest 1 unless all 0.

    The sum over grades l >= 1 of relu(G_l) times the probability of l; unweighted where the logits say grade 0.
    """
    weights = logits.softmax(dim=1).masked_fill((logits.argmax(dim=1) == 0)[:, None], 1.0)
    summed = (gated.relu() * weights[:, :, None, None])[:, 1:].sum(dim=1)  # (B, 14, 14)
    return summed / summed.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(summed.dtype).tiny)


def choose_boxes(gated: Tensor, logits: Tensor, size: int, side: int, count: int = 4, stride: int = STRIDE) -> Tensor:
    """Greedy choice of where to look: gated maps (B, K, h, w), logits (B, K) -> corners (B, `count`, 2), no gradient.

    The response is enlarged to the picture of `size` px (bilinear). The box of `side` px with the largest mean response
    is taken, what is inside counts no more, and so on. A corner is (top, left) in px, a multiple of `stride`; the last
    (size - side) % stride px at the right and at the bottom are in no box.
    """
    found = response(gated.detach().float(), logits.detach().float())[:, None]
    found = F.interpolate(found, (size, size), mode="bilinear", align_corners=False)  # (B, 1, 1230, 1230)
    pixels = torch.arange(size, device=gated.device)
    corners = []
    for _ in range(count):
        rows = F.avg_pool2d(found, (side, 1), (stride, 1))  # (B, 1, 106, 1230)
        means = F.avg_pool2d(rows, (1, side), (1, stride))  # (B, 1, 106, 106)
        best = means.flatten(1).argmax(dim=1)
        top, left = stride * (best // means.shape[-1]), stride * (best % means.shape[-1])  # (B,)
        inside = [(pixels >= first[:, None]) & (pixels < first[:, None] + side) for first in (top, left)]
        taken = inside[0][:, None, :, None] & inside[1][:, None, None, :]  # (B, 1, 1230, 1230)
        found = found.masked_fill(taken, TAKEN)
        corners.append(torch.stack([top, left], dim=1))
    return torch.stack(corners, dim=1)


def crop(x: Tensor, corners: Tensor, side: int) -> Tensor:
    """Pictures (B, C, S, S) and corners (B, N, 2), top and left in px -> patches (B, N, C, side, side)."""
    steps = torch.arange(side, device=x.device)
    rows, columns = corners[:, :, :1] + steps, corners[:, :, 1:] + steps  # (B, N, side)
    places = (rows[:, :, :, None] * x.shape[-1] + columns[:, :, None, :]).flatten(1)  # (B, N side^2)
    taken = x.flatten(2).gather(2, places[:, None].expand(-1, x.shape[1], -1))
    return taken.reshape(-1, x.shape[1], corners.shape[1], side, side).transpose(1, 2)


class ZoomInNetwork(nn.Module):
    """(B, 3, S, S) pictures, uint8 or floats in 0..255 -> (B, 5) logits.

    stage: which parts run and which of them learn; assign it. At first all parts that `settings.parts` names run.

        stage   runs                  learns                picture
        0       M-Net                 M-Net                 M-Net's, 492 px
        1       M-Net, A-Net          A-Net, M-Net          M-Net's, 492 px
        2       M-Net, A-Net, C-Net   C-Net                 C-Net's, 1230 px; M-Net's is made of it

    What does not learn has requires_grad False and stays in evaluation mode, so that its batch norms keep still.
    settings: plain values; `ZoomInNet.from_dict(net.settings).build()` makes the same network again, with random
        weights.

    Raises SizeError when the picture is too small for the stage, SettingError when the trunk cannot take the patches.
    """

    def __init__(self, settings: ZoomInNet):
        super().__init__()
        trunk = _build_trunk(settings.trunk_settings)
        self.settings: dict[str, Any] = settings.to_dict() | {"weights": ""}
        self.zoom, self.patch, self.boxes = settings.zoom, settings.patch, settings.boxes
        self.average = settings.average
        self.normalise = Normalise(trunk.mean, trunk.std)
        self.trunk = trunk
        self.dropout = nn.Dropout(settings.dropout)
        self.classif = nn.Linear(trunk.head_channels, NUM_GRADES)
        if "a" in settings.parts:
            self.a_net = AttentionNet(trunk.channels, scaled(settings.gate, settings.width))
        if "c" in settings.parts:
            _check_patch(trunk, settings.patch)
            hidden = scaled(settings.hidden, settings.width)
            self.c_net = PatchNet(copy.deepcopy(trunk), hidden, settings.patch_dropout)
        self.last_stage = PARTS.index(settings.parts)
        self.stage = self.last_stage

    @property
    def stage(self) -> int:
        return self._stage

    @stage.setter
    def stage(self, stage: int) -> None:
        if isinstance(stage, bool) or not isinstance(stage, int) or not 0 <= stage <= self.last_stage:
            raise SettingError("stage", f"got {stage!r}", f"0..{self.last_stage} with these parts")
        self._stage = stage
        self._smallest = self.smallest_size()
        learning = {id(each) for group in self.trained().values() for each in group}
        for each in self.parameters():
            each.requires_grad_(id(each) in learning)
        self.train(self.training)

    def trained(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that learn at this stage: those that are "new" in it, and those "carried" from the one before.

        At stage 1 the reconstruction gives what is carried a tenth of the rate of what is new.
        """
        new, carried = self._learning()
        groups = {"new": new, "carried": carried}
        return {name: [each for part in parts for each in part.parameters()] for name, parts in groups.items()}

    def train(self, mode: bool = True) -> ZoomInNetwork:
        """As of every module, but the parts that do not learn at this stage stay in evaluation mode."""
        super().train(False)
        new, carried = self._learning()
        for part in (*new, *carried):
            part.train(mode)
        self.dropout.train(mode and self.stage < C_NET)
        self.training = mode
        return self

    def start_c_net(self) -> None:
        """C-Net's trunk takes the weights that M-Net's has now: to be called when stage 2 starts."""
        self.c_net.trunk.load_state_dict(self.trunk.state_dict())

    def smallest_size(self) -> int:
        """Side in px of the smallest square picture that the present stage takes."""

        def enough(size: int) -> bool:
            return self.trunk.map_size(self._whole_size(size)) >= LEAST_MAP and size >= self._side(self.stage)

        return first_size(enough, 33)

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """M-Net's map (B, C, h, w) and A-Net's gated maps (B, 5, h, w); None at stage 0."""
        return self._maps(self._normalised(x))

    def features(self, x: Tensor) -> Tensor:
        """M-Net's vector (B, D) of the whole picture."""
        return self.trunk.head(self.maps(x)[0])

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where the network looks: gated maps (B, 5, h, w), boxes (B, 4, 4) = top, left, bottom, right in px of x.

        Without C-Net these are the boxes of the patches that it would see.

        Raises SettingError at stage 0, where A-Net does not run.
        """
        if self.stage < A_NET:
            raise SettingError("stage", "at stage 0 there is no attention", "stage 1 or 2", "Assign network.stage.")
        whole, gated = self.maps(x)
        logits = self._mean({"m": self._m_logits(self.trunk.head(whole)), "a": gated.sum(dim=(2, 3))})
        side = self._side(A_NET if self.stage < C_NET else C_NET)
        corners = choose_boxes(gated, logits, x.shape[-1], side, self.boxes)
        return gated, torch.cat([corners, corners + side], dim=2)

    def parts(self, x: Tensor) -> dict[str, Tensor]:
        """The logits (B, 5) of each part that runs: "m", "a", "c". The sum of their losses trains the stage."""
        return self._parts(x)[0]

    def _parts(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        x = self._normalised(x)
        whole, gated = self._maps(x)
        vector = self.trunk.head(whole)  # (B, 1536)
        logits = {"m": self._m_logits(vector)}
        if self.stage >= A_NET:
            logits["a"] = gated.sum(dim=(2, 3))
        if self.stage >= C_NET:
            corners = choose_boxes(gated, self._mean(logits), x.shape[-1], self.patch, self.boxes)
            logits["c"] = self.c_net(crop(x, corners, self.patch), vector)
        return logits, vector

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, 5), and the vector (B, D) of `features`."""
        logits, vector = self._parts(x)
        return logits["c"] if "c" in logits and not self.average else self._mean(logits), vector

    def _learning(self) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
        m_net = (self.trunk, self.classif)
        if self.stage == M_NET:
            return m_net, ()
        return ((self.a_net,), m_net) if self.stage == A_NET else ((self.c_net,), ())

    def _m_logits(self, vector: Tensor) -> Tensor:
        return self.classif(self.dropout(vector))

    @staticmethod
    def _mean(logits: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(logits.values())).mean(dim=0)

    def _maps(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        size = self._whole_size(x.shape[-1])
        whole = self.trunk(x if self.stage < C_NET else area_resize(x, size))  # (B, 2080, 14, 14)
        return whole, self.a_net(whole) if self.stage >= A_NET else None

    def _normalised(self, x: Tensor) -> Tensor:
        self._check_size(x)
        return self.normalise(x)

    def _whole_size(self, size: int) -> int:
        return round(size / self.zoom) if self.stage >= C_NET else size

    def _side(self, stage: int) -> int:
        """Side in px of a box on the picture of a stage; 0 where there is none."""
        return {M_NET: 0, A_NET: round(self.patch / self.zoom), C_NET: self.patch}[stage]

    def _check_size(self, x: Tensor) -> None:
        # Under jit tracing sizes are tensors, and the exporter has run the same picture before.
        if torch.jit.is_tracing():
            return
        height, width = x.shape[-2:]
        if min(height, width) < self._smallest:
            least = f"at least {self._smallest} x {self._smallest} px"
            got = f"{height} x {width} px is too small at stage {self.stage}"
            raise SizeError("input", got, least, "Enlarge the photographs, or choose a smaller patch or ladder.")
        if self.stage >= A_NET and height != width:
            raise SizeError("input", f"got {height} x {width} px", "a square picture")
        multiple = self.trunk.multiple
        if any(self._whole_size(each) % multiple for each in (height, width)):
            got = f"M-Net would see {self._whole_size(height)} x {self._whole_size(width)} px"
            raise SizeError("input", got, f"multiples of {multiple} px with this trunk")


def _check_patch(trunk: nn.Module, patch: int) -> None:
    if trunk.map_size(patch) < LEAST_MAP or patch % trunk.multiple:
        least = first_size(lambda size: trunk.map_size(size) >= LEAST_MAP, 33)
        multiples = f", a multiple of {trunk.multiple}" if trunk.multiple > 1 else ""
        raise SettingError("network.patch", f"got {patch} px", f"at least {least} px for this trunk{multiples}")
