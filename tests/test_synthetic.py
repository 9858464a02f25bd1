"""The renderer: same bytes for a seed, nothing but lesions shows the grade, lesions obey the ICDR definitions."""

import hashlib
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest

from m2cnn.synthetic import CAMERAS, NONE, render
from m2cnn.synthetic.anatomy import draw_anatomy, draw_style
from m2cnn.synthetic.camera import draw_look, draw_view
from m2cnn.synthetic.growths import venous_beading
from m2cnn.synthetic.paint import canvas, coverage, fill
from m2cnn.synthetic.view import View

UM = 1 / 1600
SIZE = 256


def digest(picture):
    return hashlib.sha256(picture.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def graded():
    """Eight photographs of each grade, and the same without lesions."""
    pairs = {}
    for grade in range(5):
        for patient in range(8):
            eye = ("left", "right")[patient % 2]
            pairs[grade, patient] = [
                render(3, grade, eye=eye, size=SIZE, patient=patient, lesions=lesions) for lesions in (True, False)
            ]
    return pairs


# The same seed


def test_a_seed_gives_the_same_bytes_in_another_process():
    code = (
        "import hashlib; from m2cnn.synthetic import render;"
        "print(hashlib.sha256(render(7, 4, eye='right', size=160, patient=2).image.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == digest(render(7, 4, eye="right", size=160, patient=2).image)


def test_seed_patient_and_eye_each_change_the_photograph():
    pictures = [
        render(1, 0, size=96),
        render(2, 0, size=96),
        render(1, 0, size=96, patient=1),
        render(1, 0, size=96, eye="right"),
    ]
    assert len({digest(one.image) for one in pictures}) == 4


def test_without_lesions_every_grade_gives_the_same_bytes():
    pictures = [render(5, grade, size=160, lesions=False) for grade in range(5)]
    assert len({digest(one.image) for one in pictures}) == 1
    assert all(set(one.masks) == {"disc"} | {mark.kind for mark in one.marks} for one in pictures)
    assert not any(one.lesions for one in pictures)
    assert [one.grade for one in pictures] == [0, 1, 2, 3, 4]


def test_grade_0_is_the_photograph_without_lesions(graded):
    for patient in range(8):
        assert np.array_equal(graded[0, patient][0].image, graded[0, patient][1].image)


def test_anatomy_and_camera_never_see_the_grade(graded):
    for patient in range(8):
        places = {(one.disc, one.fovea) for (_, p), (one, _) in graded.items() if p == patient}
        assert len(places) == 1


def test_another_size_shows_the_same_eye():
    large, small = render(4, 3, size=512), render(4, 3, size=256)
    assert [one.kind for one in large.lesions] == [one.kind for one in small.lesions]
    assert np.allclose(np.array(large.disc) / 512, np.array(small.disc) / 256, atol=0.003)
    reduced = cv2.resize(large.image, (256, 256), interpolation=cv2.INTER_AREA).astype(float)
    assert np.corrcoef(reduced.ravel(), small.image.astype(float).ravel())[0, 1] > 0.99


# The lesions


def icdr(rendered):
    """The grade by the definitions, from the lesions of a photograph: the second author of plan_lesions."""
    kinds = Counter(lesion.kind for lesion in rendered.lesions)
    if kinds["neovascularisation"] or kinds["preretinal_haemorrhage"]:
        return 4
    if kinds["irma"] or min(by_quadrant(rendered)) > 20:
        return 3
    if set(kinds) - {"microaneurysm"}:
        return 2
    return 1 if kinds else 0


def by_quadrant(rendered):
    """Haemorrhages of the field's four quadrants, found again in the mask."""
    lit = np.flatnonzero(rendered.image.max(2).max(0) > 25), np.flatnonzero(rendered.image.max(2).max(1) > 25)
    middle = [(line[0] + line[-1]) / 2 for line in lit]
    mask = rendered.masks.get("haemorrhage", np.zeros((2, 2), bool)).astype(np.uint8)
    places = cv2.connectedComponentsWithStats(mask, connectivity=4)[3][1:]
    right, below = places[:, 0] > middle[0], places[:, 1] > middle[1]
    return [int(((right == x) & (below == y)).sum()) for x in (False, True) for y in (False, True)]


def test_lesions_give_back_the_grade(graded):
    assert {key: icdr(one) for key, (one, _) in graded.items()} == {key: key[0] for key in graded}


def test_moderate_stays_below_four_two_one(graded):
    for patient in range(8):
        kinds = {lesion.kind for lesion in graded[2, patient][0].lesions}
        assert kinds <= {"microaneurysm", "haemorrhage", "hard_exudate", "cotton_wool"}
        assert max(by_quadrant(graded[2, patient][0])) <= 6


def test_severe_has_more_than_20_haemorrhages_in_every_quadrant_or_irma():
    rules = Counter()
    for patient in range(16):
        one = render(3, 3, size=448, patient=patient)
        many, irma = min(by_quadrant(one)) > 20, "irma" in one.masks
        assert many or irma
        rules[many] += 1
    assert min(rules[True], rules[False]) >= 1


def test_every_kind_of_lesion_is_drawn_and_has_its_mask():
    kinds = set()
    for patient in range(12):
        for grade in (3, 4):
            one = render(3, grade, size=SIZE, patient=patient, nuisances=NONE)
            assert {lesion.kind for lesion in one.lesions} | {"disc"} == set(one.masks)
            kinds |= {kind for kind, mask in one.masks.items() if mask.any()}
    assert kinds == {
        "disc", "microaneurysm", "haemorrhage", "hard_exudate", "cotton_wool", "venous_beading", "irma",
        "neovascularisation", "preretinal_haemorrhage",
    }  # fmt: skip


def test_masks_say_where_the_picture_changed(graded):
    for (grade, _), (one, plain) in graded.items():
        union = (
            np.any([mask for kind, mask in one.masks.items() if kind != "disc"], 0) if grade else np.zeros((SIZE,) * 2)
        )
        near = cv2.dilate(union.astype(np.uint8), np.ones((27, 27), np.uint8)) > 0  # cotton wool is soft
        changed = (one.image != plain.image).any(2)
        assert not (changed & ~near).any()
        if grade > 1:
            assert changed[union].mean() > 0.8


@pytest.mark.parametrize(
    ("kind", "darker"),
    [("haemorrhage", True), ("preretinal_haemorrhage", True), ("hard_exudate", False), ("cotton_wool", False)],
)
def test_blood_is_darker_and_deposits_are_brighter(graded, kind, darker):
    pairs = [pair for pair in graded.values() if pair[0].masks.get(kind, np.zeros(1)).sum() > 30]
    assert len(pairs) > 3
    signs = []
    for one, plain in pairs:
        other = np.any([mask for name, mask in one.masks.items() if name not in (kind, "disc")], 0)
        place = one.masks[kind] & ~other & ~one.masks["disc"]
        signs.append((plain.image[place, 1].mean() > one.image[place, 1].mean() + 3) == darker)
    assert np.mean(signs) > 0.85


def test_microaneurysms_are_plain_at_720_and_lost_at_224():
    """The dip in green that a microaneurysm makes, against the grain of the picture around it."""
    contrast = {720: [], 224: []}
    for patient in range(6):
        one, plain = (render(9, 1, size=720, patient=patient, lesions=lesions) for lesions in (True, False))
        dots = cv2.connectedComponentsWithStats(one.masks["microaneurysm"].astype(np.uint8))[3][1:]
        for size in contrast:
            with_, without = (
                cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)[..., 1].astype(np.float32)
                for picture in (one.image, plain.image)
            )
            # What differs from its 5 x 5 neighbourhood: where a dot would be looked for.
            grain = without - cv2.blur(without, (5, 5))
            for x, y in (dots + 0.5) * size / 720:
                rows, columns = (slice(int(v) - 2, int(v) + 3) for v in (y, x))
                contrast[size].append(float((without - with_)[rows, columns].max() / grain[rows, columns].std()))
    assert np.median(contrast[720]) > 5
    assert np.median(contrast[224]) < 0.5 * np.median(contrast[720])


def test_sizes_are_relative_to_the_disc(graded):
    widths = {"microaneurysm": [], "haemorrhage": []}
    for one, _ in graded.values():
        for lesion in one.lesions:
            if lesion.kind in widths:
                widths[lesion.kind].append(np.ptp(lesion.outline, axis=0).max() / UM)
    assert 22 < min(widths["microaneurysm"]) < max(widths["microaneurysm"]) < 45
    assert 100 < min(widths["haemorrhage"]) < max(widths["haemorrhage"]) < 700
    whole = [one for one, _ in graded.values() if one.view.inside(np.array(one.disc[:2]), 1.1 * one.disc[2])]
    assert len(whole) > 0.8 * len(graded)
    ratios = [one.masks["disc"].sum() / (np.pi * one.disc[2] ** 2) for one in whole]
    assert all(0.9 < ratio < 1.12 for ratio in ratios)
    assert all(1 / 9.5 < 2 * one.disc[2] / SIZE < 1 / 5.5 for one, _ in graded.values())


def test_exudates_lie_around_the_fovea(graded):
    for one, _ in graded.values():
        fovea, scale = np.array(one.fovea), 2 * one.disc[2]
        places = np.argwhere(one.masks.get("hard_exudate", np.zeros((1, 1), bool)))[:, ::-1]
        away = np.hypot(*(places - fovea).T) / scale
        assert (away < 3).all()


def test_beading_needs_a_vein():
    rng = np.random.default_rng(0)
    style = draw_style(rng)
    anatomy = draw_anatomy(style, 0.0, rng)
    # A camera that looks where no vessel is.
    nowhere = View(100, (49.5, 49.5), 45, 45, 12.0, (90.0, 90.0), 0.0, 1)
    assert venous_beading(anatomy, nowhere, rng) == ()


# The healthy eye


def test_the_disc_is_nasal_and_bright_and_the_fovea_dark(graded):
    bright, dark = [], []
    for (grade, patient), (_, plain) in graded.items():
        if grade:
            continue
        assert (plain.disc[0] < plain.fovea[0]) == (plain.eye == "left"), patient
        grey = cv2.GaussianBlur(plain.image[..., 1], (0, 0), 2).astype(float)
        x, y = (round(v) for v in plain.fovea)
        ring = grey[y - 25 : y + 26, x - 25 : x + 26]
        dark.append(grey[y, x] < np.median(ring))
        bright.append(grey[plain.masks["disc"]].mean() > np.median(grey[grey > 15]))
    assert np.mean(dark) > 0.8
    assert np.mean(bright) == 1


def test_outside_the_field_is_black_and_inside_is_not():
    shapes = set()
    for patient in range(12):
        picture = render(6, 0, size=128, patient=patient).image
        lit = picture.max(2) > 12
        assert picture[:4, :4].max() == 0
        assert picture[-4:, -4:].max() == 0
        assert 0.5 < lit.mean() < np.pi / 4 + 0.02
        high, wide = (np.ptp(np.flatnonzero(lit.any(axis))) for axis in (1, 0))
        shapes.add(high < 0.98 * wide)
    assert shapes == {True, False}  # cut at top and bottom, and full


def test_vessels_thin_towards_their_ends_and_leave_the_fovea_free():
    rng = np.random.default_rng(1)
    anatomy = draw_anatomy(draw_style(rng), 0.5, rng)
    assert len(anatomy.tree) == 4
    for branches in anatomy.tree:
        assert (np.diff(branches.radii, axis=1) <= 1e-12).all()
        assert (np.hypot(*np.moveaxis(branches.points - anatomy.fovea, -1, 0)) > 0.25).all()
    trunks = anatomy.tree[0]
    arcades = slice(0, 4)
    assert trunks.radii[arcades, 0][trunks.vein[arcades]].min() > trunks.radii[arcades, 0][~trunks.vein[arcades]].max()


def test_view_maps_there_and_back():
    rng = np.random.default_rng(2)
    view = draw_view(draw_look(CAMERAS["eyepacs"], rng), "right", 300, np.array([2.6, 0.2]), rng)
    points = rng.uniform(-3, 3, (20, 2))
    assert np.allclose(view.retina(view.pixels(points)), points)
    assert view.pixels(np.array([2.6, 0.2]))[0] < view.pixels(np.zeros(2))[0]


@pytest.mark.parametrize("radius", [0.01, 0.04, 0.2, 0.5])
def test_painted_blood_equals_the_area_at_any_size(radius):
    view = View(200, (99.5, 99.5), 90, 90, 25.0, (0.0, 0.0), 0.0, 1)
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    outline = radius * np.stack([np.cos(turn), np.sin(turn)], -1)[None]
    fine = canvas(view)
    fill(fine, view, outline, np.ones(1))
    assert coverage(fine).sum() == pytest.approx(np.pi * (radius * 25) ** 2, rel=0.25)
