"""The healthy eye: pigmentation, disc, cup, fovea and vessels, drawn without ever seeing the grade."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2cnn.synthetic.vessels import Branches, grow_tree


@dataclass(frozen=True)
class Style:
    """What the two eyes of a patient share. Lengths in DD.

    mottling, tessellation, macula, sheen, reflex: strengths, about 0..1.
    disc_pallor: how pale the disc is.  crescent: how much bare sclera shows at the disc's temporal edge.
    bend: how far the arcades bend round the macula.
    """

    mottling: float
    tessellation: float
    sheen: float
    reflex: float
    macula: float
    fovea: tuple[float, float]
    disc: tuple[float, float]
    cup: float
    disc_pallor: float
    crescent: float
    opening: float
    bend: float
    tortuosity: float
    vessel_width: float
    blood: float


@dataclass(frozen=True)
class Anatomy:
    """One eye. fovea (2,), disc half-axes (2,) and cup in DD, disc's centre at (0, 0).

    tessellation, sheen, reflex: as Style has them, changed by age.  reflex_at (2,) DD from the fovea.
    artery: how wide arteries are beside the young.  shine: how bright the stripe on them is.
    flush: how red the whole retina is, as a density of blood.  tree: generations of vessels.
    """

    style: Style
    fovea: np.ndarray
    disc: np.ndarray
    cup: float
    cup_at: np.ndarray
    tessellation: float
    sheen: float
    reflex: float
    reflex_at: np.ndarray
    artery: float
    shine: float
    flush: float
    tree: list[Branches]


def draw_style(rng: np.random.Generator) -> Style:
    """A patient's eyes."""
    return Style(
        mottling=rng.uniform(0.5, 1.3),
        tessellation=rng.choice([0.0, 0.3, 1.0], p=[0.5, 0.3, 0.2]) * rng.uniform(0.5, 1.0),
        sheen=rng.uniform(0.0, 0.5),
        reflex=rng.uniform(-0.6, 1.0),
        macula=rng.uniform(0.7, 1.4),
        fovea=(rng.uniform(2.4, 2.9), rng.uniform(0.05, 0.4)),
        disc=(rng.uniform(0.44, 0.50), rng.uniform(0.49, 0.55)),
        cup=rng.uniform(0.3, 0.6),
        disc_pallor=rng.uniform(0.7, 0.95),
        crescent=rng.uniform(-0.5, 0.8),
        opening=rng.uniform(1.65, 2.35),
        bend=rng.uniform(0.0, 0.35),
        tortuosity=rng.uniform(0.10, 0.24),
        vessel_width=rng.uniform(0.85, 1.15),
        blood=rng.uniform(0.8, 1.2),
    )


def draw_anatomy(style: Style, ageing: float, rng: np.random.Generator) -> Anatomy:
    """One eye of a patient, aged by 0..1: the style with the small differences between two eyes, and its own vessels.

    With age the choroid shows through, nerve fibres and reflexes fade, arteries narrow and shine like copper.
    """
    fovea = np.array(style.fovea) + rng.normal(0, 0.05, 2)
    disc = np.array(style.disc) * rng.uniform(0.97, 1.03)
    cup = float(np.clip(style.cup + rng.normal(0, 0.03), 0.2, 0.7))
    cup_at = np.array([rng.uniform(0.0, 0.08), rng.uniform(-0.04, 0.04)])
    flush = float(np.clip(rng.normal(0.04, 0.06), -0.1, 0.2))
    reflex_at = rng.normal(0, 0.04, 2)
    young = 1 - ageing
    tree = grow_tree(fovea, style.opening + rng.normal(0, 0.06), style.bend, style.tortuosity, style.vessel_width, rng)
    return Anatomy(
        style=style,
        fovea=fovea,
        disc=disc,
        cup=cup,
        cup_at=cup_at,
        tessellation=min(1.3, style.tessellation + 0.7 * ageing),
        sheen=style.sheen * (0.3 + 0.7 * young),
        reflex=max(0.0, style.reflex) * young,
        reflex_at=reflex_at,
        artery=1 - 0.22 * ageing,
        shine=1 + 0.8 * ageing,
        flush=flush,
        tree=tree,
    )
