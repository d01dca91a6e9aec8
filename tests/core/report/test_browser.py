"""The report and the gallery in a browser: headless Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from core.report.gallery import write_gallery

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"
FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def gallery(make_run, tmp_path_factory):
    """A gallery of three tasks and four runs; one task's data have a name with HTML in it."""
    root = tmp_path_factory.mktemp("my runs")
    make_run(root, "first", "forecasting", started=1e9)
    wide = {f"a_baseline_with_a_long_name_{i}": {"score": 1.0, "extra": i} for i in range(12)}
    parts = {f"a/part_with_a_long_name_{i}/score": 10.0**i for i in range(9)}
    make_run(root, "hostile", "speech", 2e9, data=HOSTILE, metrics={"model": {"score": 2.0} | parts} | wide)
    make_run(root, "second", "forecasting", started=2e9 - 5)
    make_run(root, "failed", "ecg", started=3e8, status="FAILED")
    return write_gallery(root)[0]


@pytest.fixture
def show(browser):
    """Opens a page in a window of a given width and colour scheme, and holds that it logs nothing."""

    def show(path, width=1280, scheme="light", end=""):
        view = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get("about:blank")
        browser.get(path.as_uri() + end)
        assert browser.get_log("browser") == []
        return browser

    return show


def report(gallery, task="forecasting", run="second"):
    return gallery.parent / task / run / "report.html"


def column(table, number):
    return [
        row.find_elements(By.XPATH, "*")[number].text
        for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
    ]


def visible(browser, selector):
    return [element for element in browser.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", ["gallery", "report", "wide"])
def test_nothing_is_wider_than_the_window_and_every_figure_is_seen(show, gallery, page, width):
    path = {"gallery": gallery, "report": report(gallery), "wide": report(gallery, "speech", "hostile")}[page]
    browser = show(path, width)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('main img')].map(i => { const b = i.getBoundingClientRect();"
        "return [i.naturalWidth, b.left, b.right, b.height, i.alt] })"
    )
    assert len(boxes) == (2 if page == "gallery" else 3)
    for natural, left, right, height, alt in boxes:
        assert natural > 0
        assert 0 <= left < right <= width
        assert height > 20
        assert alt
    if page == "wide":
        box = browser.find_element(By.CSS_SELECTOR, ".scroll")
        assert browser.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", box)
        first = box.find_element(By.CSS_SELECTOR, "tbody th")
        before = first.rect["x"]
        browser.execute_script("arguments[0].scrollLeft = 200", box)
        assert first.rect["x"] == before, "the first column stays"
        assert first.rect["width"] > 100


def test_a_click_sorts_a_table_by_numbers_and_a_second_one_turns_it_round(show, gallery):
    browser = show(report(gallery))
    table = browser.find_elements(By.CSS_SELECTOR, "table.sortable")[1]
    assert column(table, 0) == ["a/score", "b/score", "score", "alone"]
    heading = table.find_elements(By.CSS_SELECTOR, "thead th")[1]
    heading.find_element(By.TAG_NAME, "button").click()
    assert column(table, 1) == ["0.5", "9", "10", "100"]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.find_element(By.TAG_NAME, "button").click()
    assert column(table, 1) == ["100", "10", "9", "0.5"]
    assert heading.get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_too_and_empty_cells_stay_last(show, gallery):
    browser = show(report(gallery))
    table = browser.find_elements(By.CSS_SELECTOR, "table.sortable")[1]
    first, second = (
        table.find_elements(By.CSS_SELECTOR, "thead th")[i].find_element(By.TAG_NAME, "button")
        for i in (2, 3)
    )
    first.send_keys(Keys.ENTER)
    assert column(table, 2) == ["8", "8", "200", ""]
    first.send_keys(Keys.TAB)
    assert browser.switch_to.active_element == second
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    assert column(table, 3) == ["4", "7", "", ""]
    second.send_keys(Keys.SPACE)
    assert column(table, 3) == ["7", "4", "", ""]
    headings = table.find_elements(By.CSS_SELECTOR, "thead th")
    assert [h.get_attribute("aria-sort") for h in headings] == ["none", "none", "none", "descending"]


@pytest.mark.parametrize(
    ("cells", "ascending"),
    [
        (["12 dB", "-3.5 dB", "", "1e3 dB", "nan", "inf"], ["-3.5 dB", "12 dB", "1e3 dB", "inf", "", "nan"]),
        (
            ["+4.2 %, better than b", "-10.0 %, worse than a"],
            ["-10.0 %, worse than a", "+4.2 %, better than b"],
        ),
        (["10/dice", "9/dice", "", "all"], ["9/dice", "10/dice", "all", ""]),
    ],
)
def test_units_words_and_missing_values_have_their_order(show, gallery, cells, ascending):
    browser = show(report(gallery))
    code = """
        const table = document.createElement("table");
        table.createTHead().insertRow().append(document.createElement("th"));
        const body = table.createTBody();
        for (const text of arguments[0]) body.insertRow().insertCell().textContent = text;
        makeSortable(table);
        table.querySelector("button").click();
        return [...body.rows].map(row => row.textContent);
    """
    assert browser.execute_script(code, cells) == ascending


def test_the_filter_hides_other_tasks_and_says_so(show, gallery):
    browser = show(gallery)
    count = browser.find_element(By.TAG_NAME, "output")
    assert count.text == "3 of 3 cards, 4 of 4 runs"
    select = Select(browser.find_element(By.NAME, "task"))
    assert [option.text for option in select.options] == ["all", "ecg", "forecasting", "speech"]
    select.select_by_visible_text("forecasting")
    assert count.text == "1 of 3 cards, 2 of 4 runs"
    assert [card.get_attribute("data-task") for card in visible(browser, "article")] == ["forecasting"]
    assert len(visible(browser, "tbody tr")) == 2
    select.select_by_visible_text("all")
    box = browser.find_element(By.NAME, "words")
    box.send_keys("FAILED ecg")
    assert count.text == "1 of 3 cards, 1 of 4 runs"
    box.clear()
    box.send_keys("no such words")
    assert count.text == "0 of 3 cards, 0 of 4 runs"
    assert visible(browser, "article") == []


def test_the_table_of_runs_sorts_by_the_time_not_by_its_text(show, gallery):
    browser = show(gallery)
    table = browser.find_element(By.CSS_SELECTOR, "table.sortable")
    buttons = {b.text: b for b in table.find_elements(By.CSS_SELECTOR, "thead button")}
    buttons["started, UTC"].click()
    assert column(table, 0) == ["failed", "first", "second", "hostile"]
    buttons["result"].click()
    assert column(table, 0) == ["hostile", "first", "second", "failed"]


@pytest.mark.parametrize("page", ["gallery", "report"])
def test_text_is_legible_in_light_and_dark(show, gallery, page):
    code = """
        return [...document.querySelectorAll("body, .muted, .better, .worse, main a, nav a, figcaption, th, td")]
            .map(e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]);
    """
    backgrounds = set()
    for scheme in ("light", "dark"):
        colours = show(gallery if page == "gallery" else report(gallery), scheme=scheme).execute_script(code)
        assert len({text for text, _ in colours}) >= 4
        for text, back in colours:
            assert contrast(text, back) >= 4.5, "WCAG 2.2, 1.4.3"
            backgrounds.add(back)
    assert len(backgrounds) == 2


def contrast(first, second):
    """Contrast of two colours ``rgb(r, g, b)``, WCAG 2.2."""

    def luminance(colour):
        values = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
        red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_names_with_html_are_inert(show, gallery):
    for path in (gallery, report(gallery, "speech", "hostile")):
        browser = show(path)
        assert browser.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
        assert browser.title in ("Gallery of runs", f"Net on {HOSTILE}")
        assert HOSTILE in browser.find_element(By.TAG_NAME, "body").text


def test_the_page_runs_no_script_but_its_own(show, gallery):
    browser = show(gallery)
    browser.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", HOSTILE)
    blocked = [entry["message"] for entry in browser.get_log("browser")]
    assert any("Content Security Policy" in message for message in blocked)
    assert browser.title == "Gallery of runs"


def test_links_lead_to_files_and_back(show, gallery):
    browser = show(gallery)
    links = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "main a")]
    assert len(links) == 2 * 2 + 3, "image and title of two cards, three rows"
    assert all(Path(unquote(urlparse(link).path)).is_file() for link in links)
    browser.find_element(By.CSS_SELECTOR, "article h3 a").click()
    assert browser.current_url == report(gallery).as_uri() + "#gallery"
    browser.find_element(By.LINK_TEXT, "gallery").click()
    assert browser.current_url == gallery.as_uri()
    show(report(gallery))
    assert browser.find_elements(By.LINK_TEXT, "gallery") == [], "a report by itself has none"


def test_contents_lead_to_the_headings_and_the_configuration_opens(show, gallery):
    browser = show(report(gallery))
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        assert browser.find_element(By.ID, link.get_attribute("href").split("#")[1]).tag_name == "h2"
    text = browser.find_element(By.TAG_NAME, "pre")
    assert not text.is_displayed()
    browser.find_element(By.TAG_NAME, "summary").click()
    assert text.is_displayed()
    assert "rule: add" in text.text


def test_a_figure_is_enlarged_by_a_click_and_closed_by_a_key(show, gallery):
    browser = show(report(gallery), 390)
    small = browser.find_element(By.CSS_SELECTOR, "figure img")
    captions = [caption.text for caption in browser.find_elements(By.TAG_NAME, "figcaption")]
    assert captions == ["Error by horizon", "ROC", "Training curves over optimiser steps"]
    small.click()
    dialog = browser.find_element(By.TAG_NAME, "dialog")
    assert dialog.is_displayed()
    assert dialog.find_element(By.TAG_NAME, "img").rect["width"] == 1400 > small.rect["width"]
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
