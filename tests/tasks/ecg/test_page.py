"""The page is true to scale, and says what it is."""

import numpy as np
import pytest
from matplotlib.image import imread
from peak_network import beats

from tasks.ecg.config import LEADS
from tasks.ecg.page import PAPER, START, draw_page, save_page

RATE = 500


def traces(figure):
    """Long lines of ink, as (x, y) in mm."""
    (axes,) = figure.axes
    lines = [line.get_xydata() for line in axes.lines]
    return [line for line in lines if len(line) > 50]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def page(signal, leads=LEADS, rate=RATE, **options):
    return draw_page(signal, rate, leads, "record 7", "sinus rhythm 0.97", **options)


def test_millimetres_are_millimetres():
    figure = page(np.zeros((12, 5000), np.float32))
    assert figure.get_size_inches() * 25.4 == pytest.approx([297, 210])
    (axes,) = figure.axes
    assert axes.get_position().bounds == (0, 0, 1, 1)
    assert axes.get_xlim() == (0, 297) and axes.get_ylim() == (0, 210)


def test_time_and_amplitude_are_to_scale():
    signal = np.zeros((12, 5000), np.float32)
    signal[1, 2000] = 1.5  # II at 4 s: in the rhythm strip only, as its own column ends at 2.5 s
    signal[6, 3000] = -0.5  # V1 at 6 s, in the third column
    found = [t for t in traces(page(signal)) if np.ptp(t[:, 1]) > 1]
    assert len(found) == 2
    column, strip = sorted(found, key=len)
    x, y = column[np.abs(column[:, 1] - np.median(column[:, 1])).argmax()]
    assert x - START == pytest.approx(6 * 25) and y - np.median(column[:, 1]) == pytest.approx(-5)
    x, y = strip[strip[:, 1].argmax()]
    assert x - START == pytest.approx(4 * 25) and y - np.median(strip[:, 1]) == pytest.approx(15)


def test_twelve_leads_stand_in_three_rows_of_four_above_a_rhythm_strip():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((12, 5000)).astype(np.float32) / 10
    found = traces(page(signal))
    assert len(found) == 13
    for i, trace in enumerate(found[:12]):
        column = i // 3
        assert trace[0, 0] == pytest.approx(START + 62.5 * column)
        shown = signal[i, 1250 * column : 1250 * (column + 1) + 1]
        shown = shown - np.median(signal[i])
        zero = [162, 127, 92][i % 3]
        np.testing.assert_allclose(trace[:, 1], zero + 10 * shown, atol=1e-4)
    assert len(found[12]) == 5000 and found[12][-1, 0] == pytest.approx(START + 250, abs=0.1)
    names = [t for t in texts(page(signal)) if t in LEADS]
    assert names == [*LEADS, "II"]


def test_the_calibration_is_one_millivolt_for_a_fifth_of_a_second():
    (axes,) = page(beats(samples=5000, rate=RATE)).axes
    pulses = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 6]
    assert len(pulses) == 4
    for pulse in pulses:
        assert np.ptp(pulse[:, 1]) == pytest.approx(10)
        assert pulse[3, 0] - pulse[2, 0] == pytest.approx(5)
        assert pulse[:, 0].min() > PAPER[0] and pulse[:, 0].max() <= START


def test_a_short_record_has_columns_that_begin_at_equal_distances():
    found = traces(page(beats(samples=2750, rate=RATE)))  # 5.5 s: from 0, 1, 2 and 3 s on
    assert [len(t) for t in found[:12:3]] == [1251, 1251, 1251, 1250]
    assert {"1.0 s", "2.0 s", "3.0 s"} < set(texts(page(beats(samples=2750, rate=RATE))))
    tiny = traces(page(beats(samples=600, rate=RATE)))
    assert len(tiny) == 13 and {len(t) for t in tiny} == {600}


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 3), (4, 4), (8, 9), (15, 16)])
def test_other_numbers_of_leads(count, rows):
    leads = [f"L{i}" for i in range(count)]
    signal = np.random.default_rng(0).standard_normal((count, 5000)).astype(np.float32) / 10
    found = traces(page(signal, leads))
    assert len(found) == rows
    for trace in found:
        assert PAPER[1] < np.median(trace[:, 1]) < PAPER[3]
    whole = found if count <= 4 else found[-1:]
    assert {len(t) for t in whole} == {5000}


def test_ten_seconds_of_a_longer_record():
    signal = np.zeros((12, 10_000), np.float32)
    signal[1, 6000] = 1  # 12 s
    saliency = np.zeros(200)
    saliency[120:122] = 3
    figure = page(signal, saliency=saliency, start=7.0, explained="AF")
    assert "record 7, 7 to 17 s of 20 s" in texts(figure)
    strip = max(traces(figure), key=len)
    assert strip[strip[:, 1].argmax(), 0] == pytest.approx(START + 5 * 25)
    picture = figure.axes[0].images[0]
    assert picture.get_extent() == [START, START + 250, 21, 26]
    values = picture.get_array()[0]
    assert len(values) == 100 and values.argmax() == 50 and values.max() == 3
    assert any("log odds of AF" in t and t.startswith("3,") for t in texts(figure))


def test_a_missing_lead_is_named_and_not_drawn_flat():
    present = np.ones(12, bool)
    present[[1, 8]] = False
    figure = page(beats(samples=5000, rate=RATE), present=present)
    said = texts(figure)
    assert "V3 missing" in said and "II missing" in said and "V3" not in said
    assert len(traces(figure)) == 11 and said.count("I") == 2  # I in place of II below


def test_what_the_page_says(tmp_path):
    signal = beats(samples=5000, rate=RATE)
    plain, made = texts(page(signal)), texts(page(signal, synthetic=True))
    for said in (plain, made):
        assert any("not a medical device" in t for t in said)
        assert any("25 mm/s   10 mm/mV   500 Hz" in t for t in said)
        assert "sinus rhythm 0.97" in said
    assert not any("synthetic" in t.lower() for t in plain)
    assert any(t.startswith("SYNTHETIC RECORD") for t in made)
    long = draw_page(signal, RATE, LEADS, "a $name$ " * 30, "finding, " * 200, saliency=-np.ones(7))
    save_page(long, tmp_path / "long.png")  # no formula, nothing to show
    assert max(map(len, texts(long))) < 3 * 171


def test_files_have_the_true_size(tmp_path):
    figure = page(beats(samples=5000, rate=RATE), saliency=np.ones(10))
    save_page(figure, tmp_path / "a.png")
    # Less than a pixel of 1/200 inch is lost.
    assert imread(tmp_path / "a.png").shape[:2] == pytest.approx((210 / 25.4 * 200, 297 / 25.4 * 200), abs=1)
    save_page(figure, tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/MediaBox [ 0 0 841.889" in content and b"CreationDate" not in content


def test_a_derived_lead_says_so():
    figure = page(beats(samples=5000, rate=RATE), derived=["II", "aVF"])
    said = texts(figure)
    assert said.count("II (derived)") == 2 and "aVF (derived)" in said and "aVF" not in said and "III" in said
    assert len(traces(figure)) == 13
