"""New words for a trained keyword spotter, without forgetting the old ones.

All ways begin with imprinting: a new word's row of the output layer is where the clips of the word lie among the
embeddings of the trained network (Qi et al., "Low-Shot Learning with Imprinted Weights", arXiv:1712.07136), so that the
word is known before the first step and little has to change. Old clips that are rehearsed (Rebuffi et al., "iCaRL",
arXiv:1611.07725) come with the data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from core.data.split import Fold
from core.errors import ConfigError
from core.residual import Residual, create_rule
from core.train.distill import Call, Distilled
from core.train.learner import Learner
from tasks.speech.config import ExtendConfig
from tasks.speech.data.clips import SpeechData
from tasks.speech.frontend import FrontEnd
from tasks.speech.learner import clip_features

BATCH = 64
"""Clips that go through front end and network together."""


@torch.no_grad()
def grow(network: Any, old_classes: int, classes: int, features: Tensor, labels: Tensor) -> None:
    """Gives a trained network an output layer for more classes; what it says of the old ones stays.

    The row of a new class is the mean of the embeddings of its clips, each of length 1, brought to the mean length of
    the old rows; its bias is the mean of the old biases. A new class without clips has the random row of a new layer.

    Args:
        network: Has ``embed``, ``(B, T, F)`` to ``(B, D)``, and ``output``, a linear layer of D inputs.
        old_classes: Classes that it knows, the first ones.
        classes: Classes that it is to know.
        features: Clips ``(N, T, F)``.
        labels: Their classes ``(N,)``; clips of old classes are not used.
    """
    old: nn.Linear = network.output
    new = nn.Linear(old.in_features, classes).to(old.weight)
    new.weight[:old_classes], new.bias[:old_classes] = old.weight, old.bias
    new.bias[old_classes:] = old.bias.mean()
    training = network.training
    network.eval()
    parts = features.to(old.weight).split(BATCH)
    embedded = (
        F.normalize(torch.cat([network.embed(part) for part in parts]), dim=1) if len(features) else features
    )
    network.train(training)
    length = old.weight.norm(dim=1).mean()
    for label in labels.unique().tolist():
        if label >= old_classes:
            new.weight[label] = length * F.normalize(embedded[labels == label].mean(0), dim=0)
    network.output = new


class Frozen(nn.Module):
    """A trained network that stays as it is, with logits of 0 for the classes that it does not know.

    Args:
        network: Maps ``(B, T, F)`` to ``(B, old classes)``; it gets no gradient any more.
        classes: Classes in all.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network.requires_grad_(False), classes
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Maps features ``(B, T, F)`` to logits ``(B, classes)``."""
        logits = self.network(features)
        return F.pad(logits, (0, self.classes - logits.shape[1]))

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, so that running statistics and dropout do too."""
        return super().train(False)


class Boosted(Residual):
    """A trained network, and a second one whose logits are added to its own: a residual connection of classifiers.

    The trained network is the shortcut and does not change; the second network learns what it lacks. That a second
    network boosts a frozen one is FOSTER's (Wang et al., arXiv:2204.04662), that the logits of a new branch are added
    to the old ones the Dynamic Residual Classifier's (Chen et al., ICCV 2023).

    Args:
        old: Network for the old classes, the first ones; another ``Boosted`` if words are added for a second time.
        new: Network for all classes, with ``output``.
        rule: Residual rule of the sum.
        rule_options: Options of the rule.
    """

    def __init__(
        self, old: nn.Module, new: Any, rule: str = "add", rule_options: Mapping[str, Any] | None = None
    ) -> None:
        classes = new.output.out_features
        merge = create_rule(rule, channels=classes, dims=0, **(rule_options or {}))
        super().__init__(new, merge, shortcut=Frozen(old, classes))

    def forward(self, features: Tensor) -> Tensor:
        """Maps features ``(B, T, F)`` to logits ``(B, classes)``."""
        # The stream begins with the logits: a rule that remembers earlier streams could not add features to them.
        _, state = self.rule.prepare(self.rule.open(self.downsample(features)))  # type: ignore[misc]  # there is one
        return self.rule.close(self.rule.merge(self.branch(features), state))


def extend_network(
    old: nn.Module,
    config: ExtendConfig,
    classes: int,
    features: Tensor,
    labels: Tensor,
    rule: str = "add",
    rule_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Returns a network for more classes that begins where a trained one ended.

    It is a copy of the trained network with a larger output layer; for ``boost``, the trained network and such a copy
    whose logits of old classes begin at 0. From random weights a second network learns next to nothing from a handful
    of clips. With ``boost`` and the residual rule ``decayed`` it does not begin there: the rule makes the logits of the
    trained network smaller at once, all by the same factor.

    Args:
        old: Trained network; it becomes part of the result for ``boost``.
        config: Its method.
        classes: Classes, the old ones first.
        features: Clips of the new classes ``(N, T, F)``.
        labels: Their classes ``(N,)``.
        rule: Residual rule of the sum of ``boost``.
        rule_options: Options of the rule.

    Raises:
        ConfigError: The trained network has two networks already, and the method is not ``boost``.
    """
    twice = isinstance(old, Boosted)
    if twice and config.method != "boost":
        raise ConfigError(
            f"--extend.method {config.method}: the model was extended by boost and has several networks; "
            "use --extend.method boost again"
        )
    student: Any = copy.deepcopy(old.branch if twice else old).requires_grad_(True)
    old_classes = student.output.out_features
    grow(student, old_classes, classes, features, labels)
    if config.method != "boost":
        return student
    with torch.no_grad():
        student.output.weight[:old_classes], student.output.bias[:old_classes] = 0, 0
    return Boosted(old, student, rule, rule_options)


def rebuild(
    build: Callable[[int], nn.Module],
    classes: Sequence[int],
    rule: str = "add",
    rule_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Returns an untrained network as :func:`extend_network` makes them, for weights that were saved.

    Args:
        build: From a number of classes to a network.
        classes: Classes of each network, in the order in which they were added; one number for a plain network.
        rule: Residual rule of the sums.
        rule_options: Options of the rule.
    """
    network = build(classes[0])
    for count in classes[1:]:
        network = Boosted(network, build(count), rule, rule_options)
    return network


def stages(network: nn.Module) -> list[int]:
    """Returns the classes of each network of an extended one, what :func:`rebuild` takes."""
    if isinstance(network, Boosted):
        return [*stages(network.downsample.network), network.branch.output.out_features]  # type: ignore
    return [network.output.out_features]  # type: ignore


def new_clips(data: SpeechData, fold: Fold, front: FrontEnd) -> tuple[Tensor, Tensor]:
    """Returns the features ``(N, T, F)`` of the clips of new words to learn from, and their classes ``(N,)``."""
    labels = data.clips.labels[fold.train]
    chosen = fold.train[labels >= data.extends]
    return clip_features(front, data.clips, chosen), torch.from_numpy(data.clips.labels[chosen])


class ExtendedLearner(Distilled):
    """Learns new words, and for ``distill`` to say of the old ones what the trained network says.

    The loss is ``(1 - w) loss + w T^2 KL`` with the Kullback-Leibler divergence between the softened distributions of
    both networks over the old classes alone, on every recording of a batch, new words too ("Learning without
    Forgetting", Li and Hoiem, arXiv:1606.09282): they tell how old words would have sounded where none are rehearsed.

    Batch norms keep the running statistics of the trained network: those of a handful of clips of a few words are not
    those of speech.

    Args:
        learner: The extended network with its loss; a batch's features go through the network as a whole.
        teacher: The trained network; it is in evaluation mode, has no gradient and is in no ``state_dict``.
        config: Method, and weight and temperature of ``distill``; the others have the learner's loss alone.
    """

    def __init__(self, learner: Learner, teacher: nn.Module, config: ExtendConfig) -> None:
        weight = config.weight if config.method == "distill" else 0.0
        super().__init__(learner, teacher, weight, config.temperature)

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss; with a weight the curves also hold ``task_loss`` and ``teacher_distance``."""
        return super().loss_and_metrics(batch) if self.weight else self.learner.loss_and_metrics(batch)

    def train(self, mode: bool = True) -> Self:
        """Keeps batch norms in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def _pairs(self, call: Call) -> list[tuple[Tensor, Tensor]]:
        with torch.no_grad():
            target = self._teacher[0](*call.args, **call.kwargs)
        return [(call.output[:, : target.shape[1]], target)]
