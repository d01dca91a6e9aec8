"""What the configurations with the paper's recipe say about themselves."""

import re
from pathlib import Path

import pytest

import tasks.csi
from core.cli import _parse
from tasks.csi.data.checks import conditions_of
from tasks.csi.data.load import memory_bytes
from tasks.csi.data.store import sample_bytes
from tasks.csi.task import TASK

FOLDER = Path(tasks.csi.__path__[0]) / "configs"
PAPERS = sorted(path for path in FOLDER.glob("*_?dd.yaml") if not path.stem.startswith("small"))


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_headers_say_what_it_takes_and_how_it_differs_from_the_paper(path):
    header = " ".join(line[2:] for line in path.read_text().splitlines() if line.startswith("#"))
    data = _parse(TASK, "train", ["--config", str(path)])[0].data
    train, test = conditions_of(data, "train"), conditions_of(data, "test")
    counts = [data.samples] * len(train) + [data.test_samples] * len(test)
    said = re.search(r"It takes (\d+) GB of memory and (\d+) GB of disk", header)
    assert said is not None
    assert float(said[1]) == pytest.approx(memory_bytes(data, counts) / 1e9, abs=0.5)
    assert float(said[2]) == pytest.approx(sum(counts) * sample_bytes(data) / 1e9, abs=0.5)
    assert "ReduceLROnPlateau" in header and "not standardised by one mean" in header
    if tested := re.search(r"tested on (\d+) conditions of which (\d+) were learned from", header):
        assert (int(tested[1]), int(tested[2])) == (len(test), len({*train} & {*test}))


def test_fdd_multiplies_on_the_delay_branch_as_the_released_code():
    rules = {
        path.stem: _parse(TASK, "train", ["--config", str(path)])[0].model.delay_residual for path in PAPERS
    }
    assert len(rules) == 6
    for name, rule in rules.items():
        assert rule == ("multiply" if name.endswith("fdd") else "add")
