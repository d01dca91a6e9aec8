"""Files that mean harm: what they hold is not executed, nothing beside them is touched, and one line says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.hostile.names import names
from tests.faults.hostile.packages import packages, pickles
from tests.faults.hostile.places import archives, special
from tests.faults.hostile.sizes import growing
from tests.faults.hostile.texts import texts
from tests.faults.hostile.trial import MARKER, Trial
from tests.faults.inputs import prepare, without_figures
from tests.faults.inputs.attempt import Answer, Case, attempt, hashes
from tests.faults.inputs.cases import Good
from tests.faults.inputs.domains import DOMAINS
from tests.faults.scenario import Options, Outcome

GROUPS: tuple[Callable[[list[str]], Iterator[Trial]], ...] = (
    packages,
    pickles,
    texts,
    growing,
    names,
    archives,
    special,
)


def trials(tasks: list[str]) -> Iterator[Trial]:
    """Yields every attack on some tasks."""
    for group in GROUPS:
        yield from group(tasks)


def tried(good: Good, trial: Trial) -> Answer:
    """Runs one attack; ``wrong`` of the answer says what is not as it has to be."""
    place = good.folder / "trial" / "inner"
    place.mkdir(parents=True)
    good.use(place, *trial.needs)
    argv = trial.make(place, good)
    around = hashes_around(place)
    partial = trial.text.endswith("among inputs")
    case = Case("hostile", trial.text, trial.command, argv, trial.codes, partial=partial)
    with without_figures(good.domain.task) as task:
        answer = attempt(task, case, place)
    if (place / MARKER).exists():
        answer.wrong.append("the pickle was executed")
    if hashes_around(place) != around:
        answer.wrong.append("something is written outside")
    if trial.look and not answer.wrong and (found := trial.look(place, answer)):
        answer.wrong.append(found)
    shutil.rmtree(place.parent)
    return answer


def hashes_around(place: Path) -> dict[str, str]:
    """The files beside the folder of a trial."""
    return {name: digest for name, digest in hashes(place.parent).items() if not name.startswith(place.name)}


def run(options: Options) -> list[Outcome]:
    """Tries every attack on every task."""
    goods = {d.name: prepare(d, options.folder / "hostile" / d.name) for d in DOMAINS}
    outcomes: dict[str, Outcome] = {}
    for trial in trials(list(goods)):
        answer = tried(goods[trial.task], trial)
        outcome = outcomes.setdefault(trial.group, Outcome(trial.group, 0, 0, "", []))
        outcome.tried += 1
        outcome.passed += not answer.wrong
        if answer.wrong:
            outcome.failures.append(
                f"{trial.text}: {'; '.join(answer.wrong)} [{answer.error.strip()[:300]!r}]"
            )
    for outcome in outcomes.values():
        outcome.figures = (
            f"{outcome.passed} of {outcome.tried} end in one line, nothing executed, nothing changed"
        )
    return list(outcomes.values())
