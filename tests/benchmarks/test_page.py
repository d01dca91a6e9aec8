"""The page of benchmarks: sections kept and replaced, the table of bars, and how scripts are called."""

import subprocess
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as driver
from benchmarks.measure import Bar, bars_of, print_bar, print_comparison, print_heading
from benchmarks.page import SCRIPTS, anchor, assemble, split_page

SPEECH = SCRIPTS["speech"].title
MISSED = Bar("a step; of 8 images", "at most 1.03", "1.053 (1.04-1.06)", False, "The sum; it copies.")
MET = Bar("features", "5 times faster", "5.1", True, "The reason of another day.")


def section(title, *bars, text="words"):
    return "\n".join([f"## {title}", text, *(f"\n{bar.line()}" for bar in bars)]) + "\n"


def test_a_bar_is_read_back_from_its_line_and_a_met_one_needs_no_reason():
    assert bars_of(MISSED.line()) == [MISSED]
    assert bars_of(f"text\n{MET.line()}\n- Bar of chocolate") == [
        Bar("features", "5 times faster", "5.1", True)
    ]


def test_what_a_script_prints_is_markdown(capsys):
    print_heading("Title")
    print_comparison("Clips", "clip", 2, {"ours": (0.002, 0.004), "theirs": (0.01, 0.01)})
    assert print_bar("clips", "3 times", "5", True) and not print_bar("x", "2", "1", False, "Old.")
    printed = capsys.readouterr().out
    assert printed.startswith("## Title\n`") and "commit " in printed and "load average" in printed
    assert (
        "**Clips**\n\n|  | CPU ms / clip | wall ms / clip | CPU ratio | wall ratio |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| ours | 1 | 2 | 1.00 | 1.00 |\n| theirs | 5 | 5 | 5.00 | 2.50 |\n\n"
    ) in printed
    assert bars_of(printed) == [Bar("clips", "3 times", "5", True), Bar("x", "2", "1", False, "Old.")]


def test_the_page_has_the_bars_first_and_the_sections_in_their_order():
    other = SCRIPTS["backbones"].title
    page = assemble({other: section(other, MISSED), SPEECH: section(SPEECH, MET)})
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == ["# Benchmarks", "## Bars", f"## {SPEECH}", f"## {other}", "## Residual rules"]
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert rows == [
        f"| [{SPEECH}](#keyword-spotting) | features | 5 times faster | 5.1 | met |  |",
        f"| [{other}](#backbones) | {MISSED.what} | {MISSED.asked} | {MISSED.measured} | **MISSED** | {MISSED.why} |",
    ]
    assert (
        anchor("State-space scan, challenge score, channels") == "state-space-scan-challenge-score-channels"
    )


def test_a_page_that_is_read_and_put_together_again_is_the_same():
    sections = {SPEECH: section(SPEECH, MET), "By hand": section("By hand", text="kept | as | it is")}
    page = assemble(sections)
    assert split_page(page) == sections
    assert assemble(split_page(page)) == page


@pytest.fixture
def called(monkeypatch):
    """Commands and threads of the scripts that are called; detection fails."""
    calls = []

    def run(command, *, env, **_):
        name = command[2].removeprefix("benchmarks.")
        calls.append((name, command[3:], env.get("OMP_NUM_THREADS")))
        title = SCRIPTS[name].title
        return SimpleNamespace(returncode=int(name == "detection"), stdout=section(title, MET, text="new"))

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_some_sections_are_measured_again_and_the_others_kept(called, tmp_path, capsys):
    page = tmp_path / "page.md"
    titles = [SCRIPTS[name].title for name in ("speech", "detection", "sequence")]
    page.write_text(assemble({title: section(title, text="old") for title in titles}))
    peers = tmp_path / "peers"
    argv = ["--only", "speech,detection,allocator", "--output", str(page), "--peers", str(peers)]
    assert driver.main(argv) == 1
    told = {title: text.splitlines()[1] for title, text in split_page(page.read_text()).items()}
    assert told == {titles[0]: "new", titles[1]: "old", titles[2]: "old", "Large freed blocks": "new"}
    assert "failed, and their sections are as before: detection" in capsys.readouterr().err
    assert called[0] == ("speech", ["--librosa", f"{peers}/librosa"], "1")
    assert called[2] == ("allocator", [], None)


def test_all_run_by_default_but_serving_which_needs_champions(called, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    argv = ["--output", str(tmp_path / "page.md"), "--peers", str(tmp_path / "peers")]
    driver.main([*argv, "--quick"])
    assert [name for name, _, _ in called] == [name for name in SCRIPTS if name != "serving"]
    assert {threads for _, _, threads in called} == {None, "1"}
    assert all(
        options[-len(SCRIPTS[name].quick) :] == list(SCRIPTS[name].quick) for name, options, _ in called
    )
    called.clear()
    driver.main([*argv, "--tracking", "sqlite:///x.db", "--only", "serving"])
    assert called == [("serving", ["--tracking", "sqlite:///x.db"], None)]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--quick"], "give another --output"),
        (["--only", "speach"], "there is no benchmark 'speach'"),
        (["--only", "serving"], "serving needs --tracking"),
    ],
)
def test_wrong_options_are_one_line(argv, message, capsys, called):
    with pytest.raises(SystemExit):
        driver.main(argv)
    assert message in capsys.readouterr().err and called == []
