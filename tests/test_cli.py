"""The command line: every verb, its exit codes, and one sentence instead of a traceback."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from m2cnn.cli import INTERRUPTED, OK, REFUSED, main
from m2cnn.cli_verb import UNGRADED
from m2cnn.data import IMPORTERS, Manifest, manifest, read_manifest, survey, write_manifest
from m2cnn.grades import DISCLAIMER
from m2cnn.synthetic import render


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_grade_prints_and_writes_a_row_per_photograph(capsys, tiny_run, rendered, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_text("text")
    good = rendered.path(rendered.rows[0])
    (tmp_path / "IM0001.dcm").touch()
    code, out, err = run(capsys, "grade", good, tmp_path, good, "--model", tiny_run, "--csv", tmp_path / "out.csv")
    assert code == UNGRADED
    assert "grade " in out.splitlines()[0] and out.splitlines()[1].startswith(
        f"{bad}: not gradable: unreadable, begins"
    )
    assert DISCLAIMER in out
    assert err.startswith(f"1 file passed over (1 .dcm): {tmp_path / 'IM0001.dcm'}; expected .jpeg, .jpg")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["gradable"] for row in rows] == ["true", "false"]
    assert rows[1]["grade"] == "" and rows[1]["reason"]
    assert sum(float(rows[0][f"p{n}"]) for n in range(5)) == pytest.approx(1)


def test_a_misspelt_photograph_is_an_error_and_a_damaged_one_a_row(capsys, tiny_run, rendered, tmp_path):
    good, bad, table = rendered.path(rendered.rows[0]), tmp_path / "bad.jpg", tmp_path / "out.csv"
    bad.write_text("text")
    for wrong, said in ((tmp_path / "god.jpg", "god.jpg: no such file"), (tiny_run / "val", "holds no photographs")):
        code, out, err = run(capsys, "grade", good, wrong, "--model", tiny_run, "--csv", table)
        assert (code, out) == (REFUSED, "") and said in err and not table.exists()
    code, out, _ = run(capsys, "grade", bad, "--model", tiny_run)
    assert code == UNGRADED and "not gradable: " in out and "unreadable" in out


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("grade", "a.jpg", "--model", ""), "--model"),
        (("patients", ""), "DIR"),
        (("compare", "", "b"), "DIR"),
        (("train", "--from", "", "--data", "d", "--out", "o"), "--from"),
        (("table", "ablation", "--only", "", "--out", "o"), "--cells"),
        (("data", "merge", "a=b", "--images", "", "--out", "o"), "--images"),
    ],
)
def test_an_unset_variable_is_no_choice(capsys, words, place):
    assert run(capsys, *words)[::2] == (
        REFUSED,
        f"m2cnn: {place}: an empty text; expected a value. Is a variable of your shell unset?\n",
    )


def test_grade_as_json(capsys, tiny_run, rendered):
    code, out, _ = run(capsys, "grade", rendered.path(rendered.rows[0]), "--model", tiny_run, "--json")
    said = json.loads(out)
    assert code == OK
    assert said["grade"] in range(5) and said["disclaimer"] == DISCLAIMER


def test_train_evaluate_compare(capsys, rendered, tmp_path):
    manifest = rendered.root / "manifest.csv"
    slim = ["--width", "1/16", "--ladder", "quarter", "network.repeats=[1,1,1]", "network.residual_blocks=1"]
    words = [*slim, "stages.0.rung=0", "stages.0.epochs=1", "stages.0.accumulate=1", "precision=32", "--seed", "3"]
    code, out, err = run(
        capsys, "train", "basenet-ce", "--data", manifest, "--out", tmp_path / "a", "--cache", tmp_path / "c", *words
    )
    assert code == OK
    assert "QWK" in out and DISCLAIMER in out
    taught = len(rendered.select("train"))
    assert f"{tmp_path / 'a' / 'bundle' / 'reference.json'}: {taught} of {taught} photographs" in out
    assert "pass 1/1" in err
    assert json.loads((tmp_path / "a" / "recipe.json").read_text())["seed"] == 3
    words = ["--split", "all", "--trained-on", "skip", "--replicates", 50]
    code, out, _ = run(capsys, "evaluate", tmp_path / "a", "--data", manifest, "--out", tmp_path / "e", *words)
    assert code == OK and (tmp_path / "e" / "predictions.csv").exists()
    assert out.endswith(f"{DISCLAIMER}\n{tmp_path / 'e'}: predictions.csv, metrics.json\n")
    code, out, _ = run(capsys, "compare", tmp_path / "e", tmp_path / "a" / "test", "--csv", tmp_path / "t.csv")
    assert code == OK and "QWK" in out
    written = (tmp_path / "t.csv").read_bytes()
    code, _, err = run(capsys, "compare", tmp_path / "e", tmp_path / "a" / "test", "--csv", tmp_path / "t.csv")
    assert code == REFUSED and "it exists" in err and (tmp_path / "t.csv").read_bytes() == written
    code, _, _ = run(capsys, "compare", tmp_path / "e", tmp_path / "a" / "test", "--csv", "/dev/null")
    assert code == OK
    reference = tmp_path / "a" / "bundle" / "reference.json"
    written = reference.read_bytes()
    code, out, _ = run(capsys, "train", "--resume", "--out", tmp_path / "a")
    assert code == OK and "reference.json" not in out
    reference.unlink()  # as where it was interrupted before
    code, out, _ = run(capsys, "train", "--resume", "--out", tmp_path / "a")
    assert code == OK and f"{reference}: " in out and reference.read_bytes() == written


def test_train_refuses_half_an_order(capsys, tmp_path, tiny_run):
    assert run(capsys, "train", "m2cnn", "--out", tmp_path / "r")[0] == REFUSED
    code, _, err = run(capsys, "train", "m2cnn", "--resume", "--out", tiny_run)
    assert code == REFUSED and "A run keeps its own" in err


def test_ctrl_c_is_no_traceback(capsys, monkeypatch):
    monkeypatch.setattr("m2cnn.recipe.recipe_names", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(capsys, "systems", "recipes")[0] == INTERRUPTED


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("grade x.jpg --modle y", "m2cnn grade [-h] [--model"),
        ("compare x --a=3", "m2cnn compare [-h]"),
        ("data split m.csv --trian 0.5", "m2cnn data split [-h]"),
        ("train m2cnn --out r --dta d a=1", "m2cnn train [-h]"),
        ("fly", "m2cnn [-h]"),
    ],
)
def test_mistyped_words_are_refused_with_the_usage_of_their_verb(capsys, words, usage):
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert capsys.readouterr().err.startswith(f"usage: {usage}")


def test_the_lockbox_opens_only_on_record(capsys, tiny_run, tmp_path, rendered):
    import shutil

    manifest = shutil.copy(tiny_run / "manifest.csv", tmp_path / "manifest.csv")
    words = [
        "evaluate",
        tiny_run,
        "--data",
        manifest,
        "--images",
        rendered.root,
        "--out",
        tmp_path / "e",
        "--split",
        "lockbox",
        "--prevalence",
        "0.1",
        "--prevalence",
        "any=0.3",
    ]
    code, _, err = run(capsys, *words)
    assert (
        code == REFUSED and "once all choices are made: m2cnn data open-lockbox MANIFEST --by WHO --reason WHY" in err
    )
    assert not (tmp_path / "e").exists()
    assert run(capsys, "data", "open-lockbox", manifest, "--by", "A. Tester", "--reason", "final number")[0] == OK
    assert run(capsys, *words)[0] == OK
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["context"]["lockbox"][0]["by"] == "A. Tester"
    assert metrics["prevalence"] == {"referable": 0.1, "any": 0.3}


def test_what_the_system_refuses_is_one_sentence(capsys, tiny_run, rendered, tmp_path):
    photograph = rendered.path(rendered.rows[0])
    before = photograph.read_bytes()
    for target in (tmp_path, photograph / "x.csv", photograph):
        code, _, err = run(capsys, "grade", photograph, "--model", tiny_run, "--csv", target)
        assert code == REFUSED and err.startswith("m2cnn: ")
    assert photograph.read_bytes() == before
    code, _, err = run(capsys, "evaluate", tiny_run, "--data", tiny_run, "--out", tmp_path / "e", "--replicates", 0)
    assert code == REFUSED and "20 or more" in err
    for word, message in (("8", "prevalence: 8; expected between 0 and 1"), ("any=x", "--prevalence: any=x; expected")):
        code, _, err = run(
            capsys, "evaluate", tiny_run, "--data", tiny_run, "--out", tmp_path / "e", "--prevalence", word
        )
        assert code == REFUSED and message in err
    assert run(capsys, "data", "import", "table", rendered.root, "name=x")[0] == REFUSED


def test_a_name_that_is_no_text_does_not_stop_the_others(capsys, tiny_run, rendered, tmp_path):
    import shutil

    first = rendered.path(rendered.rows[0])
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.jpeg")
    shutil.copy(first, strange)
    out = tmp_path / "o.csv"
    code, _, _ = run(capsys, "grade", strange, first, "--model", tiny_run, "--csv", out)
    assert code == OK and len(out.read_text().splitlines()) == 3


def test_a_manifest_is_not_overwritten(capsys, rendered):
    code, _, err = run(capsys, "data", "import", "table", rendered.root, f"csv={rendered.root / 'manifest.csv'}")
    assert code == REFUSED and "it exists" in err
    assert run(capsys, "data", "render", rendered.root, "--patients", 1)[0] == REFUSED


def test_all_leaves_the_lockbox_closed_where_nothing_was_split(rendered):
    from dataclasses import replace

    from m2cnn.data import Manifest, in_lockbox
    from m2cnn.evaluate import Selection

    bare = Manifest(tuple(replace(row, split="") for row in rendered), rendered.root)
    kept = {row.patient for row in bare.select("all")}
    assert kept == {row.patient for row in bare if not in_lockbox(row.patient)} != {row.patient for row in bare}
    chosen, said = Selection(("all",)).of(bare)
    assert said["in_the_closed_lockbox"] == len(bare) - len(chosen) > 0
    east = sorted({row.patient for row in bare})[::2]
    two = Manifest(tuple(replace(row, source="east" if row.patient in east else "west") for row in bare), bare.root)
    _, said = Selection(("all",), ("east",)).of(two)
    shut = sum(in_lockbox(row.patient) for row in two if row.source == "east")
    assert said.get("in_the_closed_lockbox", 0) == shut and said["sources"] == ["east"]
    _, said = Selection(("all",), ("west",)).of(two)
    assert shut + said.get("in_the_closed_lockbox", 0) == len(bare) - len(chosen)


def test_a_table_of_grades_is_not_written_over(capsys, tiny_run, rendered, tmp_path):
    photograph, grades = rendered.path(rendered.rows[0]), tmp_path / "grades.csv"
    words = ("grade", photograph, "--csv", grades, "--model")
    assert run(capsys, *words, tmp_path / "no-model")[0] == REFUSED and not grades.exists()
    assert run(capsys, *words, tiny_run)[0] == OK
    written = grades.read_bytes()
    code, out, err = run(capsys, *words, tiny_run)
    assert (code, out) == (REFUSED, "")
    assert f"{grades}: it exists; expected a file that is not there yet. Name another, or remove it yourself" in err
    assert grades.read_bytes() == written


def test_a_table_of_grades_is_whole_or_not_there(capsys, tiny_run, rendered, tmp_path, monkeypatch):
    from m2cnn.grader import Grader

    whole, grades = Grader.grade_exams, tmp_path / "grades.csv"
    words = ("grade", *(rendered.path(row) for row in rendered.rows[:2]), "--model", tiny_run, "--csv", grades)

    def interrupted(*told, **kept):
        yield next(whole(*told, **kept))
        raise KeyboardInterrupt

    monkeypatch.setattr(Grader, "grade_exams", interrupted)
    code, out, err = run(capsys, *words)
    assert code == INTERRUPTED and out.count("severity") == 1 and not grades.exists()
    assert "only with --csv, the same command continues" in err

    def overtaken(*told, **kept):
        yield from whole(*told, **kept)
        grades.write_text("another's")

    monkeypatch.setattr(Grader, "grade_exams", overtaken)
    code, _, err = run(capsys, *words)
    assert code == REFUSED and f"{grades}: it exists" in err and grades.read_text() == "another's"


def test_tables_of_a_comparison_and_of_patients_are_whole_or_not_there(capsys, tmp_path, monkeypatch):
    table, out = tmp_path / "theirs.csv", tmp_path / "out.csv"
    table.write_text("image,patient,pred,gt\n" + "\n".join(f"{n},{n // 2},{n % 5},{n % 5}" for n in range(20)))
    other = tmp_path / "other.csv"
    other.write_bytes(table.read_bytes())

    def full(*_):
        raise OSError(28, "No space left on device")

    for words in (("compare", table, other), ("patients", table, "--replicates", 20)):
        with monkeypatch.context() as disk:
            disk.setattr("os.fsync", full)
            code, _, err = run(capsys, *words, "--csv", out)
        assert code == REFUSED and "No space left" in err and not out.exists(), words
        assert run(capsys, *words, "--csv", out)[0] == OK and out.stat().st_size > 100
        out.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.csv", "theirs.csv"]


def test_a_result_is_not_written_over_and_says_where_it_is(capsys, tmp_path):
    theirs, out = tmp_path / "theirs.csv", tmp_path / "result"
    theirs.write_text("image,pred,gt\n" + "\n".join(f"{n},{n % 5},{n % 5}" for n in range(20)))
    words = ("evaluate", "--predictions", theirs, "--replicates", 20, "--out", out)
    code, said, _ = run(capsys, *words)
    assert code == OK and said.endswith(f"\n{out}: predictions.csv, metrics.json\n")
    for kept, other in (("metrics.json", "predictions.csv"), ("predictions.csv", "metrics.json")):
        (out / kept).write_text("kept")
        (out / other).unlink(missing_ok=True)
        code, _, err = run(capsys, *words)
        assert code == REFUSED and f"{out / kept}: it exists" in err and (out / kept).read_text() == "kept"
        (out / kept).unlink()


def test_systems(capsys):
    code, out, _ = run(capsys, "systems", "list")
    assert code == OK and "M2CNN" in out
    assert "demo" in run(capsys, "systems", "recipes")[1].split()
    code, out, _ = run(capsys, "systems", "show", "m2cnn", "--size", 720)
    assert code == OK and "mislabelled 299" in out
    code, out, _ = run(
        capsys, "systems", "show", "m2cnn", "--size", 112, "--width", "1/8", "--ladder", "quarter", "--json"
    )
    assert json.loads(out)["cells"] == 1
    assert "Did you mean" in run(capsys, "systems", "show", "m2cn")[2]


def test_data_verbs(capsys, tmp_path):
    code, out, _ = run(capsys, "data", "render", tmp_path / "r", "--patients", 12, "--size", 96, "--workers", 1)
    assert code == OK and "24 photographs of 12 patients" in out
    manifest = tmp_path / "r" / "manifest.csv"
    code, out, _ = run(capsys, "data", "split", manifest, "--train", 0.5, "--val", 0.25, "--test", 0.25)
    assert code == OK and "lockbox:" in out
    assert {row.split for row in read_manifest(manifest)} >= {"train", "val", "test"}
    check = ("data", "check", manifest, "--out", tmp_path / "check")
    assert run(capsys, *check)[0] == OK
    first = read_manifest(manifest).rows[0].image
    (tmp_path / "r" / first).write_bytes(b"changed")
    code, out, _ = run(capsys, *check)
    assert code == UNGRADED and first in out


def test_nothing_that_is_there_is_written_over(capsys, rendered, tmp_path):
    """--out names a new file: not a photograph, not a manifest with splits, not a device."""
    taken = tmp_path / "taken.jpg"
    taken.write_bytes(b"a photograph")
    manifest = rendered.root / "manifest.csv"
    for words in (
        ("import", "folders", rendered.root, "--out", taken),
        ("import", "table", rendered.root, f"csv={manifest}", "--out", taken),
        ("split", manifest, "--out", taken),
        ("check", manifest, "--out", tmp_path / "c", "--without-leaks", taken),
        ("check", manifest, "--out", tmp_path / "c", "--without-leaks", "/dev/null"),
    ):
        code, _, err = run(capsys, "data", *words)
        assert code == REFUSED and ("it exists" in err or "folder" in err), words
    assert taken.read_bytes() == b"a photograph" and not Path("/dev/null").is_file()


def test_a_manifest_elsewhere_is_split_with_its_folder_named(capsys, rendered, tmp_path):
    table = tmp_path / "set.csv"
    bare = Manifest(tuple(replace(row, split="") for row in rendered), rendered.root)
    write_manifest(bare, table)
    code, _, err = run(capsys, "data", "split", table)
    assert code == REFUSED and "are missing" in err
    code, out, err = run(capsys, "data", "split", table, "--images", rendered.root)
    assert code == OK and f"use it with --images {rendered.root}" in out, err
    assert all(row.split for row in read_manifest(table))
    words = ("data", "kfold", table, "--images", rendered.root, "--k", 2, "--out", tmp_path / "folds")
    assert run(capsys, *words)[0] == OK
    code, _, err = run(capsys, "data", "check", table)
    assert code == REFUSED and "Name it with --images" in err


def test_check_names_what_cannot_be_read(capsys, rendered, tmp_path):
    for row in rendered.rows[:3]:
        (tmp_path / row.image).write_bytes(rendered.path(row).read_bytes()[: 300 if row is rendered.rows[1] else None])
    rows = tuple(replace(row, sha256="") for row in rendered.rows[:3])
    write_manifest(Manifest(rows, tmp_path), tmp_path / "manifest.csv")
    code, out, _ = run(capsys, "data", "check", tmp_path, "--out", tmp_path / "check")
    assert code == UNGRADED and f"{rows[1].image}: damaged picture" in out and rows[0].image not in out


def test_check_hashes_each_photograph_once_and_trusts_no_memory(capsys, rendered, tmp_path, monkeypatch):
    rows, opened = rendered.rows[:3], []
    for row in rows:
        (tmp_path / row.image).write_bytes(rendered.path(row).read_bytes())
    write_manifest(Manifest(rows, tmp_path), tmp_path / "manifest.csv")
    assert all(row.sha256 for row in rows)
    for module, name in ((survey, "file_bytes"), (survey, "file_hash"), (manifest, "file_hash")):
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path, plain=plain: opened.append(Path(path).name) or plain(path))
    check = ("data", "check", tmp_path, "--out", tmp_path / "check", "--workers", 1)
    for _ in "first", "from memory":
        code, out, _ = run(capsys, *check)
        assert code == OK and "the hashes of 3, and they hold" in out
        assert sorted(opened) == sorted(row.image for row in rows)
        opened.clear()
    file = tmp_path / rows[1].image
    before, data = file.stat(), bytearray(file.read_bytes())
    data[-3] ^= 1  # of the same length and time, as where a disk goes bad
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, out, _ = run(capsys, *check)
    assert code == UNGRADED and f"row 3, {rows[1].image}: its bytes have changed (sha256)" in out
    file.unlink()
    assert f"row 3, {rows[1].image}: no such file" in run(capsys, *check)[1]


def test_data_kfold_writes_a_manifest_per_fold(capsys, rendered, tmp_path):
    words = ["data", "kfold", rendered.root / "manifest.csv", "--k", 3, "--out", tmp_path / "folds"]
    code, out, err = run(capsys, *words)
    assert code == OK, err
    assert len(out.splitlines()) == 3 and all(f"--images {rendered.root}" in line for line in out.splitlines())
    folds = [read_manifest(tmp_path / "folds" / f"fold-{number}.csv") for number in (1, 2, 3)]
    held = [{row.patient for row in fold if row.split == "val"} for fold in folds]
    aside = {row.patient for row in rendered if row.split in ("test", "lockbox")}
    assert all(held) and sum(map(len, held)) == len(set.union(*held))
    assert set.union(*held) | aside == {row.patient for row in rendered} and not set.union(*held) & aside
    for fold, patients in zip(folds, held, strict=True):
        assert not patients & {row.patient for row in fold if row.split != "val"}
        assert [row.image for row in fold] == [row.image for row in rendered]
    (tmp_path / "folds" / "fold-1.csv").unlink()
    assert run(capsys, *words)[0] == OK  # as after a kill
    code, _, err = run(capsys, *words, "--seed", 1)
    assert code == REFUSED and "fold-1.csv: it exists" in err
    code, _, err = run(capsys, *words[:4], 1, "--out", tmp_path / "more")
    assert code == REFUSED and "k is 1" in err and not (tmp_path / "more").exists()


def test_the_help_of_import_lists_every_dataset(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["data", "import", "--help"])
    out = capsys.readouterr().out
    for name, importer in IMPORTERS.items():
        assert f"  {name:<12} {importer.title}\n" in out
        assert f" known by {importer.layout}\n".removeprefix(" known by \n") in out
        assert importer.terms in out
    assert "options pictures= npz=" in out and DISCLAIMER in out


def test_data_render_takes_fields_cameras_and_nuisances(capsys, tmp_path):
    words = ("--patients", 1, "--size", 96, "--workers", 1, "--fields", 2, "--cameras", "idrid")
    code, out, err = run(capsys, "data", "render", tmp_path / "r", *words, "laser=1", "flare=0")
    assert code == OK and "4 photographs of 1 patients" in out
    assert err == "rendering patients: 1 of 1\n"
    rows = read_manifest(tmp_path / "r" / "manifest.csv").rows
    assert [row.eye for row in rows] == ["left", "left", "right", "right"]
    made = json.loads((tmp_path / "r" / "rendering.json").read_text(encoding="utf-8"))
    assert (made["cameras"], made["nuisances"]["laser"], made["nuisances"]["flare"]) == (["idrid"], 1.0, 0.0)
    for wrong, said in (
        (("--cameras", "idird"), 'Did you mean "idrid"'),
        (("--fields", 3), "expected 1 (near the macula) or 2"),
        (("lazer=1",), 'Did you mean "laser"'),
    ):
        code, _, err = run(capsys, "data", "render", tmp_path / "wrong", "--patients", 1, *wrong)
        assert code == REFUSED and said in err
    assert not (tmp_path / "wrong").exists()


def test_data_render_goes_on_where_it_was_interrupted(capsys, tmp_path, monkeypatch):
    words = ("--patients", 2, "--size", 96, "--workers", 1)
    assert run(capsys, "data", "render", tmp_path / "whole", *words)[0] == OK
    photographs = []

    def interrupted(*key, **options):
        if len(photographs) == 3:
            raise KeyboardInterrupt
        photographs.append(render(*key, **options))
        return photographs[-1]

    monkeypatch.setattr("m2cnn.synthetic.dataset.render", interrupted)
    code, _, err = run(capsys, "data", "render", tmp_path / "killed", *words)
    assert code == INTERRUPTED and "the same command continues" in err
    assert not (tmp_path / "killed" / "manifest.csv").exists()
    monkeypatch.undo()
    assert run(capsys, "data", "render", tmp_path / "killed", *words)[0] == OK
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "killed" / file.name).read_bytes() == file.read_bytes()


def test_data_import(capsys, tmp_path, rendered):
    table = tmp_path / "labels.csv"
    rows = "\n".join(f"{row.image},{row.patient},{row.grade}" for row in rendered)
    table.write_text(f"file,who,level\n{rows}\n")
    code, out, err = run(
        capsys,
        "data",
        "import",
        "table",
        rendered.root,
        f"csv={table}",
        "image=file",
        "patient=who",
        "grade=level",
        "--out",
        tmp_path / "m.csv",
    )
    assert code == OK, err
    assert "--images" in out
    assert [r.grade for r in read_manifest(tmp_path / "m.csv")] == [
        r.grade for r in sorted(rendered, key=lambda r: r.image)
    ]


def test_a_manifest_with_another_column_is_imported_as_its_refusal_says(capsys, tmp_path, rendered):
    table, lines = tmp_path / "t.csv", (rendered.root / "manifest.csv").read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([f"{lines[0]},camera", *(f"{line},A" for line in lines[1:])]), encoding="utf-8")
    code, _, err = run(capsys, "data", "check", table, "--images", rendered.root)
    words = err.partition(": m2cnn ")[2].partition(".csv.\n")[0].split()
    assert code == REFUSED and words == ["data", "import", "table", "FOLDER", f"csv={table}", "--out", "NEW"]
    words[3], words[6] = rendered.root, tmp_path / "new.csv"
    assert run(capsys, *words)[0] == OK
    assert list(read_manifest(tmp_path / "new.csv")) == sorted(rendered, key=lambda row: row.image)
