"""Tables of cases and patterns with wildcards: what people have lying about becomes cases, and every mistake is told with its place."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autounet.dataset import read_dataset
from autounet.dataset_globs import Patterns, channel_name, find_files, match_cases
from autounet.dataset_json import alike_patients
from autounet.dataset_table import TableCase, read_table, safe_name
from autounet.dataset_writing import description, path_text
from autounet.errors import DatasetError, UsageError


def touch(folder: Path, *names: str) -> Path:
    """Empty files: no image is opened here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def table(folder: Path, text: str, name: str = "cases.csv") -> Path:
    (folder / name).write_bytes(text.encode("utf-8"))
    return folder / name


def faults(path: Path, channels: Sequence[str] = (), labelled: bool = True) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        read_table(path, channels, labelled)
    assert all(problem.remedy for problem in caught.value.problems)
    return [f"{problem.case}: {problem.what}" for problem in caught.value.problems] or [str(caught.value)]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two images with their label maps, named as nobody should."""
    return touch(tmp_path, "T1 scans/ä b.nii.gz", "T1 scans/c.nii.gz", "seg/ä b.nii.gz", "seg/c.nii.gz")


def test_patients_that_may_be_one() -> None:
    """By capitals, by leading zeros; zeros elsewhere count."""
    assert alike_patients(["Ng", "ng", "P01", "p1", "P10", "1.05", "1.5", "Ng"]) == [("Ng", "ng"), ("P01", "p1")]
    assert alike_patients(["7", "007", "7.0", "70"]) == [("007", "7"), ("007", "7.0")]


class TestTables:
    def test_a_plain_table(self, two: Path) -> None:
        text = (
            "id,image,label,patient,fold,annotated\nA,T1 scans/ä b.nii.gz,seg/ä b.nii.gz,p1,0,liver\nB,T1 scans/c.nii.gz,seg/c.nii.gz,,,\n"
        )
        first, second = read_table(table(two, text))
        assert first == TableCase("row 2", "A", (two / "T1 scans/ä b.nii.gz",), two / "seg/ä b.nii.gz", "p1", 0, ("liver",))
        assert (second.id, second.patient, second.fold, second.annotated) == ("B", None, None, None)

    @pytest.mark.parametrize(
        "text",
        [
            '\ufeffId;Image;Label\r\n"A";"T1 scans/ä b.nii.gz";"seg/ä b.nii.gz"\r\n;;\r\n',
            "sep=;\r\nid;image;label\r\nA;T1 scans/ä b.nii.gz;seg/ä b.nii.gz\r\n",
            "id\timage\tlabel\nA\tT1 scans/ä b.nii.gz\tseg/ä b.nii.gz",
            "id,image,label,\nA,T1 scans\\ä b.nii.gz,seg\\ä b.nii.gz,\n",
        ],
        ids=["excel, semicolons, byte-order mark", "excel's own line", "tabs", "from Windows"],
    )
    def test_dialects(self, text: str, two: Path) -> None:
        (case,) = read_table(table(two, text))
        assert (case.id, case.images, case.label) == ("A", (two / "T1 scans/ä b.nii.gz",), two / "seg/ä b.nii.gz")

    def test_excels_unicode_text(self, two: Path) -> None:
        (two / "cases.tsv").write_bytes("image\tlabel\nT1 scans/ä b.nii.gz\tseg/ä b.nii.gz\n".encode("utf-16"))
        assert read_table(two / "cases.tsv")[0].id == "ä_b"

    def test_a_patient_is_one_however_it_is_written(self, tmp_path: Path) -> None:
        """Umlauts composed and apart, blanks, and numbers as a spreadsheet or pandas writes them; folds the same."""
        touch(tmp_path, *(f"{name}{n}.nii.gz" for name in "is" for n in range(9)))
        written = ["M\u00fcller", "Mu\u0308ller ", "1", "1.0", "1.00", "01", "1.05", "x1.0", " "]
        rows = "".join(f"i{n}.nii.gz,s{n}.nii.gz,{name},{('0', '0.0')[n % 2]}\n" for n, name in enumerate(written))
        cases = read_table(table(tmp_path, "image,label,patient,fold\n" + rows))
        assert [case.patient for case in cases] == ["Müller", "Müller", "1", "1", "1", "01", "1.05", "x1.0", None]
        assert {case.fold for case in cases} == {0}
        rows_of_json = [{"image": f"i{n}.nii.gz", "label": f"s{n}.nii.gz", "patient": name} for n, name in enumerate((1, 1.0, "1"))]
        assert {case.patient for case in read_table(table(tmp_path, json.dumps(rows_of_json), "cases.json"))} == {"1"}

    def test_channels_by_number_by_name_and_in_json(self, tmp_path: Path) -> None:
        touch(tmp_path, "a1.nii.gz", "a2.nii.gz", "s.nii.gz")
        images = (tmp_path / "a1.nii.gz", tmp_path / "a2.nii.gz")
        assert read_table(table(tmp_path, "image_1,image_0,label\na2.nii.gz,a1.nii.gz,s.nii.gz\n"))[0].images == images
        assert read_table(table(tmp_path, "t2,T1,label\na2.nii.gz,a1.nii.gz,s.nii.gz\n"), ["T1", "T2"])[0].images == images
        row = {"images": ["a1.nii.gz", "a2.nii.gz"], "label": "s.nii.gz", "patient": 7, "fold": 1, "annotated": ["x"]}
        (case,) = read_table(table(tmp_path, json.dumps([row]), "cases.json"))
        assert (case.where, case.images, case.patient, case.fold, case.annotated) == ("entry 1", images, "7", 1, ("x",))

    def test_names_come_from_the_label_map_or_else_from_the_image(self, tmp_path: Path) -> None:
        touch(tmp_path, "a_0000.nii.gz", "truth.nii.gz")
        path = table(tmp_path, "image,label\na_0000.nii.gz,truth.nii.gz\n")
        assert read_table(path)[0].id == "truth"
        assert [(case.id, case.label) for case in read_table(path, labelled=False)] == [("a", None)]

    def test_all_that_is_wrong_is_told_with_its_row(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.nii.gz", "b.nii.gz", "s.nii.gz", "t.nii.gz", "note.txt")
        text = (
            "id,image,label,fold,age\n"
            "A,a.nii.gz,s.nii.gz,0,50\n"
            "A,b.nii.gz,t.nii.gz,0,50\n"
            "C,a.nii.gz,gone.nii.gz,0,50\n"
            "D,./a.nii.gz,s.nii.gz,x,50\n"
            "E,,s.nii.gz,0,50\n"
            "F,a.nii.gz,,0,50\n"
            "G,note.txt,s.nii.gz,,\n"
            "h,a.nii.gz,s.nii.gz,0,50\n"
            "H,b.nii.gz,b.nii.gz,0,50\n"
        )
        assert faults(table(tmp_path, text)) == [
            "columns: 'age' is unknown",
            f"row 4: label map not found: {tmp_path / 'gone.nii.gz'}",
            "row 5: fold 'x' is no number of a fold",
            "row 6: no image is named",
            "row 7: no label map is named",
            "row 8: image note.txt is no image",
            "row 3: the name 'A' is also that of row 2",
            "row 9: image a.nii.gz is also the image of row 2",
            "row 9: label map s.nii.gz is also the label map of row 2",
            "row 10: 'H' and 'h' of row 9 differ in capitals alone",
            "row 10: image b.nii.gz is also the image of row 3",
            "row 10: label map b.nii.gz is also the image of row 3",
        ]

    def test_two_channels_that_are_one_file(self, tmp_path: Path) -> None:
        """Also by a link."""
        touch(tmp_path, "a.nii.gz", "s.nii.gz")
        os.symlink(tmp_path / "a.nii.gz", tmp_path / "link.nii.gz")
        text = "image_0,image_1,label\na.nii.gz,link.nii.gz,s.nii.gz\n"
        assert faults(table(tmp_path, text)) == ["row 2: image link.nii.gz is also the image of itself"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "no cases in it"),
            ("image,label\n", "no cases in it"),
            ("image,label\n,\n", "no cases in it"),
            ("image,image\na,b\n", "two columns of the name image"),
            ("image,label\na,b,c\n", "row 2 has cells without a column"),
            ('image,label\n"a,b\n', "row 2 cannot be read"),
            ("picture,label\na,b\n", "columns: 'picture' is unknown"),
        ],
    )
    def test_tables_that_are_none(self, text: str, words: str, tmp_path: Path) -> None:
        assert words in faults(table(tmp_path, text))[0]

    @pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', "[]"])
    def test_json_that_is_no_table(self, text: str, tmp_path: Path) -> None:
        assert faults(table(tmp_path, text, "cases.json"))

    def test_other_encodings_are_not_guessed(self, tmp_path: Path) -> None:
        (tmp_path / "cases.csv").write_bytes("image,label\nä.nii.gz,s.nii.gz\n".encode("cp1252"))
        assert "is not in UTF-8. Save it as 'CSV UTF-8'" in faults(tmp_path / "cases.csv")[0]

    def test_channels_that_a_row_lacks(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.nii.gz", "s.nii.gz")
        assert faults(table(tmp_path, "T1,T2,label\na.nii.gz,,s.nii.gz\n"), ["T1", "T2"]) == ["row 2: no image for T2"]
        assert faults(table(tmp_path, "image_0,image_2,label\na.nii.gz,a.nii.gz,s.nii.gz\n")) == ["row 2: images 0, 2 have gaps"]


PIECES = ["image", "label", "fold", ",", ";", "\n", '"', "~x", "\0", "a" * 300, "1e9", "\ufeff"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_whatever_a_table_holds_it_is_cases_or_one_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cases.csv", "cases.tsv", "cases.json"):
            (Path(folder) / name).write_bytes(text.encode("utf-8", "surrogatepass"))
            with pytest.raises(DatasetError):
                read_table(Path(folder) / name)


class TestPatterns:
    def test_one_folder_for_each_case(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(touch(tmp_path, *(f"ct/{case}/{name}.nii.gz" for case in ("b 1", "ä", "c") for name in ("T1", "T2", "seg"))))
        cases = match_cases(Patterns(("ct/*/T1.nii.gz", "ct/*/T2.nii.gz"), "ct/*/seg.nii.gz"))
        assert [case.id for case in cases] == ["b_1", "c", "ä"]
        assert cases[0].images == (tmp_path / "ct/b 1/T1.nii.gz", tmp_path / "ct/b 1/T2.nii.gz")
        assert cases[0].label == tmp_path / "ct/b 1/seg.nii.gz"

    def test_bids(self, tmp_path: Path) -> None:
        """``sub-*`` twice is one part of the name; sessions are another."""
        for case in ("01_ses-1", "01_ses-2", "02_ses-1"):
            subject, session = case.split("_")
            touch(tmp_path, f"sub-{subject}/{session}/anat/sub-{case}_T1w.nii.gz", f"derivatives/sub-{case}_seg.nii.gz")
        image, label = f"{tmp_path}/sub-*/ses-*/anat/sub-*_ses-*_T1w.nii.gz", f"{tmp_path}/derivatives/sub-*_ses-*_seg.nii.gz"
        cases = match_cases(Patterns((image,), label, id="s{1}x{2}", patient="{1}"))
        assert [(case.id, case.patient) for case in cases] == [("s01x1", "01"), ("s01x2", "01"), ("s02x1", "02")]

    def test_wildcards_that_tell_nothing_apart_are_passed_over(self, tmp_path: Path) -> None:
        touch(tmp_path, "a/v2/x.nii.gz", "b/v2/x.nii.gz", "seg/a.nii.gz", "seg/b.nii.gz")
        assert [case.id for case in match_cases(Patterns((f"{tmp_path}/*/v*/x.nii.gz",), f"{tmp_path}/seg/*.nii.gz"))] == ["a", "b"]

    def test_any_depth_and_hidden_files(self, tmp_path: Path) -> None:
        touch(tmp_path, "im/x/y/a.nii.gz", "im/b.nii.gz", "im/._b.nii.gz", "im/note.txt", "seg/x/y/a.nii.gz", "seg/b.nii.gz")
        found = find_files(f"{tmp_path}/im/**/*", "--images")
        assert sorted(found.values()) == [("", "b.nii.gz"), ("x/y", "a.nii.gz")]
        cases = match_cases(Patterns((f"{tmp_path}/im/**/*.nii.gz",), f"{tmp_path}/seg/**/*.nii.gz"))
        assert [case.id for case in cases] == ["b", "x_y_a"]

    def test_what_is_alone_is_told_together(self, tmp_path: Path) -> None:
        touch(tmp_path, "im/a.nii.gz", "im/b.nii.gz", "im/c.nii.gz", "seg/b.nii.gz", "seg/d.nii.gz")
        with pytest.raises(DatasetError) as caught:
            match_cases(Patterns((f"{tmp_path}/im/*.nii.gz",), f"{tmp_path}/seg/*.nii.gz"))
        told = {problem.case: problem.what for problem in caught.value.problems}
        assert list(told) == ["a", "c", "d"]
        assert told["a"] == f"--labels {tmp_path}/seg/*.nii.gz: no file that goes with {tmp_path}/im/a.nii.gz"
        assert told["d"] == f"--images {tmp_path}/im/*.nii.gz: no file that goes with {tmp_path}/seg/d.nii.gz"

    def test_two_files_of_one_case_and_two_cases_of_one_name(self, tmp_path: Path) -> None:
        """The ending is no part of a name."""
        touch(tmp_path, "im/a.nii.gz", "im/a.nii", "im/b.nii", "seg/a.nii", "seg/b.nii.gz")
        touch(tmp_path, "x/p 1/i.nii", "x/p_1/i.nii", "y/p 1.nii", "y/p_1.nii")
        with pytest.raises(DatasetError) as caught:
            match_cases(Patterns((f"{tmp_path}/im/*.nii*",), f"{tmp_path}/seg/*.nii*"))
        (problem,) = caught.value.problems
        assert f"finds both {tmp_path}/im/a.nii and {tmp_path}/im/a.nii.gz" in problem.what
        with pytest.raises(DatasetError) as caught:
            match_cases(Patterns((f"{tmp_path}/x/*/i.nii",), f"{tmp_path}/y/*.nii"))
        assert "the name 'p_1' is also that of" in caught.value.problems[0].what

    @pytest.mark.parametrize(
        ("patterns", "words"),
        [
            (
                Patterns(("none/*.nii.gz",), "seg/*.nii.gz"),
                "--images none/*.nii.gz: finds no image. Check the pattern, and put it in quotes",
            ),
            (Patterns(("im/[z-a].nii.gz",), "seg/*.nii.gz"), "--images im/[z-a].nii.gz: is no pattern"),
            (Patterns(("*/*/x.nii.gz",), "seg/*.nii.gz"), "different numbers of wildcards"),
            (Patterns(("im/*.nii.gz",), "seg/*.nii.gz", id="{2}"), "no wildcard 2: found the first pattern of --images has 1 wildcard"),
            (Patterns(("im/*.nii.gz",), "seg/*.nii.gz", patient="p"), "--patient p: names no wildcard"),
        ],
    )
    def test_wrong_usage(self, patterns: Patterns, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(touch(tmp_path, "im/a.nii.gz", "im/b.nii.gz", "seg/a.nii.gz", "seg/b.nii.gz", "p/1/x.nii.gz", "q/2/x.nii.gz"))
        with pytest.raises(UsageError) as caught:
            match_cases(patterns)
        assert words in str(caught.value)

    def test_a_folder_with_brackets_in_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Patterns are relative to where the command runs, whatever that is called."""
        monkeypatch.chdir(touch(tmp_path / "study [1]", "im/a.nii.gz", "seg/a.nii.gz"))
        assert [case.id for case in match_cases(Patterns(("im/*.nii.gz",), "seg/*.nii.gz"))] == ["a"]
        assert [case.id for case in match_cases(Patterns(("im/[ab].nii.gz",), "seg/?.nii.gz"))] == ["a"]

    @pytest.mark.parametrize(
        ("pattern", "name"),
        [
            ("ct/*/T1.nii.gz", "T1"),
            ("*_flair.nii.gz", "flair"),
            ("imagesTr/*_0000.nii.gz", "channel_3"),
            ("*.png", "channel_3"),
            ("ct\\*\\CT.nii", "CT"),
        ],
    )
    def test_names_of_channels(self, pattern: str, name: str) -> None:
        assert channel_name(pattern, 3) == name


@pytest.mark.parametrize(
    ("text", "name"), [("a/b\\c", "a_b_c"), (" ü 1 ", "ü_1"), ('x:*?"<>|y', "x_y"), ("..", "case"), ("a\n\tb.", "a_b"), ("東京", "東京")]
)
def test_safe_names(text: str, name: str) -> None:
    assert safe_name(text) == name


class TestWriting:
    def test_a_tree_can_be_moved_as_a_whole(self, tmp_path: Path) -> None:
        touch(tmp_path / "study", "scans/ä 1.nii.gz", "seg/1.nii.gz")
        root = tmp_path / "study" / "sets" / "Dataset007_X"
        root.mkdir(parents=True)
        case = TableCase("", "one", (tmp_path / "study/scans/ä 1.nii.gz",), tmp_path / "study/seg/1.nii.gz", "p", 0, ("x",))
        content = description(root, ["MRI"], {"background": 0, "x": 1, "y": 2}, [case], {})
        assert content["dataset"]["one"] == {"images": ["../../scans/ä 1.nii.gz"], "label": "../../seg/1.nii.gz", "patient": "p", "fold": 0}
        (root / "dataset.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        (tmp_path / "study").rename(tmp_path / "moved")
        (read,) = read_dataset(tmp_path / "moved/sets/Dataset007_X").cases
        assert read.images == (tmp_path / "moved/scans/ä 1.nii.gz",)
        assert (read.patient, read.fold, read.annotated) == ("p", 0, ("x",))

    def test_what_shares_no_folder_is_absolute(self) -> None:
        assert path_text(Path("/archive/a.nii.gz"), Path("/home/me/Dataset007_X")) == "/archive/a.nii.gz"
        assert path_text(Path("/home/me/ct/a.nii.gz"), Path("/home/me/Dataset007_X")) == "../ct/a.nii.gz"

    def test_a_dataset_behind_a_link(self, tmp_path: Path) -> None:
        """``..`` goes up from the link, as the path shows it, and not from where the link leads."""
        touch(tmp_path, "ct/a.nii.gz", "ct/s.nii.gz")
        (tmp_path / "far/away").mkdir(parents=True)
        os.symlink(tmp_path / "far/away", tmp_path / "Dataset007_X")
        root = tmp_path / "Dataset007_X"
        case = TableCase("", "a", (tmp_path / "ct/a.nii.gz",), tmp_path / "ct/s.nii.gz")
        (root / "dataset.json").write_text(json.dumps(description(root, ["MRI"], {"background": 0, "x": 1}, [case], {})))
        assert read_dataset(root).cases[0].images[0].samefile(tmp_path / "ct/a.nii.gz")
