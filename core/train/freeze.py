"""Parts of a model that do not learn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from core.errors import ConfigError
from core.registry import nearest


def frozen_modules(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Returns the modules of ``model`` that ``--train.freeze`` names.

    Args:
        model: Network that is going to be trained. Of stacked ensembles a stack is frozen whole.
        names: Paths of its modules, such as ``backbone.stem``.

    Raises:
        ConfigError: The model has no module of a name, or nothing is left that learns.
    """
    known = dict(model.named_modules(remove_duplicate=False))
    for name in names:
        if name not in known:
            parts = ", ".join(child for child, _ in model.named_children())
            raise ConfigError(
                f"--train.freeze {name} is no module of this model.{nearest(name, known)} Its parts are {parts}"
            )
    modules = [known[name] for name in names]
    frozen = {id(parameter) for module in modules for parameter in module.parameters()}
    if frozen and not any(p.requires_grad and id(p) not in frozen for p in model.parameters()):
        raise ConfigError(
            f"--train.freeze [{', '.join(names)}] leaves nothing that learns; name fewer modules"
        )
    return modules


def freeze(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Takes the gradients from the named modules and returns these; the optimiser is built afterwards.

    :func:`train_mode` keeps their norms and dropout as they are in evaluation.

    Raises:
        ConfigError: The model has no module of a name, or nothing is left that learns.
    """
    modules = frozen_modules(model, names)
    for module in modules:
        module.requires_grad_(False)
    return modules


def train_mode(learner: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Puts a learner into training mode, all but the modules that are frozen."""
    learner.train()
    for module in frozen:
        module.eval()
