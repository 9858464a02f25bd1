"""The five grades of the International Clinical Diabetic Retinopathy scale, and what a graded photograph is.

Source: Wilkinson et al., Ophthalmology 2003;110:1677 (ICDR).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

DISCLAIMER = "Does not detect macular oedema; research software, not a medical device."


@dataclass(frozen=True)
class Grade:
    number: int
    name: str
    definition: str


GRADES = (
    Grade(0, "no apparent retinopathy", "no abnormalities"),
    Grade(1, "mild", "microaneurysms only"),
    Grade(2, "moderate", "more than microaneurysms, less than severe"),
    Grade(
        3,
        "severe",
        "any of: more than 20 haemorrhages in each of 4 quadrants, definite venous beading in 2 or more quadrants, "
        "prominent intraretinal microvascular abnormalities in 1 or more; no sign of proliferation (the 4-2-1 rule)",
    ),
    Grade(4, "proliferative", "neovascularisation, or vitreous or pre-retinal haemorrhage"),
)
NUM_GRADES = len(GRADES)

# Named end-points: the lowest grade that counts. Published definitions add macular oedema, which no grade shows.
ENDPOINTS = {"any": 1, "referable": 2, "vision_threatening": 3}


@dataclass(frozen=True)
class Grading:
    """What m2cnn says of one photograph; `grade` is None exactly when `gradable` is False.

    probabilities: five numbers that sum to 1, or None for a system that gives a severity alone.
    severity: 0..4, continuous.  reason: why not gradable, else "".  model: the bundle's hash.
    caution: what a reader must know of a grade that is given, else "": such as an other eye that was not seen.
    chance: of referable disease, None where the system gives none.  refer: what each operating point of the bundle
    says, by its name; {} where it has none.
    """

    image: str
    grade: int | None
    probabilities: tuple[float, ...] | None
    severity: float | None
    referable: bool | None
    gradable: bool
    reason: str
    system: str
    model: str
    caution: str = ""
    chance: float | None = None
    refer: dict[str, bool] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """Plain values for JSON, with the grade's name and the disclaimer."""
        name = None if self.grade is None else GRADES[self.grade].name
        return asdict(self) | {"grade_name": name, "disclaimer": DISCLAIMER}


def ungradable(image: str, reason: str, system: str, model: str) -> Grading:
    """The result for a photograph that must not get a grade."""
    return Grading(image, None, None, None, None, False, reason, system, model)
