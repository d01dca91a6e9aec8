"""Bad inputs for every task: what a command says to them, and what it leaves behind."""

from __future__ import annotations

import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.cli import main
from core.task import Task
from tests.faults.inputs.attempt import Answer, Case, attempt, call
from tests.faults.inputs.cases import Good, draw
from tests.faults.inputs.domains import DOMAINS, Domain
from tests.faults.scenario import Options, Outcome

MEMORY = 6 * 2**30
"""Bytes that a command may ask for beyond what the process has."""


def run(options: Options) -> list[Outcome]:
    """Tries ``options.inputs`` bad inputs for each task."""
    return [_outcome(domain, options) for domain in DOMAINS]


def prepare(domain: Domain, folder: Path) -> Good:
    """Writes good files, and trains a model on them."""
    folder.mkdir(parents=True)
    for name, write in (("data", domain.data), ("input", domain.inputs)):
        (folder / name).mkdir()
        write(folder / name)
    argv = [f"--data.path={folder / 'data' / domain.path}", *domain.train, f"--output={folder / 'runs'}"]
    answer = call(lambda: main(domain.task, "train", argv))
    if answer.code != 0:
        raise RuntimeError(f"the good data of {domain.name} gives no model: {answer.error} {answer.wrong}")
    (made,) = (folder / "runs" / domain.name).iterdir()
    shutil.copytree(made / "package", folder / "model")
    return Good(domain, folder)


def tried(good: Good, count: int, seed: int) -> Iterator[tuple[Case, Answer]]:
    """Yields each case and what became of it; its folder is removed."""
    place = good.folder / "case"
    with without_figures(good.domain.task) as task, _less_memory():
        for number in range(count):
            place.mkdir()
            case = draw(good, place, random.Random(f"{seed} {good.domain.name} {number}"))
            answer = attempt(task, case, place)
            case.text = f"{good.domain.name} {number}: {case.kind}: {case.command}: {case.text}"
            yield case, answer
            shutil.rmtree(place)


@contextmanager
def without_figures(task: Task) -> Iterator[Task]:
    """Figures take most of the time of a command that accepts its input."""
    task.figures = lambda *given: iter(())  # type: ignore[method-assign]
    try:
        yield task
    finally:
        del task.figures


@contextmanager
def _less_memory() -> Iterator[None]:
    """Lets a command that asks for too much memory fail, and not the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _outcome(domain: Domain, options: Options) -> Outcome:
    good = prepare(domain, options.folder / "inputs" / domain.name)
    began = time.process_time()
    codes: Counter[int | None] = Counter()
    noise: Counter[str] = Counter()
    failures: list[str] = []
    passed = 0
    for case, answer in tried(good, options.inputs, options.seed):
        codes[answer.code] += 1
        noise.update(answer.noise)
        passed += not answer.wrong
        if answer.wrong:
            failures.append(
                f"{case.text}: {'; '.join(answer.wrong)} [{' '.join(answer.error.split())[:300]}]"
            )
    seconds = time.process_time() - began
    figures = ", ".join(f"{count} exit code {code}" for code, count in sorted(codes.items(), key=str))
    figures += f"; {seconds:.1f} s of the processor, {seconds / max(options.inputs, 1):.3f} each"
    if noise:
        worst, count = noise.most_common(1)[0]
        figures += f"; {noise.total()} lines of libraries, most often {worst[:80]!r} ({count})"
    return Outcome(f"bad inputs of {domain.name}", options.inputs, passed, figures, failures)
