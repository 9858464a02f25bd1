"""Nuisances, cameras and fields: each changes the photograph, none knows the grade, and two fields show one eye."""

from dataclasses import fields, replace
from itertools import combinations

import cv2
import numpy as np
import pytest

from m2cnn.errors import SettingError
from m2cnn.quality import check_fundus
from m2cnn.synthetic import CAMERAS, NONE, Nuisances, parse_nuisances, render
from m2cnn.synthetic.cameras import draw_camera
from m2cnn.synthetic.nuisances import draw_condition

NAMES = [field.name for field in fields(Nuisances)]
MARKS = {"drusen", "laser_scar"}
ALWAYS = Nuisances(**dict.fromkeys(NAMES, 1.0))


def plain(patient, nuisances=NONE, grade=0, **options):
    return render(2, grade, patient=patient, size=160, lesions=False, nuisances=nuisances, **options)


# Nuisances


@pytest.mark.parametrize("name", NAMES)
def test_each_nuisance_changes_the_photograph_and_never_sees_the_grade(name):
    wanted = replace(NONE, **{name: 1.0})
    for patient in range(3):
        with_, without = plain(patient, wanted), plain(patient)
        assert (with_.image != without.image).any()
        assert np.array_equal(with_.image, plain(patient, wanted, grade=4).image)


@pytest.mark.parametrize("name", NAMES)
def test_one_is_switched_without_another(name):
    """Everything that the eight others draw stays as it is: seen in the eye's parts that are kept in Rendered."""
    all_, others = plain(3, ALWAYS), plain(3, replace(ALWAYS, **{name: 0.0}))
    kept = MARKS - {name if name != "laser" else "laser_scar"}
    for kind in kept:
        mine, theirs = ([m.outline for m in one.marks if m.kind == kind] for one in (all_, others))
        if name != "off_centre":  # another aim shows others of the same marks
            assert len(mine) == len(theirs) > 0
            assert all(np.array_equal(*pair) for pair in zip(mine, theirs, strict=True))
    if name != "off_centre":
        assert all_.view == others.view


def test_without_nuisances_nothing_is_marked():
    assert all(not plain(patient).marks and set(plain(patient).masks) == {"disc"} for patient in range(5))


def test_each_comes_as_often_as_it_says_and_the_old_have_more():
    shares = Nuisances(ageing=0.4, drusen=0.2, opacity=0.3, laser=0.1)
    drawn = [draw_condition(shares, np.random.default_rng((0, n))) for n in range(3000)]
    for name in ("ageing", "drusen", "opacity", "laser"):
        strengths = np.array([getattr(one, name) for one in drawn])
        assert (strengths > 0).mean() == pytest.approx(getattr(shares, name), abs=0.03)
        assert 0.4 < strengths[strengths > 0].mean() < 0.6
    old = np.array([one.ageing > 0 for one in drawn])
    opaque = np.array([one.opacity > 0 for one in drawn])
    assert opaque[old].mean() > 2 * opaque[~old].mean()


def test_marks_never_enter_a_mask_of_lesions():
    marked = Nuisances(drusen=1.0, laser=1.0, off_centre=0.0)
    for patient in range(6):
        with_, without = (
            render(4, 4, patient=patient, size=256, nuisances=one)
            for one in (marked, replace(marked, drusen=0, laser=0))
        )
        assert {mark.kind for mark in with_.marks} <= {"drusen", "laser_scar", "laser_pigment"}
        assert set(with_.masks) - set(without.masks) == MARKS
        assert not {lesion.kind for lesion in with_.lesions} & MARKS
        for kind, mask in without.masks.items():
            assert np.array_equal(mask, with_.masks[kind]), kind


def test_marks_are_pale_and_lie_where_they_are_drawn():
    for patient in range(4):
        with_, without = (plain(patient, replace(NONE, drusen=share)) for share in (1.0, 0.0))
        mask = with_.masks["drusen"]
        assert mask.any()
        assert with_.image[mask, 1].mean() > without.image[mask, 1].mean() + 1
        near = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
        changed = np.abs(with_.image.astype(int) - without.image).max(2) > 2  # the faintest cover 3 % of a pixel
        assert not (changed & ~near).any()


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_lies_between_0_and_1(share):
    with pytest.raises(SettingError, match=r"Nuisances\(flare=\.\.\.\): .*; expected a share, 0\.\.1"):
        Nuisances(flare=share)


def test_nuisances_are_read_from_text():
    assert parse_nuisances(["laser=0", "flare=0.5"]) == Nuisances(laser=0.0, flare=0.5)
    with pytest.raises(SettingError, match=r'no nuisance "lasr".*Did you mean "laser"'):
        parse_nuisances(["lasr=1"])
    with pytest.raises(SettingError, match='"often" is no number'):
        parse_nuisances(["laser=often"])


# Cameras


@pytest.mark.parametrize("camera", CAMERAS)
def test_photographs_of_every_camera_are_accepted(camera):
    for patient in range(12):
        one = render(8, patient % 5, patient=patient, size=320, camera=camera)
        assert one.camera == camera
        assert check_fundus(one.image) == "", patient


def test_cameras_differ_in_colour_and_are_drawn_by_their_share():
    colours = {}
    for camera in CAMERAS:
        pictures = [plain(patient, camera=camera).image for patient in range(6)]
        colours[camera] = np.median([np.median(one[one.max(2) > 20], 0) for one in pictures], 0)
    assert colours["idrid"][2] < 0.6 * colours["eyepacs"][2]  # hardly any blue
    drawn = [draw_camera(tuple(CAMERAS), np.random.default_rng((1, n))).name for n in range(4000)]
    for name, camera in CAMERAS.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(camera.share, abs=0.025)
    assert len({render(1, 0, patient=patient, size=64).camera for patient in range(20)}) > 1
    assert {plain(patient, camera=("idrid", "handheld")).camera for patient in range(12)} == {"idrid", "handheld"}


def test_the_camera_changes_neither_eye_nor_lesions():
    """Lesions are planned in the camera's own field, so their places differ, but not the eye."""
    pictures = [render(1, 2, patient=4, size=128, camera=camera, nuisances=ALWAYS) for camera in CAMERAS]
    deposits = [{m.outline.tobytes() for m in one.marks if m.kind == "drusen"} for one in pictures]
    for one, other in combinations(deposits, 2):
        assert len(one & other) > 0.6 * min(len(one), len(other)) > 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"camera": "eyepac"}, 'Did you mean "eyepacs"'),
        ({"camera": ("idrid", "kowa")}, '"kowa"; expected a camera'),
        ({"camera": ()}, "no camera; expected one or several"),
        ({"field": 3}, r"field is 3; expected 1 \(macula\) or 2 \(disc\)\. Known: 1, 2"),
        ({"field": "1"}, "field is '1'.*Did you mean \"1\""),
        ({"eye": "lefft"}, 'Did you mean "left"'),
    ],
)
def test_unknown_cameras_and_fields_are_refused(options, message):
    with pytest.raises(SettingError, match=message):
        render(0, 0, size=96, **options)


# Fields


@pytest.fixture(scope="module")
def both_fields():
    """Photographs of both fields of twelve eyes, grades in turn."""
    return [
        [render(6, patient % 5, patient=patient, size=320, field=field, nuisances=NONE) for field in (1, 2)]
        for patient in range(15)
    ]


def test_field_2_has_the_disc_in_its_middle_and_field_1_the_macula(both_fields):
    for first, second in both_fields:
        away = [
            [np.hypot(*(np.array(place[:2]) - one.view.centre)) / one.view.radius for place in (one.disc, one.fovea)]
            for one in (first, second)
        ]
        assert away[0][1] < away[0][0] < 0.9
        assert away[1][0] < 0.25 < away[1][1]


def test_both_fields_show_the_same_lesions_where_they_overlap(both_fields):
    for first, second in both_fields:
        shown = [{(one.kind, one.outline.tobytes()) for one in picture.lesions} for picture in (first, second)]
        for here, there, other in ((first, second, shown[1]), (second, first, shown[0])):
            for lesion in here.lesions:
                if there.view.inside(there.view.pixels(lesion.outline)).any():
                    assert (lesion.kind, lesion.outline.tobytes()) in other


def test_masks_of_both_fields_agree(both_fields):
    agreed = []
    for first, second in both_fields:
        for kind in set(first.masks) & set(second.masks):
            places = np.argwhere(cv2.erode(first.masks[kind].astype(np.uint8), np.ones((3, 3), np.uint8)))[:, ::-1]
            there = second.view.pixels(first.view.retina(places))
            column, row = np.rint(there[second.view.inside(there, 3)]).astype(int).T
            agreed.extend(second.masks[kind][row, column])
    assert len(agreed) > 500
    assert np.mean(agreed) > 0.98


def test_the_second_field_shows_more_of_what_makes_the_grade_and_nothing_graver(both_fields):
    more = 0
    for first, second in both_fields:
        new = {one.outline.tobytes(): one.kind for one in second.lesions}
        for lesion in first.lesions:
            new.pop(lesion.outline.tobytes(), None)
        assert set(new.values()) <= {"microaneurysm", "haemorrhage"} & {one.kind for one in first.lesions}
        more += len(new)
        if first.grade == 0:
            assert not second.lesions
    assert more > 50


def test_both_fields_show_the_same_retina(both_fields):
    """The second photograph, brought to the first one's place, has the same structure."""
    likeness = []
    for first, second in both_fields:
        n = np.arange(0, 320, dtype=float)
        places = np.stack(np.meshgrid(n, n), -1)
        there = second.view.pixels(first.view.retina(places))
        seen = first.view.inside(places, 12) & second.view.inside(there, 12)
        moved = cv2.remap(second.image[..., 1], *(there[..., i].astype(np.float32) for i in (0, 1)), cv2.INTER_LINEAR)
        details = [
            (cv2.GaussianBlur(one, (0, 0), 1.5) - cv2.GaussianBlur(one, (0, 0), 8))[seen]
            for one in (np.float32(first.image[..., 1]), np.float32(moved))
        ]
        likeness.append(np.corrcoef(*details)[0, 1])
    assert min(likeness) > 0.8


def test_the_first_field_does_not_depend_on_the_second():
    assert np.array_equal(render(1, 3, size=128, field=1).image, render(1, 3, size=128).image)


def test_the_fields_of_an_eye_differ_and_never_see_the_grade():
    first, second = (plain(1, ALWAYS, field=field) for field in (1, 2))
    assert (first.image != second.image).any()
    assert np.array_equal(second.image, plain(1, ALWAYS, grade=3, field=2).image)
