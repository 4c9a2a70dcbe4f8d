"""The page in a real browser, by clicks, keys and the wheel. Skipped where there is no Chromium or no playwright."""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

playwright = pytest.importorskip("playwright.sync_api")

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CONTRAST = 4.5
"""Of text with its background: WCAG 2, level AA."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=path,
            args=list(ARGUMENTS),
            headless=True,
            viewport={"width": 1280, "height": 900},
        )
        yield context
        context.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def tab(browser: Any, file: Path) -> Iterator[Any]:
    """The page in a new tab; whatever it complains of, or asks the network for, fails the test."""
    opened = browser.new_page()
    opened.set_default_timeout(5000)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url))
    opened.goto(file.as_uri())
    wait(opened, "document.querySelector('#viewer-status').textContent.includes('wrong')")
    yield opened
    opened.close()
    assert complaints == []


def wait(tab: Any, truth: str) -> None:
    """Until an expression is true; playwright's own way needs eval, which the page forbids."""
    for _ in range(100):
        if tab.evaluate(truth):
            return
        tab.wait_for_timeout(30)
    pytest.fail(f"never true: {truth}")


def status(tab: Any) -> str:
    return tab.inner_text("#viewer-status")


def slice_of(tab: Any) -> int:
    found = re.search(r"slice (\d+) of", status(tab))
    assert found is not None
    return int(found.group(1))


def column(tab: Any, number: int) -> list[str]:
    return tab.eval_on_selector_all(f"#case-table tbody tr > :nth-child({number})", "cells => cells.map(cell => cell.textContent)")


def drawing(tab: Any, pane: str) -> str:
    return tab.eval_on_selector(f"[data-pane={pane}] canvas", "canvas => canvas.toDataURL()")


def test_names_are_shown_and_not_run(tab: Any) -> None:
    assert tab.title() == "Dataset021_Boxes · autounet report"
    assert "</script><script>document.title='owned'</script>" in tab.inner_text("#case-table thead")
    assert all(name.startswith("box<b>&\"' {{1}} ") for name in column(tab, 1))
    assert tab.locator("i").count() == 0


def test_what_slips_in_is_stopped(browser: Any, file: Path) -> None:
    """A picture from elsewhere and scripts in the markup, as a name that was not escaped would bring them."""
    opened = browser.new_page()
    opened.goto(file.as_uri())
    blocked = opened.evaluate("""async () => {
        const found = [];
        document.addEventListener('securitypolicyviolation', event => found.push(event.effectiveDirective));
        document.body.insertAdjacentHTML('beforeend', '<img src="https://localhost/x.png"><p onclick="document.title = 1" id="bad">x</p>');
        document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 2'}));
        document.querySelector('#bad').click();
        await new Promise(resolve => setTimeout(resolve, 100));
        return found.sort();
    }""")
    assert blocked == ["img-src", "script-src-attr", "script-src-elem"]
    assert opened.title() == "Dataset021_Boxes · autounet report"
    opened.close()


def test_the_table_is_sorted_by_clicks(tab: Any) -> None:
    dice = column(tab, 3)
    assert dice == sorted(dice, key=float), "failures first"
    head = tab.locator("#case-table thead th")
    assert head.nth(2).get_attribute("aria-sort") == "ascending"
    head.nth(2).locator("button").click()
    assert (head.nth(2).get_attribute("aria-sort"), column(tab, 3)) == ("descending", dice[::-1])
    head.nth(0).locator("button").click()
    assert (head.nth(0).get_attribute("aria-sort"), head.nth(2).get_attribute("aria-sort")) == ("ascending", "none")
    assert column(tab, 1) == sorted(column(tab, 1))
    tab.keyboard.press("Enter")  # the button keeps the focus
    assert column(tab, 1) == sorted(column(tab, 1), reverse=True)
    head.nth(4).locator("button").click()
    values = column(tab, 5)
    defined = [float(value) for value in values if value != "–"]
    assert defined == sorted(defined)
    assert set(values[len(defined) :]) <= {"–"}, "what is undefined comes last"


def test_the_table_is_filtered(tab: Any) -> None:
    assert tab.inner_text("#case-count") == "16 of 16 cases of 3d_fullres"
    name = column(tab, 1)[0]
    tab.fill("#filter-text", name[-2:])
    assert name in column(tab, 1)
    assert len(column(tab, 1)) < 16
    tab.fill("#filter-text", "")
    tab.select_option("#filter-fold", "2")
    assert (set(column(tab, 2)), tab.inner_text("#case-count")) == ({"2"}, "4 of 16 cases of 3d_fullres")
    tab.select_option("#filter-fold", "")
    tab.fill("#filter-below", column(tab, 3)[3])
    assert len(column(tab, 1)) == 3


def test_another_metric_and_another_configuration(tab: Any) -> None:
    first = column(tab, 3)
    tab.select_option("#choose-metric", label="HD95")
    assert tab.inner_text("#distribution-title") == "HD95, mm: distribution over cases"
    distances = [float(value) for value in column(tab, 3) if value != "–"]
    assert distances == sorted(distances, reverse=True), "failures first"
    tab.select_option("#choose-configuration", label="2d")
    assert tab.inner_text("#case-count") == "4 of 4 cases of 2d"
    tab.wait_for_selector("#chart-distribution circle", state="attached")
    assert tab.locator("#chart-distribution circle").count() in range(4, 9)
    tab.select_option("#choose-metric", label="Dice")
    tab.select_option("#choose-configuration", label="3d_fullres")
    assert column(tab, 3) == first


def test_slices_by_wheel_keys_and_slider(tab: Any) -> None:
    stage = tab.locator("#viewer-stage")
    stage.scroll_into_view_if_needed()
    stage.focus()
    tab.keyboard.press("Home")
    assert slice_of(tab) == 1
    before = drawing(tab, "image")
    tab.keyboard.press("ArrowDown")
    assert slice_of(tab) == 2
    assert drawing(tab, "image") != before
    tab.keyboard.press("PageDown")
    assert slice_of(tab) == 12
    tab.keyboard.press("ArrowUp")
    assert slice_of(tab) == 11
    box = tab.locator("[data-pane=image] canvas").bounding_box()
    tab.mouse.move(box["x"] + 20, box["y"] + 20)
    tab.mouse.wheel(0, -100)
    wait(tab, "/slice (9|8) of/.test(document.querySelector('#viewer-status').textContent)")
    tab.locator("#viewer-slice").fill("0")
    assert slice_of(tab) == 1
    scrolled = tab.evaluate("scrollY")
    tab.mouse.wheel(0, -200)  # there are no slices above: the page goes on
    wait(tab, f"scrollY < {scrolled}")


def test_planes_and_other_cases(tab: Any) -> None:
    """12 slices of 20 rows and 24 columns; 2.5 mm between slices of 1 mm pixels."""
    for name, slices, ratio in (("coronal", 20, 12 * 2.5 / 24), ("sagittal", 24, 12 * 2.5 / 20), ("axial", 12, 20 / 24)):
        tab.click(f"#viewer-planes >> text={name}")
        assert f"{name} slice" in status(tab)
        assert status(tab).split(" of ")[1].startswith(f"{slices},")
        size = tab.eval_on_selector("[data-pane=image] canvas", "canvas => canvas.height / canvas.width")
        assert size == pytest.approx(ratio, rel=0.02)
    first = status(tab).split(":")[0]
    tab.locator("#viewer-stage").focus()
    tab.keyboard.press("ArrowRight")
    wait(tab, f"!document.querySelector('#viewer-status').textContent.startsWith({first!r})")
    assert tab.locator("#viewer-cases button[aria-pressed=true]").count() == 1
    tab.locator("#viewer-cases button").nth(0).click()
    wait(tab, f"document.querySelector('#viewer-status').textContent.startsWith({first!r})")


def wrong_voxels(tab: Any, boxes: Any) -> np.ndarray:
    """Where truth and prediction of the shown case differ, as nibabel turns them: x, y, z towards the patient's right, front, head."""
    name = status(tab).split(":")[0]
    truth = boxes.root / "labelsTr" / f"{name}.nii.gz"
    (prediction,) = (path for path in boxes.layout.root.glob("models/3d_fullres/fold_*/validation/*") if path.name == truth.name)
    first, second = (np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj) for path in (truth, prediction))
    return first != second


def test_errors_are_where_truth_and_prediction_differ(tab: Any, boxes: Any) -> None:
    """The number of wrong voxels of every axial slice against the files."""
    wrong = wrong_voxels(tab, boxes).sum(axis=(0, 1)).tolist()
    tab.locator("#viewer-stage").focus()
    tab.keyboard.press("Home")
    shown = []
    for _ in wrong:
        shown.append(int(re.search(r"([\d,]+) wrong", status(tab)).group(1).replace(",", "")))
        tab.keyboard.press("ArrowDown")
    assert shown == wrong


COLOURED = """([rows, columns]) => {
  const canvas = document.querySelector('[data-pane=errors] canvas'), {width, height} = canvas;
  const pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
  const at = (row, column) => 4 * (Math.floor((row + 0.5) / rows * height) * width + Math.floor((column + 0.5) / columns * width));
  const coloured = (place) => Math.max(...pixels.slice(place, place + 3)) - Math.min(...pixels.slice(place, place + 3)) > 25;
  return [...Array(rows).keys()].map((row) => [...Array(columns).keys()].map((column) => coloured(at(row, column))));
}"""


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_planes_lie_as_radiologists_see_them(tab: Any, boxes: Any, plane: str) -> None:
    """Coloured pixels of the panel of errors, where nibabel's axes say they are: front or head up, the patient's right on the left."""
    wrong = wrong_voxels(tab, boxes)[::-1, ::-1, :]  # now towards the patient's left, back, head
    tab.click(f"#viewer-planes >> text={plane}")
    number = slice_of(tab) - 1
    across = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    expected = wrong.take(number, axis=across).T
    expected = expected if plane == "axial" else expected[::-1]
    assert expected.any()
    assert not np.array_equal(expected, expected[::-1])
    np.testing.assert_array_equal(tab.evaluate(COLOURED, list(expected.shape)), expected)


def test_overlays_are_switched(tab: Any) -> None:
    truth = drawing(tab, "truth")
    assert truth != drawing(tab, "image")
    tab.locator("#viewer-opacity").fill("90")
    assert drawing(tab, "truth") != truth
    tab.click("[data-panel=truth]")
    assert not tab.locator("[data-pane=truth]").is_visible()
    tab.locator("#viewer-stage").focus()
    tab.keyboard.press("e")
    assert tab.get_attribute("[data-panel=errors]", "aria-pressed") == "false"
    assert [tab.locator(f"[data-pane={pane}]").is_visible() for pane in ("image", "truth", "prediction", "errors")] == [
        True,
        False,
        True,
        False,
    ]


def test_a_worst_case_leads_to_its_slices(tab: Any) -> None:
    name = tab.locator("#worst-list button").nth(1).inner_text().split(" ", 1)[1]
    tab.locator("#worst-list button").nth(1).click()
    wait(tab, f"document.querySelector('#viewer-status').textContent.startsWith({name!r})")
    wait(tab, "Math.abs(document.querySelector('#slices').getBoundingClientRect().top) < 200")
    assert tab.evaluate("document.activeElement.id") == "viewer-stage"


def test_a_tip_names_the_case(tab: Any) -> None:
    tab.locator("#chart-distribution circle").last.hover()
    assert "box<b>&\"' {{1}} " in tab.inner_text("#tip")


CONTRASTS = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const backdrop = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !element.getClientRects().length || element.closest('script, style, .hidden, .skip, option')) continue;
    const style = getComputedStyle(element), colour = element instanceof SVGElement ? style.fill : style.color;
    const [first, second] = [luminance(parse(colour)), luminance(backdrop(element))].sort((a, b) => b - a);
    found.push([(first + 0.05) / (second + 0.05), text.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_text_stands_out_in_both_themes(tab: Any, theme: str) -> None:
    tab.click(f".theme >> text={theme}")
    assert tab.evaluate("getComputedStyle(document.body).colorScheme") == theme.lower()
    found = tab.evaluate(CONTRASTS)
    assert len(found) > 150
    assert [entry for entry in found if entry[0] < CONTRAST] == []


def test_the_system_says_which_theme(tab: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(paper)
    tab.emulate_media(color_scheme="dark")
    wait(tab, f"{paper} !== {light!r}")
    tab.click(".theme >> text=Light")
    assert tab.evaluate(paper) == light


def test_everything_can_be_reached_and_is_named(tab: Any) -> None:
    """Landmarks; every control has a name; every region that scrolls can be focused; headings go down one level at a time."""
    assert [tab.locator(name).count() for name in ("main", "nav", "header", "footer", "h1")] == [1, 1, 1, 1, 1]
    unnamed = """elements => elements.filter(
        e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML)"""
    assert tab.eval_on_selector_all("button, input, select, a, summary", unnamed) == []
    assert tab.eval_on_selector_all("img", "images => images.filter(i => !i.alt)") == []
    assert tab.eval_on_selector_all("[role=img]", "pictures => pictures.filter(p => !p.getAttribute('aria-label')).length") == 0
    assert tab.eval_on_selector_all(".scroll", "boxes => boxes.filter(b => b.tabIndex !== 0 || !b.getAttribute('aria-label')).length") == 0
    assert tab.eval_on_selector_all("th", "cells => cells.filter(c => !c.scope).length") == 0
    levels = tab.eval_on_selector_all("h1, h2, h3, h4", "headings => headings.map(h => Number(h.tagName[1]))")
    assert all(after - before <= 1 for before, after in pairwise(levels))
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_sticks_out_on_a_small_screen(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    wait(tab, f"document.querySelector('#chart-distribution svg').viewBox.baseVal.width < {width}")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    panes = tab.locator("#viewer-panes figure")
    lefts = {round(panes.nth(number).bounding_box()["x"]) for number in range(4)}
    assert len(lefts) == 2, "two panels beside each other"


def test_it_prints(tab: Any, tmp_path: Path) -> None:
    """On white, without what can only be clicked, with what was folded away."""
    tab.click(".theme >> text=Dark")
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.locator("nav").is_visible()
    assert not tab.locator("#filter-text").is_visible()
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    tab.pdf(path=tmp_path / "report.pdf", format="A4")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(content) > 50_000
