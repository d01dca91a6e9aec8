"""Imported once by the process that trainings are forked off: imports and caches take longer than such a training."""

# ruff: noqa: F401
from __future__ import annotations

import logging
import os
import warnings

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store
    import scipy.signal
    import sklearn.linear_model
    import soundfile
    import statsmodels.tsa.api
    import torch
    import torchaudio
    from mlflow.utils import requirements_utils

import core.commands.train
import tasks.ecg.task
import tasks.forecasting.task
import tasks.speech.task
from core.report.html import draw_curves, embed_figure
from core.train.seeds import seed_everything

logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # a process that imports it later does so itself
torch.set_num_threads(1)
seed_everything(0)  # imports half of torch
embed_figure(draw_curves({"loss": [(1, 1.0), (2, 0.5)]}))  # finds the fonts
requirements_utils._init_modules_to_packages_map()  # reads every installed distribution
