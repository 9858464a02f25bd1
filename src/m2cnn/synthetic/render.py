"""One photograph from (seed, patient, eye, grade), and photographs of both eyes of many patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from m2cnn.errors import SettingError, did_you_mean
from m2cnn.grades import NUM_GRADES
from m2cnn.synthetic import artefacts, scene
from m2cnn.synthetic.anatomy import Anatomy, draw_anatomy, draw_style
from m2cnn.synthetic.camera import (
    Look,
    aim_of,
    draw_look,
    draw_pigment,
    draw_view,
    expose,
    jitter_look,
    light,
    retina_colour,
)
from m2cnn.synthetic.cameras import CAMERAS, draw_camera
from m2cnn.synthetic.lesions import plan_beyond, plan_lesions
from m2cnn.synthetic.marks import drusen, laser_scars
from m2cnn.synthetic.media import Media, draw_media, scatter_light, through, veil
from m2cnn.synthetic.nuisances import Nuisances, draw_condition
from m2cnn.synthetic.spots import Lesion, visible
from m2cnn.synthetic.tissue import tissue
from m2cnn.synthetic.view import View

EYES = ("left", "right")
FIELDS = (1, 2)  # of the two-field protocols: near the macula, and at the disc
SMALLEST, LARGEST = 64, 8192  # px; below, no vessel is left; above, memory
DEFAULT = Nuisances()


class _Streams:
    """One stream of random numbers for each purpose. Only `lesions` and `beyond` ever see the grade."""

    SHARED = ("grades", "style", "camera", "look", "condition", "pigment", "dust")  # by both eyes
    OWN = ("anatomy", "texture", "drusen", "laser", "media")  # by both fields of an eye
    PHOTOGRAPH = ("aim", "jitter", "off_centre", "light", "veil", "flare", "eyelash", "noise")
    GRADED = ("lesions", "beyond")
    NAMES = SHARED + OWN + PHOTOGRAPH + GRADED

    def __init__(self, seed: int, patient: int, eye: str = "left", field: int = 1, grade: int = 0):
        self.key = (seed, patient)
        self.more = dict.fromkeys(self.OWN, (EYES.index(eye),))
        self.more |= dict.fromkeys(self.PHOTOGRAPH, (EYES.index(eye), field))
        self.more |= dict.fromkeys(self.GRADED, (EYES.index(eye), grade))

    def __getitem__(self, name: str) -> np.random.Generator:
        key = (self.NAMES.index(name), *self.key, *self.more.get(name, ()))
        # The length keeps keys of different lengths apart: numpy pads seeds with zeros.
        return np.random.default_rng((len(key), *key))


@dataclass(frozen=True)
class Rendered:
    """A rendered photograph.

    image: (S, S, 3) uint8 RGB, the full camera frame.  masks: (S, S) bool for each kind of lesion and mark that this
    photograph shows, and "disc".
    disc: (x, y, radius) and fovea: (x, y) in px; the fovea may lie outside the visible field.
    lesions: those of this eye that lie in the visible field, one entry each, outlines in disc diameters.
    marks: drusen and laser scars likewise: no lesions of diabetes.  view: maps disc diameters to px.  camera: its name.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    grade: int
    eye: str
    disc: tuple[float, float, float]
    fovea: tuple[float, float]
    lesions: tuple[Lesion, ...]
    marks: tuple[Lesion, ...]
    view: View
    camera: str


@dataclass(frozen=True)
class _Eye:
    """All of an eye but its lesions, and how the visit's camera sees it: colour (3,) is the retina's log RGB."""

    anatomy: Anatomy
    media: Media
    marks: tuple[Lesion, ...]
    look: Look
    colour: np.ndarray


def render(
    seed: int,
    grade: int,
    *,
    eye: str = "left",
    size: int = 720,
    lesions: bool = True,
    patient: int = 0,
    camera: str | Sequence[str] = tuple(CAMERAS),
    field: int = 1,
    nuisances: Nuisances = DEFAULT,
) -> Rendered:
    """Render a colour fundus photograph of `size` x `size` px.

    Everything but the lesions depends on (seed, patient, eye, field) alone: without lesions, all grades give the same
    bytes. camera: a name of CAMERAS, or several of which each patient meets one by chance.
    field: 1 shows disc and macula and all lesions that make the grade, 2 has the disc in its middle: the same eye, the
    same lesions where the two overlap.  nuisances: how often each comes; NONE: the camera alone.
    Raises SettingError for a grade outside 0..4, an unknown eye, field or camera, a negative seed or patient, or a size
    outside 64..8192.
    """
    check_request(seed, grade, eye, size, patient, field)
    streams = _Streams(seed, patient, eye, field, grade)
    one = _draw_eye(streams, camera, nuisances)
    look, view = _photograph(streams, one, eye, size, field, nuisances)
    if field == 1:
        planned = plan_lesions(grade, one.anatomy, view, streams["lesions"]) if lesions else ()
    else:
        first = _photograph(_Streams(seed, patient, eye, 1, grade), one, eye, size, 1, nuisances)[1]
        planned = _planned_for_both(grade, one.anatomy, (first, view), streams) if lesions else ()
    planned, marks = visible(planned, view), visible(one.marks, view)
    amounts, extra = scene.lesion_amounts(planned, view), scene.lesion_amounts(marks, view)
    picture = _scene(one, view, amounts, extra, streams)
    image = _develop(picture, one, look, view, streams, nuisances)
    masks = scene.masks(amounts | _as_laser(extra), one.anatomy, view)
    x, y = view.pixels(np.zeros(2))
    disc = (float(x), float(y), float(one.anatomy.disc.mean() * view.scale))
    fovea = tuple(float(v) for v in view.pixels(one.anatomy.fovea))
    return Rendered(image, masks, grade, eye, disc, fovea, planned, marks, view, look.camera.name)


def check_request(seed: int, grade: int, eye: str, size: int, patient: int, field: int) -> None:
    if grade not in range(NUM_GRADES):
        raise SettingError("render(grade=...)", f"grade is {grade!r}", f"0..{NUM_GRADES - 1} (ICDR)")
    if eye not in EYES:
        raise SettingError("render(eye=...)", f"eye is {eye!r}", '"left" or "right"', did_you_mean(str(eye), EYES))
    if field not in FIELDS:
        repair = did_you_mean(str(field), map(str, FIELDS))
        raise SettingError("render(field=...)", f"field is {field!r}", "1 (macula) or 2 (disc)", repair)
    if not SMALLEST <= size <= LARGEST:
        raise SettingError("render(size=...)", f"size is {size}", f"{SMALLEST}..{LARGEST} px")
    if seed < 0 or patient < 0:
        raise SettingError("render(seed=..., patient=...)", f"({seed}, {patient})", "whole numbers from 0")


def _draw_eye(streams: _Streams, cameras: str | Sequence[str], nuisances: Nuisances) -> _Eye:
    condition = draw_condition(nuisances, streams["condition"])
    anatomy = draw_anatomy(draw_style(streams["style"]), condition.ageing, streams["anatomy"])
    names = (cameras,) if isinstance(cameras, str) else cameras
    look = draw_look(draw_camera(names, streams["camera"]), streams["look"])
    marks: tuple[Lesion, ...] = ()
    if condition.drusen:
        marks += drusen(condition.drusen, anatomy, streams["drusen"])
    if condition.laser:
        marks += laser_scars(condition.laser, anatomy, streams["laser"])
    media = draw_media(condition.opacity, streams["media"])
    colour = retina_colour(look, nuisances.pigmentation * draw_pigment(streams["pigment"]))
    return _Eye(anatomy, media, marks, look, colour)


def _photograph(
    streams: _Streams, one: _Eye, eye: str, size: int, field: int, nuisances: Nuisances
) -> tuple[Look, View]:
    look = through(one.media, jitter_look(one.look, streams["jitter"]))
    aim = aim_of(field, look, one.anatomy.fovea) + artefacts.off_centre(nuisances, streams["off_centre"])
    return look, draw_view(look, eye, size, aim, streams["aim"])


def _planned_for_both(grade: int, anatomy: Anatomy, views: tuple[View, View], streams: _Streams) -> tuple[Lesion, ...]:
    """The lesions that make the grade in the first view, and more of the mild ones where only the second looks."""
    planned = plan_lesions(grade, anatomy, views[0], streams["lesions"])
    return planned + plan_beyond(planned, anatomy, views, streams["beyond"])


def _scene(one: _Eye, view: View, lesions: dict, marks: dict, streams: _Streams) -> np.ndarray:
    """Log reflectance (3, S, S) of the retina. lesions, marks: coverage of each kind."""
    picture = tissue(one.anatomy, one.colour, one.look.camera, view, streams["texture"])
    scene.add_disc(picture, one.anatomy, one.colour, view)
    blood = scene.vessel_blood(one.anatomy, view)
    scene.add_lesions(picture, blood, marks, one.colour, view, over=False)
    scene.add_lesions(picture, blood, lesions, one.colour, view, over=False)
    scene.absorb(picture, blood, one.look.camera.blood)
    scene.add_lesions(picture, blood, lesions, one.colour, view, over=True)
    return picture


def _develop(
    picture: np.ndarray, one: _Eye, look: Look, view: View, streams: _Streams, nuisances: Nuisances
) -> np.ndarray:
    """The photograph (S, S, 3) uint8 of a scene: lit, through media and lens."""
    picture += light(look, view, streams["light"])
    stray = scatter_light(picture, veil(one.media, view, streams["veil"]), one.colour)
    specks = artefacts.dust(nuisances, view, streams["dust"])
    lid = artefacts.eyelash(nuisances, view, streams["eyelash"])
    ghosts = artefacts.flare(nuisances, view, streams["flare"])
    if specks is not None:
        picture += specks
    if lid is not None:
        picture += lid[0]
        stray = stray + lid[1]
    if ghosts is not None:
        stray = stray + ghosts
    return expose(picture, look, view, stray, streams["noise"])


def _as_laser(marks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A scar and the pigment in it are one mark."""
    merged = dict(marks)
    if "laser_pigment" in merged:
        pigment = merged.pop("laser_pigment")
        merged["laser_scar"] = np.maximum(merged.get("laser_scar", 0), pigment)
    return merged


def render_patients(
    n: int, seed: int, size: int = 720, *, lesions: bool = True, grades: tuple[float, ...] = (1, 1, 1, 1, 1), **options
) -> Iterator[tuple[int, str, int, Rendered]]:
    """Both eyes of patients 0..n-1: (patient, eye, grade, Rendered). grades: relative frequencies of grades 0..4.

    options: camera, field and nuisances, as `render` takes them.
    """
    for patient in range(n):
        for eye, grade in zip(EYES, draw_grades(seed, patient, grades), strict=True):
            one = render(seed, grade, eye=eye, size=size, lesions=lesions, patient=patient, **options)
            yield patient, eye, grade, one


def draw_grades(seed: int, patient: int, grades: tuple[float, ...]) -> tuple[int, int]:
    """The grades of a patient's left and right eye: equal for 3 of 4 patients or more, else mostly one apart.

    The frequencies hold for either eye.
    """
    rng = _Streams(seed, patient)["grades"]
    weights = np.asarray(grades, float)
    if weights.shape != (NUM_GRADES,) or (weights < 0).any() or weights.sum() <= 0:
        raise SettingError("grades", f"{grades!r}", f"{NUM_GRADES} frequencies from 0, not all 0")
    first = int(rng.choice(NUM_GRADES, p=weights / weights.sum()))
    apart = int(rng.choice([0, 1, 2], p=[0.75, 0.2, 0.05])) * int(rng.choice([-1, 1]))
    swap, second = rng.random() < 0.5, first + apart
    # Metropolis: a rare grade is not reached more often than it is left, so both eyes keep the frequencies.
    if not 0 <= second < NUM_GRADES or rng.random() * weights[first] >= weights[second]:
        second = first
    return (first, second) if swap else (second, first)
