"""A task whose model multiplies a column by one number; once imported, ``load_task("fake")`` finds it."""

from __future__ import annotations

import sys
import types

import pandas as pd
import torch

from core.task import Packaged, Task
from core.track.package import load_package, save_package
from core.track.run import Run


class FakeTask(Task):
    name = "fake"
    summary = "multiplies"
    title = "factor"
    config_class = dict
    models = {}  # noqa: RUF012
    datasets = {}  # noqa: RUF012
    higher_is_better = False

    def load(self, config): ...
    def primary_metric(self, config, data): ...
    def parts(self, config, data): ...
    def package(self, config, data, learners): ...
    def evaluate(self, predictor, config, data): ...
    def baselines(self, config, data): ...
    def figures(self, predictor, config, data, results): ...
    def predict(self, predictor, config): ...
    def export(self, predictor, folder, format): ...

    def predictor(self, package):
        return package.tensors()["factor"]

    def serve(self, predictor, frame, params):
        return pd.DataFrame({"y": frame["x"] * predictor.item() + params.get("shift", 0.0)})

    def example(self, predictor):
        return pd.DataFrame({"x": [1.0, 2.0]}), {"shift": 0.0}


FakeTask.__abstractmethods__ = frozenset()  # members that other parts add to Task do not matter here
TASK = FakeTask()

_package, _module = types.ModuleType("tasks.fake"), types.ModuleType("tasks.fake.task")
_package.__path__ = []
_module.TASK = TASK
sys.modules |= {"tasks.fake": _package, "tasks.fake.task": _module}


def make_run(root, uri, factor=2.0, say=print):
    """A started run with a package."""
    run = Run.create("fake", root, uri, say)
    run.start(seed=3)
    packaged = Packaged({"kind": "factor"}, {"factor": torch.tensor([factor])}, {"metric": "mape"})
    return run, load_package(save_package(run.package_folder, packaged, "fake"))
