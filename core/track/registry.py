"""Versions of a registered model and their aliases: champion, previous_champion, challenger.

The functions work on the store that :func:`core.track.store.prepare` has set, and raise ``TrackingError``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core.errors import NoModelError, TrackingError
from core.registry import nearest
from core.task import Task
from core.track import store
from core.track.package import Package, load_package
from core.track.promotion import Decision, Mode, Policy, Score, decide, load_policy
from core.track.resolve import fetch

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from core.track.run import Run

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous_champion", "challenger"
PREFIX = "skipway-"

SETTLE_SECONDS = 1.0
"""Shortest time after which a decision about a promotion is looked at again on a server."""


@dataclass(frozen=True)
class Version:
    """A line of the version list."""

    model: str
    version: str
    aliases: list[str]
    created: datetime
    tags: dict[str, str]


@contextlib.contextmanager
def open_client() -> Iterator[MlflowClient]:
    """Gives a client, alone on a local database; failures of the store become ``TrackingError``."""
    from mlflow import MlflowClient

    try:
        with store.exclusive(store.current()):
            yield MlflowClient()
    except TrackingError:
        raise
    except store.failures() as error:
        raise TrackingError(
            f"model registry at {store.public_uri(store.current())}: {store.brief(error)}"
        ) from None


def score_tags(score: Score) -> dict[str, str]:
    """Returns the tags that keep a score with a version."""
    tags = {
        "metric": score.metric,
        "value": repr(float(score.value)),
        "direction": "higher" if score.higher_is_better else "lower",
        "data_digest": score.digest,
    }
    if score.baseline_value is not None:
        tags |= {"baseline": score.baseline, "baseline_value": repr(float(score.baseline_value))}
    return tags


def read_score(tags: dict[str, str]) -> Score | None:
    """Returns the score that the tags of a version hold, or None if it was registered without one."""
    try:
        return Score(
            tags["metric"],
            float(tags["value"]),
            tags["direction"] == "higher",
            tags["data_digest"],
            tags.get("baseline", ""),
            float(tags["baseline_value"]) if "baseline_value" in tags else None,
        )
    except (KeyError, ValueError):
        return None


def register(
    run: Run,
    package: Package,
    task: Task,
    *,
    metric: str,
    value: float,
    digest: str,
    baseline: tuple[str, float] | None = None,
    promote: Mode | None = None,
    evaluate_champion: Callable[[Package], float] | None = None,
) -> str:
    """Registers the package of a run as a version, the ``challenger``, and decides about its promotion.

    A store that does not answer costs nothing: the wish is kept in the run folder for ``sync``.

    Args:
        run: Run whose ``package/`` it is.
        package: The package.
        task: Its task, which also gives the direction of the metric.
        metric: Name of the primary metric.
        value: Its value on held-out data.
        digest: SHA-256 of that data.
        baseline: Name and value of the classical method on the same data.
        promote: Mode of promotion; None and the rest come from ``mlflow/registry.yaml``.
        evaluate_champion: Scores another package by the same metric on the same data.

    Returns:
        One sentence on what happened.

    Raises:
        TrackingError: the package is not the run's.
        ConfigError: ``mlflow/registry.yaml`` is wrong.
    """
    if package.folder.absolute() != run.package_folder.absolute():
        raise TrackingError(f"{package.folder} is not the package of the run {run.id}")
    rules = load_policy(task.name, promote)
    name, against = baseline or ("", None)
    version = run.register(task, Score(metric, value, task.higher_is_better, digest, name, against), rules)
    if version is None:
        return f"not registered yet: {run.why_offline}"
    title = f"{task.registered_name} version {version}"
    try:
        return f"{title}, {promote_if_better(task, version, evaluate_champion, rules).reason}"
    except TrackingError as error:
        return f"{title}, not promoted: {error}"


def create_version(name: str, model_id: str, mlflow_run_id: str, tags: dict[str, str]) -> str:
    """Creates a version of a logged model, and the registered model if missing; it becomes ``challenger``."""
    from mlflow.exceptions import MlflowException

    with open_client() as client:
        try:
            client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            try:
                client.create_registered_model(name)
            except MlflowException as race:  # on a server, somebody else's run may have been faster
                if race.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        # The answer to an earlier try may be what got lost.
        mine = f"name = '{name}' AND run_id = '{mlflow_run_id}'"
        found = [
            str(entry.version)
            for entry in _search(client.search_model_versions, mine)
            if entry.source == f"models:/{model_id}"
        ]
        if found:
            version = found[0]
        else:
            version = client.create_model_version(
                name, f"models:/{model_id}", run_id=mlflow_run_id, model_id=model_id, tags=tags
            ).version
        if not found or _aliases(client, name).get(CHAMPION) != version:
            _set_alias(client, name, CHALLENGER, version)
    return str(version)


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        names = [model.name for model in client.search_registered_models()]
        raise NoModelError(
            f"there is no registered model {name!r} in {store.public_uri(store.current())}."
            f"{nearest(name, names)} Train one: python -m tasks.{name.removeprefix(PREFIX)}.train"
        ) from None


def _set_alias(client: MlflowClient, name: str, alias: str, version: str) -> None:
    store.repeated(lambda: client.set_registered_model_alias(name, alias, version))


def _version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise TrackingError(
            f"{name} has no version {version}; see `python -m core.track list {name}`"
        ) from None


def _make_champion(client: MlflowClient, name: str, version: str) -> str | None:
    """Moves the aliases and returns the version that was champion before."""
    from mlflow.exceptions import MlflowException

    aliases = _aliases(client, name)
    former = aliases.get(CHAMPION)
    if former == version:
        return None
    if former is not None:  # first, so that a kill in between never loses the way back
        _set_alias(client, name, PREVIOUS, former)
    _set_alias(client, name, CHAMPION, version)
    if aliases.get(CHALLENGER) == version:
        try:
            client.delete_registered_model_alias(name, CHALLENGER)
        except MlflowException as error:
            # On a server, who may set an alias may not always take one away; the next version takes this one.
            if error.error_code != "PERMISSION_DENIED" and error.get_http_status_code() != 403:
                raise
    return former


def resolve_version(name: str, version: str) -> str:
    """Returns the number of a version that is given by number or alias.

    Raises:
        TrackingError: unknown; names the aliases that exist.
    """
    with open_client() as client:
        aliases = _aliases(client, name)
        if version in aliases:
            return aliases[version]
        if version.isdecimal():
            return str(_version(client, name, version).version)
    if not aliases:
        raise NoModelError(f"{name} has no alias {version!r}, and no other")
    known = ", ".join(
        f"models:/{name}@{alias} (version {number})" for alias, number in sorted(aliases.items())
    )
    raise NoModelError(f"{name} has no alias {version!r}.{nearest(version, aliases)} There is {known}")


def promote(name: str, version: str) -> str:
    """Makes a version, given by number or alias, the champion; returns a sentence that says what moved."""
    number = resolve_version(name, version)
    with open_client() as client:
        if _aliases(client, name).get(CHAMPION) == number:
            return f"{name} version {number} is the champion already"
        former = _make_champion(client, name, number)
    moved = f"; version {former} is now {PREVIOUS}" if former else ""
    return f"{name} version {number} is now {CHAMPION}{moved}"


def rollback(name: str) -> str:
    """Brings the previous champion back and returns a sentence that says what moved.

    The version that steps down becomes ``previous_champion``, so a second rollback undoes the first.
    """
    with open_client() as client:
        previous = _aliases(client, name).get(PREVIOUS)
        if previous is None:
            raise TrackingError(
                f"{name} has no {PREVIOUS} to go back to; see `python -m core.track list {name}`"
            )
        former = _make_champion(client, name, previous)
        if former is None:  # there was no champion, or the alias was moved by hand
            client.delete_registered_model_alias(name, PREVIOUS)
    moved = f"; version {former} is now {PREVIOUS}" if former else ""
    return f"{name} version {previous} is {CHAMPION} again{moved}"


def promote_if_better(
    task: Task,
    version: str,
    evaluate_champion: Callable[[Package], float] | None,
    policy: Policy | None = None,
) -> Decision:
    """Compares a version with today's champion on the same data and moves the aliases if it is better.

    If the champion was scored on other data, or by another metric, it is scored again where the challenger
    was.

    Args:
        task: Task of the registered model.
        version: Number of the challenger, registered with a score.
        evaluate_champion: Scores a package on the challenger's data by the challenger's metric; None if that
            is not possible now.
        policy: Rules; those of ``mlflow/registry.yaml`` when None.
    """
    name = task.registered_name
    policy = policy or load_policy(task.name)
    rescored: dict[str, Score] = {}
    trouble = ""
    while True:
        began = time.monotonic()
        decision = None
        with open_client() as client:
            candidate = read_score(_version(client, name, version).tags)
            if candidate is None:
                raise TrackingError(f"{name} version {version} was registered without a score")
            champion = _aliases(client, name).get(CHAMPION)
            score = None
            if champion is not None and champion != version:
                recorded = read_score(_version(client, name, champion).tags)
                score = rescored.get(champion) or recorded or Score("", 0.0, False, "")
            same = score is None or (score.metric, score.digest) == (candidate.metric, candidate.digest)
            needed = decide(candidate, None, policy).promote and policy.promote == "if-better"
            if same or not needed or champion in rescored or evaluate_champion is None:
                decision = decide(candidate, score, policy)
                if champion == version:
                    decision = Decision(False, "not promoted: it is the champion already")
                elif champion in rescored:
                    decision = replace(decision, reason=decision.reason + trouble)
                if decision.promote:
                    if _aliases(client, name).get(CHAMPION) != champion:
                        continue  # on a server, somebody else was faster
                    _make_champion(client, name, version)
                client.set_model_version_tag(name, version, "promotion", decision.reason)
        if decision is not None:
            if _stands(name, version, decision, policy, time.monotonic() - began):
                return decision
            continue
        # Scoring may take minutes: done without the lock, and the champion is looked up again afterwards.
        assert champion is not None
        assert evaluate_champion is not None
        try:
            package = load_package(fetch(f"models:/{name}/{champion}", store.current()))
            value = float(evaluate_champion(package))
        except Exception as error:  # whatever an old model does, it must not cost the run that just finished
            rescored[champion], trouble = Score("", 0.0, False, ""), f" ({store.brief(error)})"
        else:
            rescored[champion] = replace(candidate, value=value)


def _stands(name: str, version: str, decision: Decision, policy: Policy, took: float) -> bool:
    """Tells whether a decision still holds; it is looked at again a moment later, for a server has no lock.

    Two processes on a server can read the same champion and both replace it; the worse one may write last, or take
    away the alias of a challenger that it has not seen. Each looks again once the other must have written.

    Args:
        name: Registered model.
        version: The challenger.
        decision: What was decided and written.
        policy: Rules.
        took: Seconds from reading the champion to the end of writing.
    """
    if store.sqlite_path(store.current()) is not None:
        return True
    time.sleep(max(SETTLE_SECONDS, 2 * took))
    with open_client() as client:
        aliases = _aliases(client, name)
        champion, challenger = aliases.get(CHAMPION), aliases.get(CHALLENGER, "0")
        if decision.promote:
            return policy.promote == "always" or champion == version
        if champion != version and (challenger == champion or int(challenger) < int(version)):
            _set_alias(client, name, CHALLENGER, version)
    return True


def list_versions(name: str | None = None) -> list[Version]:
    """Returns the versions of one model, or of all models of skipway, the newest of each first."""
    with open_client() as client:
        if name is not None:
            _aliases(client, name)  # raises for an unknown name
            names = [name]
        else:
            names = sorted(model.name for model in _search(client.search_registered_models))
            names = [entry for entry in names if entry.startswith(PREFIX)]
        found = []
        for entry in names:
            aliases = _aliases(client, entry)
            quoted = f"name='{entry}'"
            for item in _search(client.search_model_versions, filter_string=quoted):
                number = str(item.version)
                own = sorted(alias for alias, target in aliases.items() if target == number)
                created = datetime.fromtimestamp(item.creation_timestamp / 1000, UTC)
                found.append(Version(entry, number, own, created, dict(item.tags)))
    return sorted(found, key=lambda row: (row.model, -int(row.version)))


def _search(search: Callable[..., Any], filter_string: str | None = None) -> Iterator[Any]:
    token = None
    while True:
        page = search(filter_string=filter_string, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
