"""Mean and spread of a comparison, its state on disk, its tables and its figure, on hand values."""

from __future__ import annotations

import math

import matplotlib._pylab_helpers
import pytest

from core.errors import ConfigError
from core.report.compare import Spread, Study, Trial, read_study, spread
from core.report.compare_view import decimals, draw_rules, shown_range, tables


def study(values, higher=False):
    """A study with these results of each rule, one a seed; None is a training that failed."""
    result = Study("toy", "Model", "data", "score", higher)
    result.extend(values, range(max(map(len, values.values()))))
    for trial in result.trials:
        value = values[trial.rule][trial.seed]
        if value is None:
            trial.status, trial.reason = "failed", "it broke. Look here"
        else:
            trial.status, trial.cpu_seconds = "finished", 2.0
            trial.metrics = {"a/score": 10 * value, "score": value, "other": 1.0}
    return result


def test_spread_of_hand_values():
    assert spread([1.0, 2.0, 6.0]) == Spread(3, 3.0, pytest.approx(math.sqrt(7)), 1.0, 6.0)
    alone = spread([4.0])
    assert (alone.count, alone.mean) == (1, 4.0)
    assert math.isnan(alone.deviation)


def test_summary_pairs_by_seed_and_sorts_by_direction():
    values = {"add": [1.0, 2.0, 6.0], "scaled": [None, 4.0, 5.0], "decayed": [None, None, None]}
    rows = study(values).summary()
    assert [row.rule for row in rows] == ["add", "scaled", "decayed"]
    assert rows[0].difference.mean == 0
    # Only seeds 1 and 2 have both: 4 - 2 and 5 - 6.
    assert rows[1].difference == Spread(2, 0.5, pytest.approx(math.sqrt(4.5)), -1.0, 2.0)
    assert rows[1].metrics.keys() == {"score", "a/score"}
    assert (rows[2].metrics, rows[2].difference, len(rows[2].failures)) == ({}, None, 3)
    assert [row.rule for row in study(values, higher=True).summary()] == ["scaled", "add", "decayed"]


def test_without_add_there_is_no_difference():
    made = study({"scaled": [1.0], "decayed": [2.0]})
    assert [row.difference for row in made.summary()] == [None, None]
    assert [column.header for column in next(tables(made)).columns] == [
        "rule", "seeds", "mean", "std", "min .. max", "CPU s",
    ]  # fmt: skip


def test_table_cells():
    first, parts = tables(study({"add": [1.0, 2.0], "scaled": [None, 4.0]}))
    cells = {column.header: list(column.cells) for column in first.columns}
    assert cells["rule"] == ["add", "scaled"]
    assert cells["seeds"] == ["2", "1"]
    assert cells["mean"] == ["1.500", "4.000"]
    assert cells["std"] == ["0.707", "-"]
    assert cells["min .. max"] == ["1.000 .. 2.000", "4.000 .. 4.000"]
    assert cells["minus add"] == ["-", "[red]+2.000[/]"]
    assert cells["failed"] == ["", "[red]seed 0: it broke[/]"]
    assert list(parts.columns[1].cells) == ["15.00 ± 7.07\n10.00 .. 20.00", "40.00"]
    better = next(tables(study({"add": [1.0], "scaled": [3.0]}, higher=True)))
    assert next(iter(better.columns[5].cells)) == "[green]+2.000[/]"


@pytest.mark.parametrize(
    ("value", "digits"), [(19.36, 2), (0.0123, 5), (12345.0, 0), (0.0, 3), (math.inf, 3)]
)
def test_four_significant_digits(value, digits):
    assert decimals(value) == digits


def test_state_survives_the_disk(tmp_path):
    made = study({"add": [1.0, 2.0], "scaled": [0.1 + 0.2, None]})
    made.trials.append(Trial("decayed", 0, "failed", "score is nan", {"score": math.inf}))
    assert read_study(tmp_path) is None
    made.write(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    assert read_study(tmp_path) == made
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read as a comparison"):
        read_study(tmp_path)


def test_figure_has_a_dot_a_seed_and_a_bar_a_rule():
    figure = draw_rules(study({"add": [1.0, 2.0], "scaled": [0.5, None], "decayed": [None, None]}))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["scaled", "add"], "the best on top"
    assert axis.yaxis_inverted()
    dots = [dots.get_offsets()[:, 0].tolist() for dots in axis.collections]
    assert dots == [[0.5], [1.0, 2.0]]
    bars = {tuple(line.get_xdata()) for line in axis.lines if line.get_linestyle() == "-"}
    assert bars == {(0.5, 0.5), (1.5, 1.5)}
    (dashed,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert set(dashed.get_xdata()) == {1.5}
    assert "lower is better" in axis.get_xlabel()
    assert figure.get_supxlabel() == "failed: decayed"
    assert matplotlib._pylab_helpers.Gcf.figs == {}, "nothing global is left open"


def test_results_far_off_do_not_flatten_the_figure():
    # The quartiles are 2.25 and 6.75, so that 6.75 + 6 * 4.5 = 33.75 is the last value that is shown.
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1000.0]
    assert shown_range(values) == pytest.approx((1 - 0.36, 7 + 0.36))
    assert shown_range(values[:-1]) is None
    assert shown_range([1.0, 1.0, 1.0, 1.0, 5.0]) is None, "equal results are no scale"
    rules = ["add", "scaled", "decayed", "hyper", "frac", "gated", "fixup", "hires"]
    (axis,) = draw_rules(study({rule: [value] for rule, value in zip(rules, values, strict=True)})).axes
    assert axis.get_xlim() == pytest.approx((0.64, 7.36))
    assert [text.get_text().strip() for text in axis.texts] == ["1000 →"]
