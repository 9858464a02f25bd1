"""Rendered patients and folders: both eyes, the rows of the manifest, thumbnails that tell nothing, what is refused."""

import hashlib

import cv2
import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from m2cnn.data.pairing import patient_and_eye
from m2cnn.errors import SettingError
from m2cnn.synthetic import NONE, Rendering, render, render_dataset, render_patients
from m2cnn.synthetic.dataset import encode
from m2cnn.synthetic.render import draw_grades


def test_both_eyes_of_a_patient_are_alike_in_colour_and_near_in_grade():
    grades = np.array([draw_grades(1, patient, (1, 1, 1, 1, 1)) for patient in range(1500)])
    assert np.abs(np.diff(grades)).max() <= 2
    assert 0.7 < (grades[:, 0] == grades[:, 1]).mean() < 0.9
    assert np.bincount(grades.ravel(), minlength=5).min() > 0.15 * grades.size
    colours = [np.median(one.image[one.image.max(2) > 20], 0) for _, _, _, one in render_patients(16, 2, 64)]
    left, right = np.log(np.array(colours)[0::2]), np.log(np.array(colours)[1::2])
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.75


def test_grades_that_are_not_wanted_never_come():
    grades = [draw_grades(1, patient, (3, 0, 1, 0, 0)) for patient in range(300)]
    assert set(np.ravel(grades)) == {0, 2}


def test_grades_keep_their_frequencies_in_both_eyes():
    wanted = np.array([0.735, 0.07, 0.15, 0.025, 0.02])  # EyePACS
    drawn = np.array([draw_grades(3, patient, tuple(wanted)) for patient in range(20_000)])
    for eye in (0, 1):
        assert np.bincount(drawn[:, eye], minlength=5) / len(drawn) == pytest.approx(wanted, abs=0.012)
    assert 0.75 < (drawn[:, 0] == drawn[:, 1]).mean() < 0.97


def test_render_patients_is_render():
    for patient, eye, grade, one in render_patients(2, 8, 96, lesions=False):
        again = render(8, grade, eye=eye, size=96, patient=patient, lesions=False)
        assert (one.eye, one.grade) == (eye, grade)
        assert np.array_equal(one.image, again.image)


def test_a_folder_of_photographs_and_its_rows(tmp_path):
    rows = render_dataset(tmp_path / "one", 3, Rendering(4, 96), workers=1)
    assert [row["eye"] for row in rows] == ["left", "right"] * 3
    assert len({row["patient"] for row in rows}) == 3
    for row in rows:
        data = (tmp_path / "one" / row["image"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["source"], row["split"], row["dme"], row["quality"]) == ("m2cnn synthetic", "", "", "")
    assert render_dataset(tmp_path / "two", 3, Rendering(4, 96), workers=2) == rows


def test_png_keeps_every_pixel_and_jpeg_nearly(tmp_path):
    picture = render(1, 2, size=96).image
    png, jpeg = (cv2.imdecode(np.frombuffer(encode(picture, kind), np.uint8), 1)[..., ::-1] for kind in ("png", "jpeg"))
    assert np.array_equal(png, picture)
    assert np.abs(jpeg.astype(int) - picture).mean() < 3
    row = render_dataset(tmp_path, 1, Rendering(1, 96, file_format="png"), workers=1)[0]
    assert row["image"].endswith("_left.png")


def test_thumbnails_do_not_show_the_grade():
    """Brightness and colour are nuisances: a linear model on 16-pixel thumbnails must not read the grade from them."""
    thumbs, grades, patients = [], [], []
    for patient, _, grade, one in render_patients(130, 11, 96):
        thumbs.append(np.log(cv2.resize(one.image, (16, 16), interpolation=cv2.INTER_AREA) + 8.0).ravel())
        grades.append(grade)
        patients.append(patient)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 5, 9)))
    severity = cross_val_predict(model, np.array(thumbs), grades, groups=patients, cv=GroupKFold(5))
    assert cohen_kappa_score(grades, np.clip(np.rint(severity), 0, 4).astype(int), weights="quadratic") < 0.2
    assert np.corrcoef(severity, grades)[0, 1] < 0.25


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grade": 5}, r"grade is 5; expected 0\.\.4"),
        ({"grade": -1}, r"grade is -1; expected 0\.\.4"),
        ({"grade": 0, "eye": "both"}, "eye is 'both'"),
        ({"grade": 0, "size": 20}, "size is 20; expected 64..8192 px"),
        ({"grade": 0, "seed": -1}, "whole numbers from 0"),
        ({"grade": 0, "patient": -3}, "whole numbers from 0"),
    ],
)
def test_render_refuses(arguments, message):
    with pytest.raises(SettingError, match=message):
        render(**({"seed": 0} | arguments))


@pytest.mark.parametrize("grades", [(1, 1), (0, 0, 0, 0, 0), (1, 1, 1, 1, -1)])
def test_grades_must_be_five_frequencies(tmp_path, grades):
    with pytest.raises(SettingError, match="5 frequencies"):
        render_dataset(tmp_path, 1, Rendering(0, 96, grades=grades))


def test_render_dataset_refuses(tmp_path):
    with pytest.raises(SettingError, match="'bmp'; expected jpeg or png"):
        render_dataset(tmp_path, 1, Rendering(0, 96, file_format="bmp"))
    with pytest.raises(SettingError, match="patients=0"):
        render_dataset(tmp_path, 0, Rendering(0, 96))
    for wrong, said in (
        ({"seed": -1}, "whole numbers from 0"),
        ({"size": 10**6}, "size is 1000000"),
        ({"cameras": ["kowa"]}, '"kowa"'),
    ):
        with pytest.raises(SettingError, match=said):
            Rendering(**{"seed": 0, "size": 96, **wrong})
    with pytest.raises(SettingError, match="1 or more"):
        render_dataset(tmp_path / "none", 1, Rendering(0, 96), workers=0)
    assert not (tmp_path / "none").exists()  # nothing was claimed for settings that are refused


def test_masks_lie_beside_the_photographs(tmp_path):
    rows = render_dataset(tmp_path, 2, Rendering(1, 160, grades=(0, 0, 0, 0, 1), masks=True), workers=1)
    for patient in range(2):
        for row in rows[2 * patient : 2 * patient + 2]:
            one = render(1, row["grade"], eye=row["eye"], size=160, patient=patient)
            name = row["image"].removesuffix(".jpeg") + ".png"
            found = {path.parent.name: cv2.imread(str(path), -1) for path in (tmp_path / "masks").glob(f"*/{name}")}
            assert found.keys() == one.masks.keys() > {"disc"}
            assert all(np.array_equal(found[kind], 255 * mask) for kind, mask in one.masks.items())


def test_what_somebody_else_put_there_is_not_taken_for_ours(tmp_path):
    (tmp_path / "s4-p00000_left.jpeg").write_bytes(b"\xff\xd8 an older renderer's \xff\xd9")
    with pytest.raises(SettingError, match=r"other files, such as s4-p00000_left.jpeg; expected an empty folder"):
        render_dataset(tmp_path, 1, Rendering(4, 96), workers=1)
    rows = render_dataset(tmp_path / "own", 1, Rendering(4, 96), workers=1)
    broken = tmp_path / "own" / rows[0]["image"]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    assert render_dataset(tmp_path / "own", 1, Rendering(4, 96), workers=1) == rows and broken.read_bytes() == whole


# Fields, cameras, and a folder that was begun


def test_two_fields_stand_beside_each_other_and_keep_patient_and_eye(tmp_path):
    one, two = (render_dataset(tmp_path / str(n), 2, Rendering(4, 96, fields=n), workers=1) for n in (1, 2))
    assert [row["image"].rpartition("_")[2] for row in two[:2]] == ["left.jpeg", "2.jpeg"]
    assert [row for row in two if not row["image"].endswith("_2.jpeg")] == one
    for row in two:
        assert patient_and_eye(row["image"]) == (row["patient"], row["eye"])
    assert [row["grade"] for row in two[::2]] == [row["grade"] for row in two[1::2]]


def test_a_patient_meets_only_the_cameras_that_are_asked_for(tmp_path):
    narrow = render_dataset(tmp_path / "narrow", 2, Rendering(4, 96, cameras=("idrid",), file_format="png"), workers=1)
    picture = cv2.imread(str(tmp_path / "narrow" / narrow[0]["image"]))[..., ::-1]
    assert np.array_equal(picture, render(4, narrow[0]["grade"], size=96, camera="idrid").image)
    with pytest.raises(SettingError, match='Did you mean "idrid"'):
        render_dataset(tmp_path / "other", 1, Rendering(4, 96, cameras=("idrd",)))


def test_a_killed_rendering_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    whole = render_dataset(tmp_path / "whole", 4, Rendering(9, 96, fields=2), workers=1)
    calls = []

    def until(stop):
        def counted(*key, **options):
            if len(calls) == stop:
                raise KeyboardInterrupt
            calls.append(key)
            return render(*key, **options)

        monkeypatch.setattr("m2cnn.synthetic.dataset.render", counted)

    until(7)
    with pytest.raises(KeyboardInterrupt):
        render_dataset(tmp_path / "killed", 4, Rendering(9, 96, fields=2), workers=1)
    assert len(list((tmp_path / "killed").glob("*.jpeg"))) == 7
    until(-1)
    assert render_dataset(tmp_path / "killed", 4, Rendering(9, 96, fields=2), workers=1) == whole
    assert len(calls) == len(whole)  # none was rendered twice
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "killed" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 2}, r"begun with seed=1; expected seed=2"),
        ({"lesions": False}, "begun with lesions=True"),
        ({"nuisances": NONE}, "begun with nuisances="),
        ({"cameras": ("idrid",)}, "begun with cameras="),
    ],
)
def test_a_folder_of_other_settings_is_refused_and_kept(tmp_path, changed, message):
    render_dataset(tmp_path, 1, Rendering(1, 96), workers=1)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(SettingError, match=message):
        render_dataset(tmp_path, 1, Rendering(**({"seed": 1, "size": 96} | changed)), workers=1)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_damaged_settings_file_is_refused(tmp_path):
    (tmp_path / "rendering.json").write_text("{", encoding="utf-8")
    with pytest.raises(SettingError, match="begun with no such settings"):
        render_dataset(tmp_path, 1, Rendering(1, 96), workers=1)


def test_fields_are_one_or_two(tmp_path):
    with pytest.raises(SettingError, match=r"fields: 3; expected 1 \(near the macula\) or 2"):
        render_dataset(tmp_path, 1, Rendering(0, 96, fields=3))
