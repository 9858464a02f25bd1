"""The profile of a set: every planted fault is found and named, a healthy set is left in peace, every page is sound."""

import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from m2cnn import profile as package
from m2cnn.cli import OK, REFUSED, main
from m2cnn.data import Manifest, Row, write_manifest
from m2cnn.data.leaks import Twin
from m2cnn.data.prepare import prepare
from m2cnn.data.rendered import render_manifest
from m2cnn.data.survey import Seen, survey
from m2cnn.errors import DataError, SettingError
from m2cnn.photograph import PhotographFile, read_image
from m2cnn.profile import words, write_profile
from m2cnn.profile.comparison import compare_sets, differences, overlap, reasons_to_fail, typical
from m2cnn.profile.comparison_page import comparison_page
from m2cnn.profile.detail import resolved
from m2cnn.profile.findings import findings, profile, reading
from m2cnn.profile.gallery import MOST, Gallery
from m2cnn.profile.look import CODE, jpeg_quality, look_at_all, look_at_style
from m2cnn.profile.measures import BY_NAME
from m2cnn.profile.page import profile_page
from m2cnn.profile.statistics import contrasts, eye_agreement, grade_correlations, shares
from m2cnn.profile.suspicious import Suspect, distances, rare_frames, some_of_each_kind, suspects
from m2cnn.profile.table import table_of, without_lockbox
from m2cnn.synthetic.nuisances import NONE

NASTY = '<img src=x>&".png'


def identical_planes(manifest: Manifest, seen: dict[str, Seen]) -> list[Twin]:
    """Copies of a file: for the tests that are not about twins."""
    groups = defaultdict(list)
    for row in manifest:
        if planes := seen[row.image].planes:
            groups[planes].append(row.image)
    return [Twin(a, b, "same picture", 1.0) for group in groups.values() for a, b in pairwise(group)]


def looked_at(name, manifest, cache):
    return table_of(name, manifest, survey(manifest, look_at_all, cache, 1, CODE))


def changed(manifest, folder, change, every=1):
    """A copy of a set with `change` done to every so-manyth photograph, as PNG."""
    folder.mkdir()
    rows = []
    for k, row in enumerate(manifest):
        image = read_image(manifest.path(row))
        image = change(image, row) if k % every == 0 else image
        name = row.image.rpartition(".")[0] + ".png"
        cv2.imwrite(str(folder / name), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        rows.append(replace(row, image=name, sha256="", split=""))
    return Manifest(tuple(rows), folder)


def stretched(image, row=None):
    """Each colour on its own over the whole range, as in some published copies of EyePACS."""
    inside = image.max(axis=2) > 10
    low, high = np.percentile(image[inside], (2, 98), axis=0)
    return np.where(inside[..., None], ((image - low) * 255 / (high - low)).clip(0, 255), 0).astype(np.uint8)


def enlarged(image, row=None, factor=4):
    small = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def fake(values, grades=None, patients=None, name="fake", frames=None):
    """A table without photographs. values: name -> (N,)."""
    count = len(next(iter(values.values())))
    patients = [f"p{k}" for k in range(count)] if patients is None else patients
    grades = [None] * count if grades is None else grades
    rows = tuple(
        Row(f"{name}{k}.png", str(p), grade=g, split="train")
        for k, (p, g) in enumerate(zip(patients, grades, strict=True))
    )
    frames = [(100.0, 100.0)] * count if frames is None else frames
    seen = {
        row.image: Seen("", {"width": w, "height": h, **{key: float(v[k]) for key, v in values.items()}}, b"")
        for k, (row, (w, h)) in enumerate(zip(rows, frames, strict=True))
    }
    return table_of(name, Manifest(rows, None), seen)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("seen")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, cache):
    """48 photographs of 24 patients of one clinic, who all meet the same camera, and what is found in them."""
    folder = tmp_path_factory.mktemp("healthy")
    manifest = render_manifest(folder, 24, 6, 224, workers=1, cameras=["idrid"], nuisances=NONE)
    return profile(looked_at("healthy", manifest, cache), identical_planes)


@pytest.fixture(scope="module")
def some(healthy):
    """24 photographs of the healthy set."""
    return Manifest(healthy.table.rows[:24], healthy.table.manifest.root)


@pytest.fixture(autouse=True)
def plots(request, monkeypatch):
    """Plots take most of a page's time: only the tests that are marked so draw them."""
    if "draws" not in request.fixturenames:
        monkeypatch.setattr(words, "_plot", lambda measure, known, text: "")


@pytest.fixture
def draws():
    """Asked for by tests whose pages have plots."""


# --- a healthy set ----------------------------------------------------------------------------------------------------


def test_a_healthy_set_has_nothing_suspicious(healthy):
    assert healthy.suspects == healthy.twins == []
    assert healthy.unreadable.estimate.value == healthy.ungradable.estimate.value == 0
    told = " ".join(findings(healthy))
    assert "Small photographs" in told and "Few to learn from" in told
    for fault in (
        "stretched",
        "No disease does this",
        "blurred",
        "overexposed",
        "not gradable",
        "compressed",
        "equalised",
    ):
        assert fault not in told


# --- planted faults ---------------------------------------------------------------------------------------------------


def test_a_stretched_set_is_named_and_stands_out_beside_the_other(some, healthy, tmp_path, cache):
    table = looked_at("stretched", changed(some, tmp_path / "s", stretched), cache)
    told = " ".join(findings(profile(table, identical_planes)))
    assert "not in the camera's colours" in told
    found = compare_sets(healthy.table, table, identical_planes)
    first = next(c for c in found.contrasts if c.measure.name == "stretch")
    assert first.auc.estimate.value > 0.99 and first.auc.estimate.low > 0.7
    assert any(re.search("nearly always more stretched in colour: Colour stretch", said) for said in differences(found))
    why = " ".join(reasons_to_fail(found))
    assert "absolute colours" in why and "colours of stretched are not those of its cameras" in why


def test_an_enlarged_set_has_lost_its_detail(some, healthy, tmp_path, cache):
    table = looked_at("large", changed(some, tmp_path / "e", enlarged), cache)
    assert any(
        re.fullmatch("100 % show less than half the detail .*", said)
        for said in findings(profile(table, identical_planes))
    )
    found = compare_sets(healthy.table, table, identical_planes)
    assert any("less detailed" in said and "Microaneurysms" in said for said in reasons_to_fail(found))
    back = compare_sets(table, healthy.table, identical_planes)
    assert any("more detailed" in said and "learnt from less detail" in said for said in reasons_to_fail(back))


def test_a_grade_that_stands_in_the_brightness_is_warned_of(some, tmp_path, cache):
    def lit(image, row):
        return (image * (0.5 + 0.12 * row.grade)).clip(0, 255).astype(np.uint8)

    found = profile(looked_at("lit", changed(some, tmp_path / "b", lit), cache), identical_planes)
    assert any(
        re.match("Their look tells the grade. .* brighter .0.* Disease may do a part of this; still, a network", said)
        for said in findings(found)
    )
    assert "can be learnt in place of lesions" in profile_page(found)


FAULTS = {
    "very dark": lambda image: (image * 0.2).astype(np.uint8),
    "much less sharp for the size than the rest": lambda image: cv2.GaussianBlur(image, (0, 0), 4),
    "another camera or export": lambda image: cv2.resize(image, (300, 300), interpolation=cv2.INTER_CUBIC),
    "much more stretched in colour than the rest": stretched,
    "much less complete than the rest": lambda image: np.vstack([np.zeros_like(image[:90]), image[90:]]),
}


@pytest.fixture(scope="module")
def faulty(some, healthy, tmp_path_factory, cache):
    """The rendered set with one photograph of each fault, a copy under another patient and grade, and three bad files.

    Its profile, and which image has which fault.
    """
    folder = tmp_path_factory.mktemp("faulty")
    plain, images = healthy.table.rows, {}
    copies = changed(Manifest(plain, some.root), folder / "set", lambda image, row: image)
    for row, (fault, change) in zip(copies, FAULTS.items(), strict=False):
        path = copies.path(row)
        cv2.imwrite(str(path), change(read_image(path))[..., ::-1])
        images[fault] = row.image
    twin = copies.rows[20]
    (copies.root / NASTY).write_bytes(copies.path(twin).read_bytes())
    (copies.root / "text.jpg").write_text("text")
    cv2.imwrite(str(copies.root / "black.png"), np.zeros((224, 224, 3), np.uint8))
    cv2.imwrite(str(copies.root / "night.png"), (read_image(copies.path(twin)) * 0.1).astype(np.uint8))
    bad = (
        Row(NASTY, 'p<b>"', grade=(twin.grade + 1) % 5, split="train"),
        Row("text.jpg", "text", split="train"),
        Row("black.png", "black", split="train"),
        Row("night.png", "night", grade=4, split="train"),
    )
    manifest = Manifest((*copies.rows, *bad), copies.root)
    write_manifest(manifest, copies.root / "manifest.csv")
    found = profile(looked_at("faulty", manifest, cache), identical_planes)
    return SimpleNamespace(found=found, images=images, twin=twin, manifest=manifest)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_suspicious_photograph_is_found_and_named(faulty, fault):
    reasons = {suspect.image: suspect.reasons for suspect in faulty.found.suspects}
    assert any(reason.startswith(fault) for reason in reasons[faulty.images[fault]])


def test_hardly_anything_else_is_suspicious(faulty):
    assert {suspect.image for suspect in faulty.found.suspects} <= {*faulty.images.values(), "night.png"}


def test_a_copy_under_another_patient_and_grade_is_found(faulty):
    (twin,) = faulty.found.twins
    assert {twin.first, twin.second} == {faulty.twin.image, NASTY}
    told = " ".join(findings(faulty.found))
    assert "1 pair of photographs is the same photograph: 1 with contradictory grades, 1 under two patients." in told
    html = profile_page(faulty.found)
    grades = f"contradictory grades {faulty.twin.grade} and {(faulty.twin.grade + 1) % 5}; under two patients"
    assert grades in html


def test_files_that_cannot_be_used_and_photographs_that_cannot_be_graded_are_told_apart(faulty):
    html = profile_page(faulty.found)
    unusable, ungradable = (
        html.split(f"<h2>{title}</h2>")[1].split("<h2>")[0] for title in ("Cannot be used", "Not gradable")
    )
    assert "text.jpg" in unusable and "unreadable, begins" in unusable
    assert "black.png" in unusable and "no round field of view" in unusable
    assert "night.png" in ungradable and "too dark" in ungradable
    told = " ".join(findings(faulty.found))
    assert "2 photographs cannot be used" in told
    assert "5 photographs would be refused as not gradable; 5 of them have a grade" in told  # four faults are so strong


def test_nasty_names_are_text(faulty):
    html = profile_page(faulty.found)
    assert "<img src=x>" not in html and "<b>" not in html
    assert "&lt;img src=x&gt;&amp;&quot;.png" in html


def test_without_pictures_nobody_is_recognised(faulty):
    for html in (
        profile_page(faulty.found, pictures=False),
        comparison_page(compare_sets(faulty.found.table, faulty.found.table, identical_planes), pictures=False),
    ):
        assert "data:image/jpeg" not in html
        assert not [row.image for row in faulty.manifest if row.image in html or f"patient {row.patient}" in html]
        assert "no picture and no patient is shown" in html
    number = [row.image for row in faulty.manifest].index("text.jpg") + 2
    assert f"row {number}" in profile_page(faulty.found, pictures=False)


def test_with_pictures_the_page_says_so(faulty):
    html = profile_page(faulty.found)
    assert "treat it as you treat the photographs" in html
    assert "data:image/jpeg" in html


# --- every page is sound ----------------------------------------------------------------------------------------------


class Sound(HTMLParser):
    """Every tag is closed, every picture and every bar has a text, every head of a table its scope."""

    VOID = ("meta", "img", "br")

    def __init__(self, html):
        super().__init__()
        self.open, self.faults = [], []
        self.feed(html)
        self.faults += self.open

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if (tag == "img" and not names.get("alt")) or (names.get("role") == "img" and not names.get("aria-label")):
            self.faults.append(f"{tag} without a text")
        if tag == "th" and not names.get("scope"):
            self.faults.append("th without a scope")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")


def test_the_pages_are_sound(faulty, healthy, draws):
    assert Sound(profile_page(faulty.found)).faults == []
    assert Sound(comparison_page(compare_sets(healthy.table, faulty.found.table, identical_planes))).faults == []


def one_row(folder, **known):
    image = cv2.imread(str(folder / "a.png"))
    assert image is not None
    return Manifest((Row("a.png", "p", **known),), folder)


@pytest.mark.parametrize("kind", ["one photograph", "no grades", "no eyes", "all unreadable", "one grade"])
def test_poor_sets_have_a_page_too(some, tmp_path, cache, kind):
    rows = some.rows[:1] if kind == "one photograph" else some.rows[:4]
    if kind == "no grades":
        rows = tuple(replace(row, grade=None) for row in rows)
    if kind == "one grade":
        rows = tuple(replace(row, grade=2) for row in rows)
    if kind == "no eyes":
        rows = tuple(replace(row, eye="", patient=row.image) for row in rows)
    root = some.root
    if kind == "all unreadable":
        root = tmp_path
        rows = tuple(replace(row, sha256="") for row in rows)
        for row in rows:
            (root / row.image).write_text("text")
    table = looked_at(kind, Manifest(rows, root), tmp_path / "cache" if root == tmp_path else cache)
    found = profile(table, identical_planes)
    assert Sound(profile_page(found)).faults == []
    assert Sound(comparison_page(compare_sets(table, table, identical_planes))).faults == []
    expected = {
        "no grades": "No photograph has a grade",
        "no eyes": "Every photograph counts as a patient of its own",
        "all unreadable": "4 photographs cannot be used",
        "one photograph": "1 photograph of 1 patient",
        "one grade": "Too few photographs with different grades",
    }
    assert expected[kind] in profile_page(found)


def test_a_page_has_its_plots(healthy, draws):
    assert "image/svg" in profile_page(healthy)


def test_many_photographs_are_named_not_shown(healthy):
    rows = [(row, []) for row in healthy.table.rows] * 2
    html = Gallery(healthy.table, True).figures(rows)
    assert len(rows) > MOST and html.count("<figure>") == MOST
    assert f"<summary>{len(rows) - MOST} more</summary>" in html
    assert healthy.table.rows[-1].image in html.split("<summary>")[1]


def test_photographs_of_one_name_are_told_apart_by_their_folders():
    rows = (Row("a/1.png", "a"), Row("b/1.png", "b"), Row("b/2.png", "b"))
    gallery = Gallery(SimpleNamespace(rows=rows), True)
    assert [gallery.name(row) for row in rows] == ["a/1.png", "b/1.png", "2.png"]


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_the_verb_writes_a_page_and_a_second_call_looks_at_nothing(rendered, tmp_path, monkeypatch, capsys):
    command = ["data", "profile", str(rendered.root / "manifest.csv"), "--workers", "1", "--out"]
    assert main([*command, str(tmp_path / "new" / "page.html")]) == OK
    assert capsys.readouterr().out.strip() == str(tmp_path / "new" / "page.html")
    html = (tmp_path / "new" / "page.html").read_text("utf-8")
    assert "Profile of " in html and "of the lockbox: not looked at" in html
    locked = [row.image for row in rendered if row.split == "lockbox"]
    assert locked and not [image for image in locked if image in html]
    monkeypatch.setattr("m2cnn.data.survey.look_at_chunk", lambda *rest: pytest.fail("looked again"))
    cache = ["--cache", str(tmp_path / "new" / package.CACHE)]
    assert main([*command, str(tmp_path / "again.html"), *cache, "--no-pictures"]) == OK
    assert "data:image/jpeg" not in (tmp_path / "again.html").read_text("utf-8")


def test_two_sets_of_one_name_are_numbered(rendered, cache, tmp_path):
    spec = rendered.root / "manifest.csv"
    out = write_profile([spec, spec], tmp_path / "two.html", cache=cache, workers=1)
    name = rendered.root.name
    html = out.read_text("utf-8")
    assert f"{name} 1 against {name} 2" in html
    assert "Nothing that was measured differs much" in html
    assert "photographs stand in both sets" in html


@pytest.mark.parametrize("out", ["page.jpg", "page", "folder.html"])
def test_a_page_is_no_photograph_and_no_folder(tmp_path, out):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(SettingError, match="a page to write"):
        write_profile(["nothing"], tmp_path / out)


def test_three_sets_are_too_many(tmp_path, capsys):
    assert main(["data", "profile", "a", "b", "c", "--out", str(tmp_path / "x.html")]) == REFUSED
    assert "3 sets; expected one, or two to compare" in capsys.readouterr().err


def test_photographs_may_lie_elsewhere(some, cache, tmp_path):
    write_manifest(some, tmp_path / "elsewhere.csv")
    spec = tmp_path / "elsewhere.csv"
    out = write_profile([spec], tmp_path / "x.html", cache=cache, workers=1, images=[some.root])
    assert "Profile of elsewhere" in out.read_text("utf-8")
    with pytest.raises(SettingError, match="1 folders for 2 sets"):
        write_profile([spec, spec], tmp_path / "x.html", images=[some.root])


def test_a_set_that_is_all_lockbox_is_not_looked_at(rendered, tmp_path):
    rows = tuple(replace(row, split="lockbox") for row in rendered)
    write_manifest(Manifest(rows, rendered.root), tmp_path / "locked.csv")
    for row in rows:
        (tmp_path / row.image).write_bytes(b"")
    with pytest.raises(DataError, match="no photograph outside the lockbox"):
        write_profile([tmp_path / "locked.csv"], tmp_path / "x.html", workers=1)


def test_a_set_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        write_profile([tmp_path / "nothing"], tmp_path / "x.html")


# --- what is measured -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 4])
def test_an_enlarged_photograph_resolves_what_it_was_enlarged_from(factor):
    from m2cnn.synthetic import render

    image = render(3, 2, size=512).image[..., 1]
    whole, lost = resolved(image), resolved(np.ascontiguousarray(enlarged(image, factor=factor)))
    assert whole > 0.9 * 512
    assert 0.8 / factor < lost / 512 < 1.4 / factor


def test_more_blur_resolves_less():
    from m2cnn.synthetic import render

    image = render(3, 2, size=512).image[..., 1]
    found = [resolved(cv2.GaussianBlur(image, (0, 0), sigma)) for sigma in (1, 2, 4, 8)]
    assert found == sorted(found, reverse=True) and found[0] > 3 * found[-1]


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
def test_jpeg_quality(tmp_path, quality):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg", quality=quality)
    assert jpeg_quality(PhotographFile(tmp_path / "a.jpg").header().table) == pytest.approx(quality, abs=0.6)


def test_the_header_is_upright_and_of_the_whole_file(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (640, 480)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    assert PhotographFile(tmp_path / "a.jpg").header()[:2] == (480, 640)
    assert PhotographFile(tmp_path / "a.png").header() == (640, 480, ())


def test_the_look_of_a_card_sees_the_same_in_less_time(healthy, monkeypatch):
    file = PhotographFile(healthy.table.manifest.path(healthy.table.rows[0]))
    whole = look_at_all(file).values
    monkeypatch.setattr("m2cnn.profile.look.check_file", None)
    monkeypatch.setattr("m2cnn.profile.look.resolved", None)
    monkeypatch.setattr("m2cnn.profile.look.planes_of_file", None)
    assert look_at_style(file).values == {name: whole[name] for name in ("diameter", "stretch")}


def test_a_look_finds_the_planted_cut(healthy, tmp_path):
    path = healthy.table.manifest.path(healthy.table.rows[0])
    before = look_at_all(PhotographFile(path)).values["cut"]
    cv2.imwrite(str(tmp_path / "a.png"), FAULTS["much less complete than the rest"](cv2.imread(str(path))))
    after = look_at_all(PhotographFile(tmp_path / "a.png")).values["cut"]
    assert before < 0.05 and 0.25 < after < 0.5


# --- statistics, beside other people's --------------------------------------------------------------------------------


@pytest.fixture
def numbers():
    return np.random.default_rng(7)


def test_spearman(numbers):
    grades = numbers.integers(0, 5, 300)
    values = {"jpeg": grades * 4.0 + numbers.normal(0, 8, 300).round() + 50, "reach": numbers.normal(1, 0.2, 300)}
    patients = numbers.integers(0, 150, 300)
    found = {m.name: c for m, c in grade_correlations(fake(values, grades.tolist(), patients))}
    for name, counted in found.items():
        assert counted.estimate.value == pytest.approx(spearmanr(values[name], grades)[0], abs=1e-9)
        assert counted.estimate.low < counted.estimate.value < counted.estimate.high
        assert counted.n == 300
    assert list(found) == ["jpeg", "reach"]
    assert found["jpeg"].estimate.low > 0.2 and found["reach"].estimate.low < 0 < found["reach"].estimate.high


def test_what_no_disease_does_is_said_so(numbers):
    grades = numbers.integers(0, 5, 200)
    told = " ".join(findings(profile(fake({"diameter": 500 + 100.0 * grades}, grades.tolist()), identical_planes)))
    assert "the photographs are larger in pixels (1.00" in told
    assert "No disease does this: a network can learn it instead of lesions." in told
    assert "Disease may do" not in told


def test_what_does_no_harm_is_no_reason_to_fail():
    small, large = fake({"diameter": np.full(30, 300.0)}, name="s"), fake({"diameter": np.full(30, 900.0)}, name="l")
    small, large = replace(small, name="small"), replace(large, name="large")
    up, down = compare_sets(small, large, identical_planes), compare_sets(large, small, identical_planes)
    assert any("larger in pixels" in said for said in differences(up))
    assert not any("in pixels" in said for said in reasons_to_fail(up))
    assert any("small is smaller in pixels. Microaneurysms" in said for said in reasons_to_fail(down))


def test_measures_that_do_not_vary_tell_no_grade(numbers):
    grades = numbers.integers(0, 5, 100)
    assert grade_correlations(fake({"jpeg": 95 + 0.01 * grades}, grades.tolist())) == []


def test_telling_two_sets_apart(numbers):
    one, other = numbers.normal(0.5, 0.1, 80), numbers.normal(0.6, 0.1, 120)
    (found,) = contrasts(fake({"brightness": one}, name="a"), fake({"brightness": other}, name="b"))
    truth = np.repeat([0, 1], [80, 120])
    assert found.auc.estimate.value == pytest.approx(roc_auc_score(truth, np.concatenate([one, other])))
    assert found.auc.estimate.low < found.auc.estimate.value < found.auc.estimate.high
    assert found.auc.n == 200 and found.how == "brighter" and found.matters
    (back,) = contrasts(fake({"brightness": other}, name="b"), fake({"brightness": one}, name="a"))
    assert back.how == "darker" and back.size == pytest.approx(found.size)


def test_patients_with_many_photographs_widen_the_interval(numbers):
    one, other = numbers.normal(0.5, 0.1, 200), numbers.normal(0.55, 0.1, 200)
    alone = contrasts(fake({"brightness": one}), fake({"brightness": other}))[0].auc.estimate
    one, other = np.repeat(one[:40], 5), np.repeat(other[:40], 5)
    patients = np.repeat(np.arange(40), 5)
    together = contrasts(fake({"brightness": one}, None, patients), fake({"brightness": other}, None, patients))
    assert together[0].auc.estimate.high - together[0].auc.estimate.low > 1.5 * (alone.high - alone.low)


def test_too_few_to_compare_is_not_no_difference():
    """A pilot of fifteen photographs must not be called like the training set for want of numbers."""
    dark, bright = (fake({"brightness": np.full(15, value)}, [k % 5 for k in range(15)]) for value in (0.1, 0.9))
    html = comparison_page(compare_sets(dark, bright, identical_planes), pictures=False)
    assert "Too few photographs to compare" in html and "Nothing that was measured" not in html
    assert "Too few to say what is usual" in profile_page(profile(dark, identical_planes))


def test_a_weak_correlation_is_not_called_none(numbers):
    grades = numbers.integers(0, 5, 24)
    sure = fake({"brightness": np.resize([0.3, 0.5, 0.7], 1000)}, np.repeat(range(5), 200).tolist())
    for table, said in (
        (fake({"brightness": numbers.normal(0.5, 0.1, 24)}, grades.tolist()), "there are too few photographs to"),
        (sure, "No measure tells much of the grade."),
    ):
        assert said in profile_page(profile(table, identical_planes))


def test_unassigned_photographs_of_the_lockbox_stay_closed():
    rows = tuple(Row(f"{k}.png", str(k)) for k in range(300))
    opened = without_lockbox(Manifest(rows, None))
    assert 240 < len(opened) < 300 and opened.rows == Manifest(rows, None).select("all").rows


def test_what_was_prepared_small_is_measured_too(some, tmp_path, cache):
    done = prepare(Manifest(some.rows[:3], some.root), tmp_path / "small", 128, workers=1)
    table = looked_at("small", done.manifest, cache)
    assert table.readable.all() and np.median(table.values("diameter")) == pytest.approx(128, abs=4)


def test_agreement_of_two_eyes(numbers):
    left = numbers.integers(0, 5, 60)
    right = (left + numbers.integers(-1, 2, 60)).clip(0, 4)
    rows = [
        Row(f"{k}_{eye}.png", str(k), eye=eye, grade=int(grade), split="train")
        for k, pair in enumerate(zip(left, right, strict=True))
        for eye, grade in zip(("left", "right"), pair, strict=True)
    ]
    rows.append(Row("alone.png", "alone", eye="left", grade=3))
    table = table_of("eyes", Manifest(tuple(rows), None), {row.image: Seen("", {}, b"") for row in rows})
    found = eye_agreement(table)
    assert found.estimate.value == pytest.approx(cohen_kappa_score(left, right, weights="quadratic", labels=range(5)))
    assert found.n == 60 and found.estimate.low < found.estimate.value < found.estimate.high


def test_shares_of_none_and_of_all_have_exact_intervals():
    patient = np.arange(100)
    nobody, everybody, half = shares([patient < 0, patient >= 0, patient < 50], patient)
    assert (nobody.estimate.value, nobody.estimate.low) == (0, 0)
    assert nobody.estimate.high == pytest.approx(0.0362, abs=1e-4)  # Clopper and Pearson, 0 of 100
    assert everybody.estimate.low == pytest.approx(1 - 0.0362, abs=1e-4)
    assert 0.35 < half.estimate.low < 0.45 < 0.55 < half.estimate.high < 0.65


def test_distances_are_robust_and_keep_to_the_least():
    values = np.r_[np.full(30, 0.5), 0.52, 0.9]
    away = distances(BY_NAME["stretch"], values)
    assert away[30] == pytest.approx(0.2) and away[31] == pytest.approx(4)
    assert not distances(BY_NAME["stretch"], values[-5:]).any()


def test_many_of_one_kind_do_not_hide_another():
    found = [Suspect(str(k), 9, ("dark: very",)) for k in range(5)] + [Suspect("odd", 7, ("odd: quite", "dark: a bit"))]
    assert [suspect.image for suspect in some_of_each_kind(found)] == ["0", "odd", "1", "2", "3", "4"]


def test_a_rare_frame_is_only_rare_where_most_have_one():
    frames = [(100.0, 100.0)] * 29 + [(200.0, 100.0)]
    ((image, reason),) = rare_frames(fake({"cut": np.zeros(30)}, frames=frames))
    assert image == "fake29.png" and "200 x 100 px, most are 100 x 100" in reason
    mixed = [(100.0, 100.0)] * 15 + [(120.0, 100.0)] * 14 + [(200.0, 100.0)]
    assert suspects(fake({"cut": np.zeros(30)}, frames=mixed)) == []


def test_typical_photographs_are_of_different_patients(numbers):
    table = fake({"brightness": np.linspace(0.1, 0.9, 41)}, patients=np.repeat(np.arange(21), 2)[:41])
    rows = typical(table, 3)
    assert len({row.patient for row in rows}) == 3
    assert rows[0].image == "fake20.png"


READ = {
    "diameter": (np.full(60, 240.0), "up to 2.4 px"),
    "kept": (np.full(60, 0.3), "100 % show less than half"),
    "stretch": (np.full(60, 0.9), "not in the camera's colours"),
    "brightness": (np.linspace(0.5, 0.55, 60), "somebody equalised them"),
    "cut": (np.r_[np.zeros(30), np.full(30, 0.4)], "50 % of the fields are cut off"),
    "clipped": (np.full(60, 0.2), "overexposed"),
    "jpeg": (np.full(60, 40.0), "JPEG quality 40"),
}


@pytest.mark.parametrize("name", READ)
def test_readings(name):
    values, expected = READ[name]
    assert any(expected in said for said in reading(name, values))


def test_grades_that_are_mixed_differently_are_said(numbers):
    values = {"brightness": np.full(40, 0.5)}
    one, other = fake(values, [0] * 30 + [2] * 10, name="a"), fake(values, [0] * 10 + [4] * 30, name="b")
    found = compare_sets(one, other, identical_planes)
    (said,) = (said for said in reasons_to_fail(found) if "mixed differently" in said)
    assert re.search(r"25 % \(.*\) of a and 75 % \(.*\) of b are referable", said)
    few = compare_sets(fake(values, [0] * 20 + [2] * 20, name="c"), fake(values, [0] * 18 + [2] * 22), identical_planes)
    assert not any("mixed differently" in said for said in reasons_to_fail(few))
    assert "40 patient ids stand in both sets" in " ".join(overlap(found))


# --- real photographs -------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_stretched_copy_of_eyepacs_stands_out(real_data, cache):
    def sample(folder, every):
        paths = sorted((real_data / folder / "train").iterdir())[::every]
        root = real_data / folder
        return Manifest(tuple(Row(str(path.relative_to(root)), path.stem) for path in paths), root)

    copy = looked_at("copy", sample("eyepacs256", 180), cache)
    own = looked_at("own", sample("eyepacs1024", 30), cache)
    found = compare_sets(own, copy, identical_planes)
    auc = {c.measure.name: c.auc.estimate for c in found.contrasts}
    assert auc["stretch"].low > 0.9 and auc["diameter"].high < 0.15
    assert reading("stretch", own.values("stretch")) == []
