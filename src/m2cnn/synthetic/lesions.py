"""Which lesions a grade shows, by the definitions of the ICDR scale (Wilkinson et al., Ophthalmology 2003;110:1677)."""

from __future__ import annotations

import numpy as np

from m2cnn.synthetic.anatomy import Anatomy
from m2cnn.synthetic.growths import irma, new_vessels, preretinal, venous_beading
from m2cnn.synthetic.spots import QUADRANTS, Lesion, cotton_wool, exudates, haemorrhages, microaneurysms
from m2cnn.synthetic.view import View


def plan_lesions(grade: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Draw the lesions of a grade 0..4 into the visible field."""
    if grade == 0:
        return ()
    if grade == 1:
        return microaneurysms(rng.integers(4, 13), anatomy, view, rng)
    if grade == 2:
        return _moderate(anatomy, view, rng)
    if grade == 3:
        return _severe(anatomy, view, rng)
    background = _moderate(anatomy, view, rng) if rng.random() < 0.65 else _severe(anatomy, view, rng)
    return background + _proliferation(anatomy, view, rng)


def plan_beyond(
    planned: tuple[Lesion, ...], anatomy: Anatomy, views: tuple[View, View], rng: np.random.Generator
) -> tuple[Lesion, ...]:
    """Microaneurysms and haemorrhages that only the second of two views shows, as dense there as in the first.

    Milder or equal in kind to what the first view shows, so the eye's grade stays.
    """
    first, second = views
    dots, bleedings = (sum(one.kind == kind for one in planned) for kind in ("microaneurysm", "haemorrhage"))
    more = microaneurysms(dots, anatomy, second, rng)
    if bleedings:
        more += haemorrhages(np.full(QUADRANTS, bleedings // QUADRANTS), anatomy, second, rng)
    edge = -0.05 * first.scale  # what touches the first view's edge would show there
    return tuple(one for one in more if not first.inside(first.pixels(one.outline), edge).any())


def _moderate(anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """More than microaneurysms, less than 4-2-1: 2 to 5 haemorrhages in each quadrant, exudates, cotton-wool spots."""
    return (
        microaneurysms(rng.integers(6, 30), anatomy, view, rng)
        + haemorrhages(rng.integers(2, 6, QUADRANTS), anatomy, view, rng)
        + exudates(rng.integers(1, 5), anatomy, view, rng)
        + cotton_wool(rng.integers(0, 3), anatomy, view, rng)
    )


def _severe(anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """4-2-1: mostly by over 20 haemorrhages in each quadrant; else by IRMA, with 13 to 19; often beading besides."""
    many, beaded = rng.random(2) < (0.75, 0.45)
    counts = rng.integers(21, 27, QUADRANTS) if many else rng.integers(13, 20, QUADRANTS)
    lesions = (
        microaneurysms(rng.integers(20, 70), anatomy, view, rng)
        + haemorrhages(counts, anatomy, view, rng)
        + exudates(rng.integers(1, 5), anatomy, view, rng)
        + cotton_wool(rng.integers(1, 5), anatomy, view, rng)
    )
    if beaded:
        lesions += venous_beading(anatomy, view, rng)
    if not many or rng.random() < 0.35:
        lesions += irma(rng.integers(1, 4), anatomy, view, rng)
    return lesions


def _proliferation(anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """New vessels (at the disc or elsewhere), a pre-retinal haemorrhage, or both."""
    vessels, bleeding = (True, True) if rng.random() < 0.5 else rng.permutation([True, False])
    lesions = new_vessels(anatomy, view, rng) if vessels else ()
    return lesions + (preretinal(anatomy, view, rng) if bleeding else ())
