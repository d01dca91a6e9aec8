"""Learning from a teacher: a wrapper around any task's learner.

Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", arXiv:2106.05237: teacher and
student see the very same view of a sample, crop and augmentation included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import TrainConfig
from core.errors import ConfigError
from core.registry import Registry
from core.train.learner import Learner
from core.train.stacked import Stacked

Distance = Callable[[Tensor, Tensor, float], Tensor]
"""From outputs of the student and of the teacher, in one shape, and the temperature, to a scalar."""

DISTANCES: Registry[Distance] = Registry("distance to the teacher")


@DISTANCES.register("kl")
def kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Returns ``T^2 KL(teacher || student)`` of logits ``(B, K, *spatial)``, mean over samples and positions.

    The factor keeps the size of the gradient (Hinton et al., arXiv:1503.02531, section 2).

    Raises:
        ConfigError: There is one class or none.
    """
    if student.ndim < 2 or student.shape[1] < 2:
        raise ConfigError("--train.teacher_distance kl compares classes, of which there is one here; use mse")
    log_p = F.log_softmax(teacher.float() / temperature, dim=1)
    log_q = F.log_softmax(student.float() / temperature, dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


@DISTANCES.register("mse")
def mse(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Returns the mean squared difference; the temperature has no part in it."""
    return F.mse_loss(student.float(), teacher.float())


@DISTANCES.register("relative")
def relative(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Returns the squared difference over the mean square of the teacher's output along the last axis, its mean.

    For outputs of many scales, such as forecasts of series in different units.
    """
    target = teacher.float()
    scale = target.square().mean(-1, keepdim=True).clamp_min(1e-12)
    return ((student.float() - target).square() / scale).mean()


@dataclass
class Call:
    """A call of the student's model, or of a part of it.

    Attributes:
        path: Path of what was called in the model; empty for the model itself.
        args: Positional inputs.
        kwargs: Inputs by name.
        output: What it returned.
    """

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@contextmanager
def outermost_calls(model: nn.Module) -> Iterator[list[Call]]:
    """Collects the calls of ``model``, or of its parts where a learner calls these and not the model.

    The parts are the model's children; a list of modules, which has no forward pass, counts as its entries.
    A call from within another one is not collected.
    """
    calls: list[Call] = []
    depth = 0

    def enter(module: nn.Module, args: Any) -> None:
        nonlocal depth
        depth += 1

    def leaving(path: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            nonlocal depth
            depth -= 1
            if depth == 0:
                calls.append(Call(path, args, kwargs, output))

        return leave

    handles = []
    for path, module in _units(model):
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leaving(path), with_kwargs=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _units(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    yield "", model
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from ((f"{name}.{key}", module) for key, module in child.named_children())
        else:
            yield name, child


def _tensors(output: Any) -> list[Tensor]:
    """Returns the floating-point tensors in an output of any nesting."""
    if torch.is_tensor(output):
        return [output] if output.is_floating_point() else []
    if isinstance(output, dict):
        output = list(output.values())
    return (
        [tensor for part in output for tensor in _tensors(part)] if isinstance(output, list | tuple) else []
    )


class Distilled(Learner):
    """A learner whose loss is ``(1 - w) loss + w distance(student, teacher)``.

    It listens to the student's model while the learner computes its loss, so that it works for any learner,
    and calls the teacher with the very same inputs. The teacher is in evaluation mode, has no gradient, and is
    in no ``state_dict``.

    Args:
        learner: The student with its loss.
        teacher: A trained module with the interface of ``learner.model``; where the learner calls parts of its
            model, the teacher has parts of the same names.
        weight: ``w``, from 0 to 1.
        temperature: Softens the class probabilities of ``kl``.
        distance: ``kl``, ``mse`` or ``relative``.

    Raises:
        ConfigError: The distance is unknown, or a number is out of range.
    """

    def __init__(
        self,
        learner: Learner,
        teacher: nn.Module,
        weight: float = 0.5,
        temperature: float = 1.0,
        distance: str = "kl",
    ) -> None:
        nn.Module.__init__(self)
        if not 0 <= weight <= 1 or not temperature > 0:
            raise ConfigError(
                f"a teacher's weight is from 0 to 1 and its temperature above 0, not {weight} and {temperature}"
            )
        self.learner = learner
        self.weight, self.temperature, self.distance = weight, temperature, DISTANCES[distance]
        # In a list, so that the teacher is not registered as a child.
        self._teacher = [teacher.eval().requires_grad_(False)]

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The student's network."""
        return self.learner.model

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mixed loss; the curves also hold ``task_loss`` and ``teacher_distance``.

        Raises:
            ConfigError: The teacher does not fit the student.
        """
        with outermost_calls(self.model) as calls:
            loss, metrics = self.learner.loss_and_metrics(batch)
        assert calls, "the learner did not call its model"
        distance = self._distances(calls)
        curves = {"task_loss": loss.detach(), "teacher_distance": distance.detach()}
        return (1 - self.weight) * loss + self.weight * distance, metrics | curves

    def _distances(self, calls: list[Call]) -> Tensor:
        """Returns the mean over the calls; of stacked members the sum, as the learner's loss sums them."""
        alone, stacked = [], []
        for call in calls:
            module = self.model.get_submodule(call.path)
            pairs = self._pairs(call)
            if isinstance(module, Stacked):
                # Members become samples, so that classes stay on the second axis.
                pairs = [(s.flatten(0, 1), t.flatten(0, 1)) for s, t in pairs]
            mean = torch.stack([self.distance(s, t, self.temperature) for s, t in pairs]).mean()
            if isinstance(module, Stacked):
                stacked.append(mean * module.num_members)
            else:
                alone.append(mean)
        terms = ([torch.stack(alone).mean()] if alone else []) + stacked
        return torch.stack(terms).sum()

    def _pairs(self, call: Call) -> list[tuple[Tensor, Tensor]]:
        """Returns outputs of the student and of the teacher, tensor by tensor."""
        try:
            teacher = self._teacher[0].get_submodule(call.path)
        except AttributeError:
            raise ConfigError(
                f"--train.teacher: the teacher has no part {call.path!r} as this model has; choose another one"
            ) from None
        try:
            with torch.no_grad():
                targets = _tensors(teacher(*call.args, **call.kwargs))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            inputs = [tuple(value.shape) for value in _tensors([*call.args, *call.kwargs.values()])]
            raise ConfigError(
                f"--train.teacher: the teacher takes no inputs of shapes {inputs} as this model does"
                f" ({str(error).splitlines()[0]}); choose a teacher of the same task and size"
            ) from error
        outputs = _tensors(call.output)
        if [t.shape for t in targets] != [t.shape for t in outputs]:
            shapes = [[tuple(t.shape) for t in tensors] for tensors in (targets, outputs)]
            raise ConfigError(
                f"--train.teacher: the teacher's output has shapes {shapes[0]} and this model's {shapes[1]}; "
                "choose a teacher of the same task and size"
            )
        return list(zip(outputs, targets, strict=True))

    def validate(self) -> tuple[float, dict[str, float]]:
        """Validates the student by itself."""
        return self.learner.validate()

    def suspects(self, batch: dict[str, Any]) -> list[Any]:
        """Asks the student."""
        return self.learner.suspects(batch)

    def clip_grad_norm(self, limit: float) -> Tensor:
        """Clips as the student does."""
        return self.learner.clip_grad_norm(limit)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._teacher[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)


def distilled(learner: Learner, teacher: nn.Module, config: TrainConfig) -> Distilled:
    """Returns the learner with a teacher, as ``--train.teacher_*`` say."""
    return Distilled(
        learner, teacher, config.teacher_weight, config.teacher_temperature, config.teacher_distance
    )
