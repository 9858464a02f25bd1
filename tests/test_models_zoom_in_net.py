"""Zoom-in-Net: its maps, the attention, where it looks, what it sees there, and what learns at each stage."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from m2cnn.errors import SettingError, SizeError
from m2cnn.export import export_onnx
from m2cnn.models.zoom_in_net import AttentionNet, PatchNet, ZoomInNet, area_resize, choose_boxes, crop

# Gate 16 and hidden 32 at this width; pictures of 224 px and 560 px.
TINY = {"width": 1 / 16, "repeats": (1, 1, 1), "gate": 256, "patch": 174}
WHOLE, PICTURE, PATCH = 224, 560, 174
PARTS = ["m", "ma", "mac"]


def tiny(parts="mac", **settings):
    torch.manual_seed(0)
    return ZoomInNet(parts=parts, **TINY | settings).build(5)


def pictures(size=PICTURE, batch=2):
    return torch.randint(0, 256, (batch, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def size_of(network):
    return PICTURE if network.stage == 2 else WHOLE


def gated_maps(*blobs, side=14):
    """(1, 5, side, side), zero but for (grade, row, column, value) of each blob."""
    gated = torch.zeros(1, 5, side, side)
    for grade, row, column, value in blobs:
        gated[0, grade, row, column] = value
    return gated


def sure_of(grade):
    return 10.0 * F.one_hot(torch.tensor([grade]), 5)


def holds(corner, side, row, column):
    top, left = corner.tolist()
    return top <= row < top + side and left <= column < left + side


# --- sizes ---


def test_maps_of_the_full_network():
    with torch.device("meta"), torch.no_grad():
        network = ZoomInNet().build(5).eval()
        x = torch.empty(2, 3, 1230, 1230)
        whole, gated = network.maps(x)
        assert whole.shape == (2, 2080, 14, 14)
        assert gated.shape == (2, 5, 14, 14)
        assert network.c_net.trunk(torch.empty(1, 3, 384, 384)).shape == (1, 2080, 10, 10)
        assert network.c_net.hidden.weight.shape == (512, 3072)
        gate = [each.out_channels for each in network.a_net.gate.modules() if isinstance(each, nn.Conv2d)]
        assert gate == [512, 512, 5]
        assert {name: each.shape for name, each in network.parts(x).items()} == dict.fromkeys("mac", (2, 5))


def test_maps_of_the_tiny_network():
    network = tiny().eval()
    with torch.no_grad():
        whole, gated = network.maps(pictures())
        assert whole.shape == (2, 130, 5, 5)
        assert gated.shape == (2, 5, 5, 5)
        assert network.a_net.gate[0].conv.out_channels == 16
        network.stage = 1
        assert network.maps(pictures(492, 1))[0].shape == (1, 130, 14, 14)


def test_the_dropouts_are_as_set():
    network = tiny()
    assert (network.dropout.p, network.c_net.dropout.p) == (0.2, 0.5)


@pytest.mark.parametrize(("stage", "least"), [(0, 107), (1, 107), (2, 267)])
def test_smallest_picture_of_each_stage(stage, least):
    network = tiny().eval()
    network.stage = stage
    assert network.smallest_size() == least
    with torch.no_grad():
        assert network(pictures(least, 1)).isfinite().all()
    with pytest.raises(SizeError, match=f"is too small at stage {stage}; expected at least {least} x {least} px"):
        network(pictures(least - 1))


def test_a_picture_holds_its_patch():
    assert tiny(patch=400).smallest_size() == 400


def test_a_picture_is_square():
    with pytest.raises(SizeError, match=r"560 x 550 px; expected a square picture"):
        tiny()(pictures()[..., :550])


# --- attention ---


def test_attention_of_each_grade_sums_to_one():
    net = AttentionNet(8, 16)
    nn.init.normal_(net.gate[2].weight, std=3.0)
    attention = net.attend(torch.randn(3, 8, 6, 7))
    assert attention.shape == (3, 5, 6, 7)
    assert (attention >= 0).all()
    torch.testing.assert_close(attention.sum(dim=(2, 3)), torch.ones(3, 5))
    assert attention.std(dim=1).max() > 1e-3  # each grade has its own


def test_attention_logits_are_the_weighted_mean_of_the_scores():
    network, x = tiny("ma").eval(), pictures(WHOLE)
    nn.init.normal_(network.a_net.gate[2].weight, std=1.0)
    with torch.no_grad():
        whole, gated = network.maps(x)
        scores, attention = network.a_net.score(whole), network.a_net.attend(whole)
        for grade in range(5):
            expected = np.average(scores[0, grade].numpy(), weights=attention[0, grade].numpy())
            assert network.parts(x)["a"][0, grade].item() == pytest.approx(expected, abs=1e-5)
        assert network.attention(x)[0].equal(gated)
    assert scores.std() > 1e-3


# --- where to look ---


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 9), (13, 13), (7, 0), (10, 4)])
def test_box_1_finds_a_blob(row, column):
    corners = choose_boxes(gated_maps((2, row, column, 1.0)), sure_of(2), 1230, 384)
    assert holds(corners[0, 0], 384, (row + 0.5) * 1230 / 14, (column + 0.5) * 1230 / 14)


def test_boxes_go_from_blob_to_blob():
    gated = gated_maps((1, 2, 2, 1.0), (2, 2, 11, 4.0), (3, 11, 3, 3.0), (4, 11, 11, 2.0))
    corners = choose_boxes(gated, sure_of(0), 1230, 384)
    for corner, (row, column) in zip(corners[0], [(2, 11), (11, 3), (11, 11), (2, 2)], strict=True):
        assert holds(corner, 384, (row + 0.5) * 1230 / 14, (column + 0.5) * 1230 / 14)


def test_no_later_box_holds_the_peak_again():
    """A lone blob: whatever follows box 1 must look elsewhere."""
    corners = choose_boxes(gated_maps((2, 6, 8, 1.0)), sure_of(2), 1230, 384)[0]
    peak = 6.5 * 1230 / 14, 8.5 * 1230 / 14
    assert [holds(corner, 384, *peak) for corner in corners] == [True, False, False, False]


@pytest.mark.parametrize("blank", [True, False])
def test_boxes_stay_inside_and_differ(blank):
    gated = torch.randn(6, 5, 14, 14, generator=torch.Generator().manual_seed(0)) - (100 if blank else 0)
    corners = choose_boxes(gated, torch.zeros(6, 5), 1230, 384)
    assert corners.shape == (6, 4, 2)
    assert corners.dtype == torch.int64
    assert (corners >= 0).all() and (corners + 384 <= 1230).all()
    for each in corners.tolist():
        assert len(set(map(tuple, each))) == 4
    if blank:  # four boxes that share no pixel
        gaps = (corners[0][:, None] - corners[0]).abs().amax(dim=2) + 384 * torch.eye(4)
        assert (gaps >= 384).all()


def test_boxes_agree_with_a_search_pixel_by_pixel():
    gated = torch.rand(3, 5, 6, 6, generator=torch.Generator().manual_seed(2)) ** 4
    logits, size, side, stride = torch.eye(3, 5), 101, 30, 8
    corners = choose_boxes(gated, logits, size, side, count=3, stride=stride)
    for picture in range(3):
        probability = logits[picture].softmax(0)
        weight = [0, 1, 1, 1, 1] if picture == 0 else [0, *probability[1:]]
        found = sum(weight[grade] * gated[picture, grade] for grade in range(5))
        found = F.interpolate(found[None, None], (size, size), mode="bilinear")[0, 0].double().numpy()
        for corner in corners[picture].tolist():
            starts = range(0, size - side + 1, stride)
            means = {(y, x): found[y : y + side, x : x + side].mean() for y in starts for x in starts}
            assert tuple(corner) == max(means, key=means.get)
            found[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = 0


def first_corner(gated, logits):
    return choose_boxes(gated, logits, 1230, 384)[0, 0]


def test_the_predicted_grade_leads():
    gated = gated_maps((1, 2, 2, 2.0), (4, 11, 11, 1.0))
    strong, weak = (2.5 * 1230 / 14,) * 2, (11.5 * 1230 / 14,) * 2
    assert holds(first_corner(gated, sure_of(1)), 384, *strong)
    assert holds(first_corner(gated, sure_of(4)), 384, *weak)
    # Grade 0 is predicted and grade 4 runs second: only the plain sum still leads to the stronger blob.
    second = torch.tensor([[5.0, 0.0, 0.0, 0.0, 4.0]])
    assert holds(first_corner(gated, second), 384, *strong)


def test_grade_0_and_what_speaks_against_a_grade_show_nothing():
    gated = gated_maps((0, 2, 2, 9.0), (2, 11, 2, -9.0), (3, 11, 11, 1.0))
    assert holds(first_corner(gated, sure_of(0)), 384, *(11.5 * 1230 / 14,) * 2)
    negative = gated_maps((2, 11, 11, -9.0), (3, 11, 11, 1.0), (3, 2, 2, 0.5))
    assert holds(first_corner(negative, sure_of(0)), 384, *(11.5 * 1230 / 14,) * 2)


def test_the_choice_has_no_gradient_and_no_scale():
    gated = torch.rand(2, 5, 14, 14, requires_grad=True)
    corners = choose_boxes(gated, gated.sum(dim=(2, 3)), 1230, 384)
    assert not corners.requires_grad
    assert choose_boxes(gated * 1e-6, gated.sum(dim=(2, 3)), 1230, 384).equal(corners)


class Brightness(nn.Module):
    """A trunk whose map is the picture's brightness above black."""

    multiple = 1

    def __init__(self, trunk):
        super().__init__()
        self.channels, self.head = trunk.channels, trunk.head

    def forward(self, x):
        return F.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True) + 1, 14).expand(-1, self.channels, -1, -1)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_bright_blob_of_the_picture_is_in_box_1(stage):
    network = tiny().eval()
    network.stage = stage
    network.trunk = Brightness(network.trunk)
    nn.init.ones_(network.a_net.score.weight)
    nn.init.zeros_(network.a_net.gate[2].weight)
    x = torch.zeros(2, 3, PICTURE, PICTURE, dtype=torch.uint8)
    x[0, :, 390:420, 80:110] = 255
    x[1, :, 60:90, 300:330] = 255
    gated, boxes = network.attention(x)
    assert gated.shape == (2, 5, 14, 14)
    assert boxes.shape == (2, 4, 4)
    for picture, (row, column) in enumerate([(405, 95), (75, 315)]):
        top, left, bottom, right = boxes[picture, 0].tolist()
        assert top < row < bottom and left < column < right
        assert bottom - top == right - left == (PATCH if stage == 2 else 70)


def test_there_is_no_attention_without_a_net():
    network = tiny()
    network.stage = 0
    with pytest.raises(SettingError, match="at stage 0 there is no attention; expected stage 1 or 2"):
        network.attention(pictures())


# --- what is seen there ---


@pytest.mark.parametrize(("size", "out"), [(1230, 492), (560, 224), (600, 300), (101, 40)])
def test_area_resize_is_opencvs(size, out):
    x = np.random.default_rng(0).random((size, size, 3), dtype=np.float32)
    theirs = cv2.resize(x, (out, out), interpolation=cv2.INTER_AREA)
    ours = area_resize(torch.from_numpy(x).permute(2, 0, 1)[None], out)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_crop_is_slicing():
    x, corners = torch.rand(2, 3, 50, 50), torch.tensor([[[0, 30], [40, 3]], [[7, 8], [20, 40]]])
    patches = crop(x, corners, 10)
    assert patches.shape == (2, 2, 3, 10, 10)
    for picture in range(2):
        for number, (top, left) in enumerate(corners[picture].tolist()):
            assert patches[picture, number].equal(x[picture, :, top : top + 10, left : left + 10])


def test_c_net_takes_the_maximum_in_any_order():
    c_net = tiny().c_net.eval()
    patches, whole = torch.randn(2, 4, 3, PATCH, PATCH), torch.randn(2, 96)
    with torch.no_grad():
        torch.testing.assert_close(c_net(patches[:, [2, 0, 3, 1]], whole), c_net(patches, whole))
        each = torch.stack([c_net.features(patches[:, number : number + 1]) for number in range(4)])
        torch.testing.assert_close(c_net.features(patches), each.max(dim=0).values)
        assert not torch.allclose(c_net(patches, whole), c_net(patches, whole + 1))


def test_c_net_sees_detail_that_m_net_loses():
    """Of every five columns the area resizing adds the first two: what is added to one and taken from the other."""
    network, x = tiny().eval(), pictures() // 2 + 50
    nn.init.normal_(network.a_net.score.weight, std=1.0)
    detailed = x.clone()
    detailed[..., 0::5] += 40
    detailed[..., 1::5] -= 40
    with torch.no_grad():
        plain, fine = network.parts(x), network.parts(detailed)
        for part in "ma":
            torch.testing.assert_close(plain[part], fine[part], atol=1e-5, rtol=1e-4)
        assert network.attention(x)[1].equal(network.attention(detailed)[1])
        assert (plain["c"] - fine["c"]).abs().max() > 1e-3


def test_c_net_sees_nothing_outside_its_boxes_but_through_m_net():
    network, x = tiny().eval(), pictures(batch=1)
    seen = []
    network.c_net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(x)
        boxes = network.attention(x)[1][0].tolist()
    for patch, (top, left, bottom, right) in zip(seen[0][0], boxes, strict=True):
        assert patch.equal(network.normalise(x)[0, :, top:bottom, left:right])


# --- parts together ---


def test_outputs_combine_the_parts():
    x = pictures()
    with torch.no_grad():
        for network, names, count in ((tiny("m"), "m", 1), (tiny("ma"), "ma", 2), (tiny(average=True), "mac", 3)):
            parts = network.eval().parts(x)
            assert "".join(parts) == names
            torch.testing.assert_close(network(x), sum(parts.values()) / count)
        network = tiny().eval()
        torch.testing.assert_close(network(x), network.parts(x)["c"])


def test_a_stage_of_the_whole_is_the_network_of_fewer_parts():
    whole, x = tiny().eval(), pictures(WHOLE)
    for stage, parts in ((0, "m"), (1, "ma")):
        whole.stage = stage
        fewer = tiny(parts).eval()
        fewer.load_state_dict({name: each for name, each in whole.state_dict().items() if name in fewer.state_dict()})
        with torch.no_grad():
            assert fewer(x).equal(whole(x))


def test_the_whole_picture_is_the_area_mean_of_the_large_one():
    network, x = tiny().eval(), pictures()
    with torch.no_grad():
        expected = network.maps(x)
        network.stage = 1
        small = area_resize(x.float(), WHOLE)
        for ours, theirs in zip(network.maps(small), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_settings_rebuild_the_network():
    network, x = tiny(average=True, boxes=2).eval(), pictures()
    again = ZoomInNet.from_dict(json.loads(json.dumps(network.settings))).build(5).eval()
    assert again.settings == network.settings
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert again(x).equal(network(x))
        assert again.attention(x)[1].shape == (2, 2, 4)


@pytest.mark.parametrize("parts", PARTS)
def test_a_batch_of_two_is_two_batches_of_one(parts):
    network = tiny(parts)
    x = pictures(size_of(network))
    network(x)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]), atol=1e-5, rtol=1e-5)


def test_first_weights_fill_both_trunks(tmp_path):
    first = tiny("m").trunk
    save_file(first.named_state(), tmp_path / "first.safetensors")
    torch.manual_seed(1)
    network = ZoomInNet(**TINY, weights=str(tmp_path / "first.safetensors")).build(5)
    for trunk in (network.trunk, network.c_net.trunk):
        assert trunk.conv2d_1a.conv.weight.equal(first.conv2d_1a.conv.weight)
    assert network.settings["weights"] == ""


def test_a_timm_trunk():
    torch.manual_seed(0)
    network = ZoomInNet(trunk="timm:resnet10t", gate=16, hidden=16, patch=96).build(5)
    assert {name: each.shape for name, each in network.parts(pictures(300)).items()} == dict.fromkeys("mac", (2, 5))
    assert network.eval().attention(pictures(300))[0].shape == (2, 5, 4, 4)


# --- stages ---

NEW = {0: ("trunk", "classif"), 1: ("a_net",), 2: ("c_net",)}
CARRIED = {0: (), 1: ("trunk", "classif"), 2: ()}


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_only_what_learns_at_a_stage_gets_a_gradient(stage):
    network = tiny(dropout=0.0, patch_dropout=0.0).train()
    network.stage = stage
    grades = torch.tensor([0, 4, 2])
    losses = [F.cross_entropy(each, grades) for each in network.parts(pictures(size_of(network), 3)).values()]
    assert len(losses) == stage + 1
    sum(losses).backward()
    for name, each in network.named_parameters():
        if name.split(".")[0] in NEW[stage] + CARRIED[stage]:
            assert each.grad is not None and each.grad.isfinite().all(), name
            # The softmax over the positions takes no bias.
            assert each.grad.any() or "gate.2.bias" in name, name
        else:
            assert each.grad is None, name


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_parameters_of_a_stage(stage):
    network = tiny()
    network.stage = stage
    names = {id(each): name.split(".")[0] for name, each in network.named_parameters()}
    groups = network.trained()
    for name, expected in (("new", NEW), ("carried", CARRIED)):
        assert {names[id(each)] for each in groups[name]} == set(expected[stage])
        count = sum(len(list(getattr(network, part).parameters())) for part in expected[stage])
        assert len(groups[name]) == count


def test_both_logits_reach_the_trunk():
    network = tiny("ma")
    for part in "ma":
        network.zero_grad()
        network.parts(pictures(WHOLE))[part][:, 1].sum().backward()
        assert network.trunk.conv2d_1a.conv.weight.grad.any()


def test_what_does_not_learn_keeps_still():
    network = tiny()
    kept = {name: each.clone() for name, each in network.state_dict().items() if not name.startswith("c_net")}
    network.train()
    one = network.parts(pictures())
    two = network.parts(pictures())
    assert network.training and network.c_net.training and network.c_net.dropout.training
    assert all(network.state_dict()[name].equal(each) for name, each in kept.items())
    assert one["m"].equal(two["m"]) and one["a"].equal(two["a"])
    assert not one["c"].equal(two["c"])
    network.stage = 1
    assert network.trunk.training and network.a_net.training and network.dropout.training and not network.c_net.training
    assert not any(each.training for each in network.eval().modules())


def test_c_net_starts_from_m_net():
    network = tiny()

    def same():
        theirs = network.c_net.trunk.state_dict()
        return all(each.equal(theirs[name]) for name, each in network.trunk.state_dict().items())

    assert same()
    network.stage = 0
    network.train()(pictures(WHOLE))  # moves M-Net's batch norms
    assert not same()
    network.start_c_net()
    assert same()
    ours, theirs = network.trunk.parameters(), network.c_net.trunk.parameters()
    assert not {id(each) for each in ours} & {id(each) for each in theirs}


# --- refusals ---


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"parts": "mc"}, r"network\.parts: got 'mc'; expected a known one. Did you mean \"mac\""),
        ({"parts": 3}, r"network\.parts: got 3"),
        ({"width": 0}, r"network\.width: got 0; expected a number above 0"),
        ({"repeats": (1, 1)}, r"network\.repeats: got \(1, 1\)"),
        ({"trunk": "resnet50"}, r"network\.trunk: unknown trunk"),
        ({"zoom": 1}, r"network\.zoom: got 1; expected a number above 1 and at most 8"),
        ({"zoom": float("nan")}, r"network\.zoom: got nan"),
        ({"patch": 0}, r"network\.patch: got 0; expected a whole number, 1\.\.8192"),
        ({"boxes": 17}, r"network\.boxes: got 17; expected a whole number, 1\.\.16"),
        ({"gate": True}, r"network\.gate: got True"),
        ({"hidden": 1.5}, r"network\.hidden: got 1\.5"),
        ({"patch_dropout": 1}, r"network\.patch_dropout: got 1; expected a probability"),
        ({"average": 1}, r"network\.average: got 1; expected true or false"),
        ({"average": True, "parts": "ma"}, r"network\.average: got True; expected false, or parts = \"mac\""),
    ],
)
def test_settings_that_mean_nothing(settings, match):
    with pytest.raises(SettingError, match=match):
        ZoomInNet(**settings)


def test_an_unknown_setting():
    with pytest.raises(SettingError, match=r'unknown setting "patches"\. Did you mean "patch"\?'):
        ZoomInNet.from_dict({"patches": 4})


@pytest.mark.parametrize("outputs", [1, 6, True])
def test_other_than_five_outputs(outputs):
    with pytest.raises(SettingError, match=rf"network\.outputs: got {outputs}; expected 5: A-Net has one attention"):
        ZoomInNet(**TINY).build(outputs)


def test_cells():
    with pytest.raises(SettingError, match=r"network\.cells: got 1; expected 0: only M2CNN has cells"):
        ZoomInNet(**TINY).build(5, 1)


def test_a_patch_that_the_trunk_cannot_take():
    with pytest.raises(SettingError, match=r"network\.patch: got 106 px; expected at least 107 px for this trunk"):
        tiny(patch=106)
    assert isinstance(tiny(patch=107).c_net, PatchNet)


@pytest.mark.parametrize(("parts", "stage"), [("m", 1), ("ma", 2), ("mac", 3), ("mac", -1), ("mac", True)])
def test_a_stage_without_its_part(parts, stage):
    network = tiny(parts)
    with pytest.raises(SettingError, match=rf"stage: got {stage}; expected 0\.\.{len(parts) - 1} with these parts"):
        network.stage = stage


def test_settings_need_no_torch():
    code = "import sys; sys.modules['torch'] = None; from m2cnn.models.zoom_in_net_settings import ZoomInNet; "
    subprocess.run([sys.executable, "-c", code + "ZoomInNet(parts='ma').to_dict()"], check=True)


# --- ONNX ---


@pytest.mark.parametrize("parts", ["ma", "mac"])
def test_onnx_says_the_same(parts, tmp_path):
    network = tiny(parts)
    size = size_of(network)
    with torch.no_grad():
        for stage in range(network.last_stage + 1):  # batch norms meet the pictures
            network.stage = stage
            network.train()(pictures(size_of(network), 3))
    nn.init.normal_(network.eval().classif.weight, std=0.5)
    nn.init.normal_(network.a_net.score.weight, std=0.5)
    export_onnx(network, size, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        x = pictures(size, batch)
        with torch.no_grad():
            ours = network(x).numpy()
        assert np.abs(session.run(None, {"pictures": x.numpy()})[0] - ours).max() < 1e-4 * max(1, np.abs(ours).max())
