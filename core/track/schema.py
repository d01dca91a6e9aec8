"""What a model takes and gives as tables, and the JSON body of a request to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from core.task import Task

_KINDS = {"b": "boolean", "i": "long", "u": "long", "f": "double", "M": "datetime"}
"""Kinds of NumPy to MLflow's names of types; anything else is text."""

SHOWN = 48
"""Characters of a text that is cut."""
ROWS = 3
"""Rows, or numbers, of a list that is cut."""


def schema_of(task: Task, predictor: Any) -> dict[str, Any]:
    """Asks a model its own example and returns names and types of what went in and came out.

    Returns:
        ``input`` and ``output``, column to type, ``params``, name to ``type`` and ``default``, and ``example``, the
        body of the request with long texts and lists cut. Types are those of MLflow's signatures: string, double, long,
        boolean, datetime.
    """
    frame, params = task.example(predictor)
    return {
        "input": _columns(frame),
        "params": {name: {"type": _kind(value), "default": value} for name, value in params.items()},
        "output": _columns(task.serve(predictor, frame, params)),
        "example": shortened(request_body(frame, params)),
    }


def _columns(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): _KINDS.get(frame[name].dtype.kind, "string") for name in frame.columns}


def _kind(value: Any) -> str:
    return _KINDS.get(np.asarray(value).dtype.kind, "string")


def request_body(frame: pd.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
    """Returns what ``POST /invocations`` of ``mlflow models serve`` takes as JSON.

    Args:
        frame: Rows to ask about.
        params: Parameters; left out where there are none.
    """
    split = frame.to_dict("split", index=False)
    return {"dataframe_split": split} | ({"params": params} if params else {})


def text_of(body: dict[str, Any]) -> str:
    """Returns a body as JSON with a line for each entry and each row."""
    columns = json.dumps(body["dataframe_split"]["columns"], ensure_ascii=False)
    rows = [json.dumps(row, ensure_ascii=False) for row in body["dataframe_split"]["data"]]
    lines = [
        "{",
        '  "dataframe_split": {',
        f'    "columns": {columns},',
        '    "data": [',
        ",\n".join(f"      {row}" for row in rows),
        "    ]",
        "  }" + ("," if "params" in body else ""),
    ]
    if "params" in body:
        lines.append(f'  "params": {json.dumps(body["params"], ensure_ascii=False)}')
    return "\n".join([*lines, "}"])


def shortened(content: Any) -> Any:
    """Returns JSON content to be looked at: long texts and lists end in ``...``."""
    if isinstance(content, str):
        return content if len(content) <= SHOWN else f"{content[:SHOWN]}..."
    if isinstance(content, dict):
        return {name: shortened(value) for name, value in content.items()}
    if isinstance(content, list):
        # Lists of names stay whole: what is cut is data.
        names = all(isinstance(value, str) and len(value) <= SHOWN for value in content)
        cut = [shortened(value) for value in (content if names else content[:ROWS])]
        return cut if names or len(content) <= ROWS else [*cut, "..."]
    return content
