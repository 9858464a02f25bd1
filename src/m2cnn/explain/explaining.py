"""Maps of photographs, written: `OUT/index.json`, and for each map a picture (PNG) and its numbers (NPY).

index.json (schema "m2cnn.maps/1"): the model and its hash; `checks`, each method's with random weights; `maps`, one
entry each; `refused`, photographs that get no map, and why; `passed_over`, other files of folders. An array (S, S)
float32 is in pixels of the picture that the network saw; [x, y] of the photograph is `to_photograph` @ [x, y, 1],
(2, 3), centres of pixels being whole numbers.
"""

from __future__ import annotations

import io
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from m2cnn.bundle import Bundle, load_bundle, load_network
from m2cnn.explain import maps
from m2cnn.explain.overlay import overlay
from m2cnn.explain.sanity import Check, at_random, check
from m2cnn.explain.scores import rank_correlation
from m2cnn.explain.shown import show
from m2cnn.explain.targets import TARGETS, Target, check_kinds, targets_of
from m2cnn.grader import Grader, exams, find_photographs
from m2cnn.grades import DISCLAIMER, GRADES, Grading
from m2cnn.photograph import PhotographFile
from m2cnn.tables import write_atomically, write_json

SCHEMA, INDEX = "m2cnn.maps/1", "index.json"
CHECKED = 4  # photographs on which a model's methods are checked before their maps are drawn
BLANK = "blank: no place raises this answer"
VIEWS = "the answer is the mean of several views, of which the middle one is explained"
MEMBER = "of member {} alone; the grade is that of all"
EYES = "of one eye alone; the grade joins it with the patient's other eye, where that was seen"


@dataclass(frozen=True)
class Member:
    """A network of a bundle, ready. name: "" where nothing joins it.  methods: those that it has.  caution: what is
    true of each of its maps.
    """

    name: str
    bundle: Bundle
    network: nn.Module
    methods: tuple[str, ...]
    caution: str


def members_of(bundle: Bundle, methods: Sequence[str]) -> list[Member]:
    """Raises BundleError for a network that this package did not define, SettingError for an unknown method."""
    named = bundle.members or {"": bundle}
    networks = {name: maps.ready(load_network(each)) for name, each in named.items()}
    return [
        Member(name, each, networks[name], maps.methods_of(networks[name], methods), _caution(bundle, name))
        for name, each in named.items()
    ]


def _caution(bundle: Bundle, name: str) -> str:
    joins_eyes = bundle.combiner is not None and bundle.combiner.joins_eyes
    views = bundle.members.get(name, bundle).views
    told = ((MEMBER.format(name), len(bundle.members) > 1), (EYES, joins_eyes), (VIEWS, views.count > 1))
    return "; ".join(text for text, is_true in told if is_true)


def explain_photographs(
    model: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    methods: Sequence[str] = (),
    targets: Sequence[str] = TARGETS,
) -> dict[str, Any]:
    """Write the maps of photographs, and of folders of them; returns the index. methods: () for all that there are.

    The methods are first checked with random weights, on the first CHECKED photographs that have a grade. The same
    call writes the same bytes.
    """
    kinds, out = check_kinds(targets), Path(out)
    grader = Grader.load(model, "torch")
    members = members_of(load_bundle(model), methods)
    found, others = find_photographs(paths)
    photographs = exams(found, grader.joins_eyes)
    gradings = list(itertools.chain.from_iterable(grader.grade_exams(photographs)))
    graded = [each for each in gradings if each.gradable]
    checks = [_checks(member, graded[:CHECKED], kinds) for member in members]
    entries = []
    for number, grading in enumerate(graded):
        for member, checked in zip(members, checks, strict=True):
            entries += _write_maps(out, f"{number:04d}-{Path(grading.image).stem}", member, grading, kinds, checked)
    index = {
        "schema": SCHEMA,
        "model": grader.bundle.hash,
        "system": grader.bundle.system,
        "disclaimer": DISCLAIMER,
        "checks": [each for pair in zip(members, checks, strict=True) for each in _check_entries(*pair)],
        "maps": entries,
        "refused": [{"photograph": each.image, "reason": each.reason} for each in gradings if not each.gradable],
        "passed_over": [str(path) for path in others],
    }
    write_json(out / INDEX, index)
    return index


# --- the check with random weights ---


def _checks(member: Member, gradings: Sequence[Grading], kinds: Sequence[str]) -> dict[tuple[str, str], Check]:
    """By (method, kind of target)."""
    seen = [show(member.bundle, PhotographFile(grading.image)) for grading in gradings]
    if not seen:
        return {}
    twin = at_random(member.bundle, np.stack([shown.picture for shown in seen]))
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for shown, grading in zip(seen, gradings, strict=True):
        targets = targets_of(member.bundle.task, kinds, grading.grade)
        for method in member.methods:
            pairs = [maps.explain(network, shown, targets, method) for network in (member.network, twin)]
            for target, learnt, random in zip(targets, *pairs, strict=True):
                found[method, target.kind].append(rank_correlation(learnt, random, shown.inside))
    return {key: check(values) for key, values in found.items()}


def _check_entries(member: Member, checks: dict[tuple[str, str], Check]) -> Iterator[dict[str, Any]]:
    for (method, target), found in checks.items():
        yield {"member": member.name, "method": method, "target": target, **vars(found), "warning": found.warning}


# --- one photograph ---


def _write_maps(
    out: Path, name: str, member: Member, grading: Grading, kinds: Sequence[str], checks: dict[tuple[str, str], Check]
) -> Iterator[dict[str, Any]]:
    """Write the maps of one photograph and member; an index entry each."""
    shown = show(member.bundle, PhotographFile(grading.image))
    targets = targets_of(member.bundle.task, kinds, grading.grade)
    for method in member.methods:
        framed = maps.boxes(member.network, shown) if method == maps.ATTENTION else []
        for target, heat in zip(targets, maps.explain(member.network, shown, targets, method), strict=True):
            cautions = [checks[method, target.kind].warning, member.caution, "" if (heat > 0).any() else BLANK]
            warning = "; ".join(filter(None, cautions))
            stem = "-".join(filter(None, (member.name, method, target.name.replace(" ", "-"))))
            picture, array = Path(name) / f"{stem}.png", Path(name) / f"{stem}.npy"
            words = _words(grading, member, method, target)
            write_atomically(out / picture, overlay(shown, heat, words, warning, framed))
            write_atomically(out / array, _npy(heat))
            yield {
                "photograph": grading.image,
                "model": grading.model,
                "member": member.name,
                "method": method,
                "target": target.name,
                "grade": grading.grade,
                "severity": grading.severity,
                "warning": warning,
                "picture": picture.as_posix(),
                "array": array.as_posix(),
                "to_photograph": shown.to_photograph.tolist(),
                "boxes": framed,
            }


def _words(grading: Grading, member: Member, method: str, target: Target) -> list[str]:
    said = f"grade {grading.grade} ({GRADES[grading.grade].name}), severity {grading.severity:.2f}"
    of = f"{member.name}, " if member.name else ""
    return [
        f"{Path(grading.image).name}: {said}",
        f"{method} of {target.name}; {of}model {grading.model} ({grading.system}). Bright: raises the answer.",
    ]


def _npy(heat: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, heat)
    return file.getvalue()
