"""One photograph from (seed, patient, eye, grade), and photographs of both eyes of many patients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from m2cnn.errors import SettingError
from m2cnn.grades import NUM_GRADES
from m2cnn.synthetic import scene
from m2cnn.synthetic.anatomy import draw_anatomy, draw_style
from m2cnn.synthetic.camera import draw_look, draw_view, expose, jitter_look, light
from m2cnn.synthetic.lesions import plan_lesions
from m2cnn.synthetic.spots import Lesion

EYES = ("left", "right")
SMALLEST = 64  # px; below, no vessel is left
# One random stream per purpose: only the last one ever sees the grade.
_PATIENT, _EYE, _TEXTURE, _NOISE, _GRADES, _LESIONS = range(6)


@dataclass(frozen=True)
class Rendered:
    """A rendered photograph.

    image: (S, S, 3) uint8 RGB, the full camera frame.  masks: (S, S) bool for each kind of lesion present, and "disc".
    disc: (x, y, radius) and fovea: (x, y) in px; the fovea may lie outside the visible field.
    lesions: the drawn lesions, one entry each, outlines in disc diameters.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    grade: int
    eye: str
    disc: tuple[float, float, float]
    fovea: tuple[float, float]
    lesions: tuple[Lesion, ...] = ()


def render(
    seed: int, grade: int, *, eye: str = "left", size: int = 720, lesions: bool = True, patient: int = 0
) -> Rendered:
    """Render a colour fundus photograph of `size` x `size` px.

    Everything but the lesions depends on (seed, patient, eye) alone: without lesions, all grades give the same bytes.
    Raises SettingError for a grade outside 0..4, an unknown eye, a negative seed or patient, or a size below 64.
    """
    _check(seed, grade, eye, size, patient)
    key = (seed, patient, EYES.index(eye))
    shared, own = _stream(seed, patient, _PATIENT), _stream(*key, _EYE)
    style, look = draw_style(shared), jitter_look(draw_look(shared), own)
    anatomy = draw_anatomy(style, own)
    view = draw_view(look, eye, size, anatomy.fovea, own)
    planned = plan_lesions(grade, anatomy, view, _stream(*key, _LESIONS, grade)) if lesions else ()
    amounts = scene.lesion_amounts(planned, view)

    texture = _stream(*key, _TEXTURE)
    picture = scene.tissue(anatomy, view, texture)
    scene.add_disc(picture, anatomy, view)
    blood = scene.vessel_blood(anatomy, view)
    scene.add_lesions(picture, blood, amounts, view, over=False)
    scene.absorb(picture, blood)
    scene.add_lesions(picture, blood, amounts, view, over=True)
    picture += light(look, view, texture)
    image = expose(picture, look, view, _stream(*key, _NOISE))
    x, y = view.pixels(np.zeros(2))
    radius = float(anatomy.disc.mean() * view.scale)
    fovea = tuple(float(v) for v in view.pixels(anatomy.fovea))
    return Rendered(
        image, scene.masks(amounts, anatomy, view), grade, eye, (float(x), float(y), radius), fovea, planned
    )


def _check(seed: int, grade: int, eye: str, size: int, patient: int) -> None:
    if grade not in range(NUM_GRADES):
        raise SettingError("render(grade=...)", f"grade is {grade!r}", f"0..{NUM_GRADES - 1} (ICDR)")
    if eye not in EYES:
        raise SettingError("render(eye=...)", f"eye is {eye!r}", '"left" or "right"')
    if size < SMALLEST:
        raise SettingError("render(size=...)", f"size is {size}", f"{SMALLEST} px or more")
    if seed < 0 or patient < 0:
        raise SettingError("render(seed=..., patient=...)", f"({seed}, {patient})", "whole numbers from 0")


def _stream(*key: int) -> np.random.Generator:
    # The length keeps keys of different lengths apart: numpy pads seeds with zeros.
    return np.random.default_rng((len(key), *key))


def render_patients(
    n: int, seed: int, size: int = 720, *, lesions: bool = True, grades: tuple[float, ...] = (1, 1, 1, 1, 1)
) -> Iterator[tuple[int, str, int, Rendered]]:
    """Both eyes of patients 0..n-1: (patient, eye, grade, Rendered). grades: relative frequencies of grades 0..4."""
    for patient in range(n):
        for eye, grade in zip(EYES, draw_grades(seed, patient, grades), strict=True):
            yield patient, eye, grade, render(seed, grade, eye=eye, size=size, lesions=lesions, patient=patient)


def draw_grades(seed: int, patient: int, grades: tuple[float, ...]) -> tuple[int, int]:
    """The grades of a patient's left and right eye: equal for 3 of 4 patients, else mostly one apart.

    The frequencies hold for either eye: the one drawn first is left or right by chance, the other differs by chance.
    """
    rng = _stream(seed, patient, _GRADES)
    weights = np.asarray(grades, float)
    if weights.shape != (NUM_GRADES,) or (weights < 0).any() or weights.sum() <= 0:
        raise SettingError("grades", f"{grades!r}", f"{NUM_GRADES} frequencies from 0, not all 0")
    first = int(rng.choice(NUM_GRADES, p=weights / weights.sum()))
    apart = int(rng.choice([0, 1, 2], p=[0.75, 0.2, 0.05])) * int(rng.choice([-1, 1]))
    second = first + apart
    if not 0 <= second < NUM_GRADES or weights[second] == 0:
        second = first
    return (first, second) if rng.random() < 0.5 else (second, first)
