"""The page as text: self-contained, safe with hostile names, whole whatever is there."""

import base64
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from autounet.dataset import read_dataset
from autounet.errors import ArtefactError
from autounet.images import read_image, read_labels
from autounet.layout import RunLayout
from autounet.report import page as page_module
from autounet.report.evidence import gather
from autounet.report.page import build_page, digest_of_page, page_digest
from autounet.runtime import Runtime
from autounet.splits import Splits

ALONE = Runtime(device="cpu", workers=0)
HOSTILE = "</script><script>document.title='owned'</script>"

VOID = {"meta", "link", "img", "input"}


class Reader(HTMLParser):
    """Elements with their attributes, text by element, and whatever is not closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.crossed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def payload_of(text: str, name: str = "payload") -> dict:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, flags=re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_elements_are_closed_in_order_and_ids_are_unique(page: str) -> None:
    reader = read(page)
    assert reader.crossed == []
    assert reader.open == []
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in reader.elements if tag == "a"]
    assert {str(link)[1:] for link in links} <= set(ids), "links lead to sections"
    named = [attributes.get("aria-labelledby") for _, attributes in reader.elements]
    assert {name for name in named if name} <= set(ids)


def test_nothing_comes_from_outside(page: str) -> None:
    """No element names a place but in the file itself, and the policy forbids what might slip in."""
    reader = read(page)
    places = [
        attributes[key] for _, attributes in reader.elements for key in ("src", "href", "srcset", "action", "data") if key in attributes
    ]
    assert all(str(place).startswith(("#", "data:image/")) for place in places)
    assert "@import" not in page
    assert "url(" not in page
    (policy,) = [
        str(attributes["content"]) for _, attributes in reader.elements if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert (len(content), rules[kind]) == (1, f"'sha256-{digest}'")
    assert not any("style" in attributes or any(name.startswith("on") for name in attributes) for _, attributes in reader.elements)


def test_hostile_names_are_text(page: str) -> None:
    """Of a class, a channel and every case. The browser test looks whether anything of them is run."""
    reader = read(page)
    payload = payload_of(page)
    assert sum(tag == "script" for tag, _ in reader.elements) == 2 + len(payload["viewer"]), "the page's own, and its data"
    texts = [text for _, text in reader.text]
    assert any(HOSTILE in text for tag, text in reader.text if tag == "th")
    assert any(text == "<i>MRI</i>" for tag, text in reader.text if tag == "th")
    assert any("box<b>&\"' {{1}} " in text for text in texts)
    assert payload["classes"][1]["name"] == HOSTILE
    assert not {"i"} & {tag for tag, _ in reader.elements}


def test_numbers_are_those_of_the_scores(page: str, boxes) -> None:
    """The means in the table of results, recomputed here from scores.json of the four folds."""
    dice: dict[str, list[float]] = {"box": [], HOSTILE: []}
    for fold in range(4):
        cases = json.loads(boxes.layout.fold("3d_fullres", str(fold)).scores.read_text())["cases"]
        for scores in cases.values():
            for name, score in scores.items():
                dice[name] += [] if score["dice"] is None else [score["dice"]]
    text = " ".join(text.strip() for _, text in read(page).text)
    for values in dice.values():
        assert f"{np.mean(values):.3f}" in text
    main = payload_of(page)["results"][payload_of(page)["main"]]
    assert (main["configuration"], len(main["rows"])) == ("3d_fullres", 16)


def test_sizes_are_in_millilitres(page: str, boxes) -> None:
    """Voxels of the file, of 2.5 × 1 × 1 mm each."""
    case = read_dataset(boxes.root).cases[0]
    voxels = int((read_labels(case.label)[0] == 1).sum())
    row = next(row for row in payload_of(page)["data"]["cases"] if row[0] == case.id)
    assert row[3][0] == pytest.approx(voxels * 2.5 / 1000, rel=1e-4)
    assert row[1:3] == [[12, 20, 24], [2.5, 1.0, 1.0]]


def test_the_worst_case_comes_first_and_its_slices_are_its_own(page: str, boxes) -> None:
    payload = payload_of(page)
    rows = payload["results"][payload["main"]]["rows"]
    means = {row[0]: np.mean([value for value in row[2][0] if value is not None]) for row in rows}
    assert payload["viewer"][0]["case"] == min(means, key=lambda case: means[case])
    assert [entry["group"] for entry in payload["viewer"]] == ["worst"] * 4 + ["median"] * 2 + ["best"] * 2
    first = payload_of(page, "case-0")
    assert first["case"] == payload["viewer"][0]["case"]
    assert (first["shape"], first["planes"]) == ([12, 20, 24], ["axial", "coronal", "sagittal"])


def test_only_what_is_there_is_shown(tmp_path: Path, boxes, runs: ModuleType) -> None:
    layout = runs.make_run(boxes.root, tmp_path, {})
    text = build_page(gather(layout), read_dataset(boxes.root), ALONE)
    assert "Nothing is trained yet. Run <code>autounet train</code>." in text
    assert 'id="plan"' in text
    assert 'id="results"' not in text
    assert read(text).open == []
    layout.plan.unlink()
    text = build_page(gather(layout), None, ALONE)
    assert 'id="plan"' not in text
    assert "No plan yet" in text


def test_without_the_images_there_are_no_slices(boxes) -> None:
    text = build_page(gather(boxes.layout), None, ALONE)
    assert payload_of(text)["viewer"] == []
    assert "The images are not at hand" in text


def test_damaged_and_missing_parts_are_named(tmp_path: Path, boxes, runs: ModuleType) -> None:
    layout = RunLayout(tmp_path / "run")
    shutil.copytree(boxes.layout.root, layout.root)
    layout.fold("3d_fullres", "0").scores.write_text("{}")
    layout.fold("3d_fullres", "1").weights.unlink()
    layout.fold("3d_fullres", "2").history.write_text("not json\n")
    (layout.manifest).write_text("[")
    shutil.rmtree(layout.fold("3d_fullres", "3").validation)
    evidence = gather(layout)
    notes = "\n".join(evidence.missing)
    assert "scores.json: is not a scores" in notes
    assert "3d_fullres: fold 4 not trained" in notes
    assert "3d_fullres: fold 1 begun, training has not ended" in notes
    assert "3d_fullres: fold 0 trained, but not scored" in notes
    assert "history.jsonl: cannot be read as a training history" in notes
    text = build_page(evidence, read_dataset(boxes.root), ALONE)
    assert read(text).crossed == []
    assert "its prediction is not there any more" in text
    layout.fingerprint.unlink()
    with pytest.raises(ArtefactError, match="no fingerprint here"):
        gather(layout)


def test_an_equal_digest_means_up_to_date(tmp_path: Path, boxes, page: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page)
    assert digest_of_page(path) == page_digest(gather(boxes.layout), True)
    layout = RunLayout(tmp_path / "run")
    shutil.copytree(boxes.layout.root, layout.root)
    assert page_digest(gather(layout), True) == digest_of_page(path), "the same evidence elsewhere"
    layout.fold("2d", "0").scores.unlink()
    assert page_digest(gather(layout), True) != digest_of_page(path)
    assert digest_of_page(tmp_path / "nothing.html") is None
    path.write_text("<html>")
    assert digest_of_page(path) is None


def test_the_page_is_never_larger_than_it_may_be(boxes, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    """The slices take what the rest leaves, down to nothing."""
    whole = len(page.encode())
    for share in (0.95, 0.85, 0.1):
        most = int(whole * share)
        monkeypatch.setattr(page_module, "MOST_BYTES", most)
        text = boxes.page()
        bare = len(build_page(gather(boxes.layout), None, ALONE).encode())
        assert len(text.encode()) <= max(most, bare + 8 * 300)  # a line for each case that is not shown
    assert "too large to be shown here" in text


def test_shown_grey_values_are_the_image(page: str, boxes) -> None:
    """The first slice of the first sprite against the file: the window from 0.5 to 99.5 %, black to white."""
    first = payload_of(page, "case-0")
    case = next(case for case in read_dataset(boxes.root).cases if case.id == first["case"])
    image = read_image(case.images[0])[0][0]
    image = image[:, ::-1, ::-1]  # the file's axes point to the patient's right and front: shown from the patient's right, front first
    low, high = np.percentile(image, (0.5, 99.5))
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(first["sprites"][0].partition(",")[2]))))
    expected = np.clip((image[0] - low) * 255 / (high - low), 0, 255)
    assert np.abs(sheet[:20, :24] - expected).max() <= 1


def test_scores_of_other_cases_are_told(tmp_path: Path, boxes) -> None:
    """Somebody put the held-out cases of two folds in each other's place after training."""
    layout = RunLayout(tmp_path / "run")
    shutil.copytree(boxes.layout.root, layout.root)
    assert not any("other cases" in note for note in gather(layout).missing)
    splits = Splits.load(layout.splits)
    first, second, *others = splits.folds
    splits.model_copy(update={"folds": (second, first, *others)}).save(layout.splits)
    assert any(note.startswith("3d_fullres fold 0 was scored on other cases than it holds out now") for note in gather(layout).missing)
