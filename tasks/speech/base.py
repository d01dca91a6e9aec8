"""The model that is extended with new words, and what it decides."""

from __future__ import annotations

from dataclasses import replace

from core.commands.load import find_package
from core.config import to_dict
from core.errors import ConfigError
from core.task import Task
from core.track.package import Package
from core.track.store import resolve_uri
from tasks.speech.config import MODELS, DataConfig, FeatureConfig, SpeechConfig


def find_base(task: Task, config: SpeechConfig) -> Package | None:
    """Returns the model that is extended with new words; ``None`` without one.

    Raises:
        ConfigError: It has several networks, or is not the one that the run was started with.
        TrackingError: It cannot be found.
    """
    where = config.extend.model
    if where is None:
        return None
    package = find_package(task, where, resolve_uri(config.tracking))
    if package.config["folds"]:
        raise ConfigError(
            f"--extend.model {where} has {len(package.config['folds'])} networks, of cross-validation; "
            "extend a model of one network"
        )
    weights = package.metadata["sha256"]["weights.safetensors"]
    if config.extend.weights not in (None, weights):
        raise ConfigError(
            f"--extend.model {where} is not the model that this run was started with; start a new run"
        )
    return package


def for_extension(config: SpeechConfig, base: Package | None) -> SpeechConfig:
    """Returns the configuration with what a model that is extended decides: network, features, words and their split.

    Raises:
        ConfigError: Options contradict the model, or mean nothing without one.
    """
    extend = config.extend
    if base is None:
        if config.data.old_path or config.data.old_words:
            raise ConfigError(
                "--data.old_path and --data.old_words are for --extend.model MODEL; give it, or leave them off"
            )
        return config
    if not config.data.path:
        raise ConfigError("--extend.model needs --data.path FOLDER with recordings of the new words")
    if config.data.folds:
        raise ConfigError("--data.folds and --extend.model exclude each other; leave one of them off")
    if config.train.teacher or config.train.start_from:
        raise ConfigError(
            "--extend.model is teacher and first weights; leave --train.teacher and --train.start_from off"
        )
    if not 0 <= extend.weight <= 1:
        raise ConfigError(f"--extend.weight {extend.weight} must lie between 0 and 1")
    settings = base.config
    plain_data = DataConfig(rate=settings["rate"], duration=settings["samples"] / settings["rate"])
    trained = to_dict(plain_data) | base.metadata.get("data", {}).get("config", {})
    known = {
        "model": MODELS[settings["model"]["name"]](**settings["model"]),
        "features": FeatureConfig(**settings["features"]),
    }
    plain = {"model": SpeechConfig().model, "features": FeatureConfig()}
    for name, value in known.items():
        if getattr(config, name) not in (value, plain[name]):
            raise ConfigError(f"--{name}: that is decided by the model that is extended; leave it off")
    for name in ("rate", "duration"):
        if getattr(config.data, name) not in (trained[name], getattr(DataConfig(), name)):
            raise ConfigError(f"--data.{name}: the model that is extended has {trained[name]}; leave it off")
    split = {name: trained[name] for name in ("test_share", "validation_share", "speaker", "test_path")}
    data = replace(
        config.data,
        rate=trained["rate"],
        duration=trained["duration"],
        old_words=settings["classes"],
        old_split=split,
    )
    method = extend.method
    if method == "auto":
        # A boosted model can only be boosted again.
        method = "boost" if config.data.old_path or len(settings["stages"]) > 1 else "distill"
    weights = base.metadata["sha256"]["weights.safetensors"]
    return replace(config, data=data, extend=replace(extend, method=method, weights=weights), **known)
