"""The model file of the MLflow pyfunc: MLflow copies it into a model and runs it to load the model.

It holds no model code: it hands a package to the installed task, so that a copy inside an old model cannot
shadow the installed packages.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext


class BadRequest(MlflowException):
    """What the caller got wrong, in one line.

    MLflow's server puts the table of the request in front of the message of what a model raises; the caller has it.
    """

    def __init__(self, message: str) -> None:
        self._line = message
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The line; setting it changes nothing."""
        return self._line

    @message.setter
    def message(self, text: str) -> None:
        pass


class PackageModel(PythonModel):
    """Serves a model package through :meth:`core.task.Task.serve`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads and checks the package with the installed skipway."""
        try:
            from core.task import task_of
            from core.track.package import load_package
        except ImportError as error:
            raise ImportError(
                f"this model needs skipway in the environment that serves it ({error}): pip install skipway"
            ) from error
        package = load_package(context.artifacts["package"])
        self.task = task_of(package)
        self.predictor = self.task.predictor(package)

    # pandas and MLflow read these hints when the class is made, hence no strings.
    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answers one request; what the caller got wrong comes back as one line with HTTP status 400."""
        from core.errors import SkipwayError

        try:
            return self.task.serve(self.predictor, model_input, params or {})
        except SkipwayError as error:
            raise BadRequest(str(error)) from error


set_model(PackageModel())
