"""Trainings that begin together on one tracking database that does not exist yet."""

from __future__ import annotations

from tests.faults.scenario import Options, Outcome
from tests.faults.store import read_store
from tests.faults.training import Training, World, is_measured

TOGETHER = 8
EASY = ("--scoring.baselines=[prevalence]", "--train.epochs=8")
"""What a short training can win against, so that there are promotions."""


def run(options: Options) -> list[Outcome]:
    """Trains eight times at once."""
    return [train_together(options, TOGETHER)]


def train_together(options: Options, count: int) -> Outcome:
    """Trains ``count`` times at once with different seeds, then looks for each of them in the store."""
    world = World.make(options.folder / "world")
    folder = options.folder / "stores"
    path = folder / "store" / "mlflow.db"
    trainings = [
        Training.new(
            "ecg", folder / str(n), world, tracking=f"sqlite:///{path}", options=(*EASY, f"--seed={n}")
        )
        for n in range(count)
    ]
    said = [started.wait() for started in [training.start() for training in trainings]]
    failures = [
        f"training {n}: exit code {entry.code}: {entry.error.strip()}"
        for n, entry in enumerate(said)
        if entry.code or entry.error
    ]
    if failures:
        return Outcome(
            f"{count} trainings at once, no database yet", count, count - len(failures), "", failures
        )
    held = read_store(path)
    values, promoted = {}, []
    for n, training in enumerate(trainings):
        record = training.record
        points = {(name, float(value)) for name, value in record["metrics"].items() if not is_measured(name)}
        lost = points - {(name, value) for run, name, _, value in held.points if run == record["id"]}
        missing = {
            path.relative_to(training.last).as_posix() for path in training.last.glob("figures/*.png")
        } | {"report.html", "config.yaml"}
        missing -= {name for run, name in held.files if run == record["id"]}
        score = record["registration"]["score"]
        values[int(record["sync"]["version"])] = score["value"]
        if score["value"] > score["baseline_value"]:
            promoted.append(score["value"])
        if lost or missing:
            failures.append(f"training {n}: lost {sorted(lost)[:2]} {sorted(missing)[:2]}")
    if held.statuses != ["FINISHED"] * count:
        failures.append(f"runs: {held.statuses}")
    if sorted(values) != list(range(1, count + 1)) or [v for _, v in held.versions] != sorted(values):
        failures.append(f"versions: {held.versions}, of the runs {sorted(values)}")
    champion = held.aliases.get(("skipway-ecg", "champion"))
    best = max(promoted, default=None)
    if (values.get(champion) if champion else None) != best:
        failures.append(f"champion: version {champion} of {values}, not one of {best}")
    counts = {"runs": held.statuses, "points": held.points, "files": held.files, "versions": held.versions}
    figures = ", ".join(f"{len(entries)} {name}" for name, entries in counts.items())
    passed = 0 if failures else count
    return Outcome(
        f"{count} trainings at once, no database yet",
        count,
        passed,
        f"{figures}, the best is champion",
        failures,
    )
