"""The gallery and a report that is written again, without a browser."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from PIL import Image

from core.commands.results import Comparison
from core.report.__main__ import main
from core.report.gallery import THUMB, write_gallery
from core.report.pages import words
from core.report.summary import read_summary, verdict

ROOT = Path(__file__).resolve().parents[3]


def cards(page):
    return re.findall(r"<article.*?</article>", page, re.S)


def rows(page):
    return re.findall(r"<tr data-task.*?</tr>", page, re.S)


@pytest.fixture(scope="module")
def made(make_run, tmp_path_factory):
    """Two tasks: toy with an old, a new and a newer failed run, other with one that was interrupted."""
    root = tmp_path_factory.mktemp("made")
    make_run(root, "old", started=86400.0)
    make_run(root, "new", started=2 * 86400.0)
    make_run(root, "broken", started=3 * 86400.0, status="FAILED")
    make_run(root, "stopped", "other_task", started=0.0, status="KILLED")
    return root


@pytest.fixture
def runs(made, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path / "runs")


def test_a_card_shows_the_latest_finished_report_of_each_task(runs):
    path, count = write_gallery(runs)
    page = path.read_text()
    assert (path, count) == (runs / "gallery.html", 4)
    other, toy = cards(page)
    assert 'href="toy/new/report.html#gallery"' in toy
    assert "Net on lines" in toy
    assert "<strong>score 10</strong>" in toy
    assert '<span class="better">+25.0 %, better than first</span>' in toy  # 10 against 8
    assert "1970-01-03 00:00 UTC" in toy
    assert "0123456+" in toy
    assert "interrupted" in other
    assert "href" not in other


def test_the_table_holds_all_runs_newest_first(runs):
    found = rows(write_gallery(runs)[0].read_text())
    assert [re.search(r'<th scope="row">(?:<a[^>]*>)?(\w+)', row).group(1) for row in found] == [
        "broken", "new", "old", "stopped",
    ]  # fmt: skip
    assert 'class="text worse">failed<' in found[0]
    assert 'class="text none">finished<' in found[1]


def test_all_makes_a_card_of_every_run(runs, capsys):
    assert main(["gallery", "--runs", str(runs), "--all"]) == 0
    assert len(cards((runs / "gallery.html").read_text())) == 4
    assert capsys.readouterr().out == f"{runs / 'gallery.html'}: 4 runs\n"


def test_links_are_relative_to_where_the_gallery_lies(runs, tmp_path):
    path, _ = write_gallery(runs, tmp_path / "site" / "index.html")
    (link,) = set(re.findall(r'href="([^"]*new[^"]*)"', path.read_text()))
    assert link == "../runs/toy/new/report.html"
    assert (path.parent / link).is_file()


def test_a_running_run_whose_process_is_gone_is_shown_as_stopped(runs, edit_record):
    import socket

    edit_record(runs / "toy" / "broken", status="RUNNING", pid=2**22 + 7, host=socket.gethostname())
    assert "stopped, its process is gone" in rows(write_gallery(runs)[0].read_text())[0]


def test_thumbnails_are_scaled_down_and_a_cut_off_figure_is_passed_over(runs):
    figure = runs / "toy" / "new" / "figures" / "error_by_horizon.png"
    times = figure.stat().st_mtime_ns
    figure.write_bytes(figure.read_bytes()[:60])
    os.utime(figure, ns=(times, times))
    toy = cards(write_gallery(runs)[0].read_text())[1]
    assert 'alt="ROC: Net on lines"' in toy
    content = re.search(r"data:image/webp;base64,([^\"]*)", toy).group(1)
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (THUMB[0], THUMB[0] // 2)


@pytest.mark.parametrize("file", ["run.json", "report.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"rows": 3}'])
def test_a_damaged_folder_costs_one_line_and_is_left_out(runs, capsys, file, content):
    (runs / "toy" / "new" / file).write_text(content)
    assert main(["gallery", "--runs", str(runs)]) == 0
    said = capsys.readouterr()
    assert said.out.endswith(": 3 runs\n")
    (line,) = said.err.splitlines()
    assert line.startswith("warning: ")
    assert "toy/new" in line
    assert "toy/old/report.html" in cards((runs / "gallery.html").read_text())[1]


def test_without_runs_one_line_says_what_to_do(tmp_path, capsys):
    assert main(["gallery", "--runs", str(tmp_path / "none")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"no run .*none; train one, .*--runs", line)
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_one_line(runs, tmp_path, capsys):
    assert main(["gallery", "--runs", str(runs), "--output", str(tmp_path)]) == 2
    assert re.fullmatch(
        r"error: --output .* cannot be written: .*; name another file\n", capsys.readouterr().err
    )


def test_open_shows_the_file_in_the_browser(runs, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["gallery", "--runs", str(runs), "--open"]) == 0
    assert opened == [(runs / "gallery.html").as_uri()]


def test_a_run_of_an_older_version_is_read_from_its_record(runs, edit_record):
    folder = runs / "toy" / "new"
    (folder / "report.json").unlink()
    score = {"metric": "error", "higher_is_better": False}
    metrics = {
        "loss": 9,
        "test/a/error": 1,
        "test/error": 3,
        "baseline/b/error": 4,
        "baseline/c/error": "nan",
    }
    edit_record(folder, registration={"score": score}, metrics=metrics)
    toy = cards(write_gallery(runs)[0].read_text())[1]
    assert "toy on lines" in toy
    assert "<strong>error 3</strong>" in toy
    assert "+25.0 %, better than b" in toy


def test_names_with_html_are_escaped_in_both_pages(make_run, tmp_path):
    name = '<img src=x onerror="alert(1)">&"\''
    folder = make_run(tmp_path, "one", data=name, title="<script>alert(2)</script>")
    for path in (write_gallery(tmp_path)[0], folder / "report.html"):
        page = path.read_text()
        assert "<img src=x" not in page
        assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;&amp;&#34;&#39;" in page
        assert page.count("<script>") == 1
        addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
        assert addresses
        assert all(
            re.match(r"data:image/|#\w+$|toy/one/report\.html#gallery$", address) for address in addresses
        )
        assert not re.search(r"https?://|@import|url\(", page)


def test_the_report_written_again_is_the_same(runs, capsys):
    path = runs / "toy" / "new" / "report.html"
    # The curves are drawn anew; the rest is text.
    first = path.read_text()
    path.unlink()
    assert main(["report", "new", "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_text() == first
    assert "two lines were dropped" in first


def test_a_run_without_results_has_no_report_to_write(runs, capsys):
    assert main(["report", str(runs / "toy" / "broken")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the report of run broken cannot be written again; it has no report.json")


def test_the_summary_keeps_values_that_json_lacks(make_run, tmp_path):
    metrics = {"model": {"score": float("inf")}, "zero": {"score": float("nan")}}
    folder = make_run(tmp_path, "odd", metrics=metrics)
    json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    summary = read_summary(folder)
    assert summary.metrics["model"]["score"] == float("inf")
    assert summary.rows[0].best is None
    assert verdict(summary.rows[0]) == ("none", "no baseline")
    assert main(["gallery", "--runs", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (Comparison("m", {}, "theta", 4.21), ("better", "+4.2 %, better than theta")),
        (Comparison("m", {}, "pad", -6.1, "dB"), ("worse", "-6.10 dB, worse than pad")),
        (Comparison("m", {}, "pad", 0.0), ("equal", "equal to pad")),
        (Comparison("m", {}, "pad", float("nan")), ("none", "not comparable with pad")),
        (Comparison("m", {}, None, float("nan")), ("none", "no baseline")),
    ],
)
def test_verdict_says_in_words_what_the_colour_says(row, expected):
    assert verdict(row) == expected


def test_captions_are_words():
    assert words("error_by_horizon") == "Error by horizon"
    assert words("psnr_by_noise__level") == "PSNR by noise level"
    assert words("photographs_x2") == "Photographs x2"


def test_all_files_of_the_pages_are_packed():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    files = [
        path.name for path in (ROOT / "core" / "report").iterdir() if path.is_file() and path.suffix != ".py"
    ]
    assert {"style.css", "page.js", "base.html"} <= set(files)
    assert [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_help_loads_no_heavy_library(run_python):
    code = "import sys; from core.report.__main__ import _parser; print(_parser().format_help()); print(*sys.modules)"
    said = run_python(code)
    assert "python -m core.report gallery --open" in said
    assert not {"torch", "mlflow", "matplotlib", "jinja2", "PIL", "numpy"} & set(said.split())
