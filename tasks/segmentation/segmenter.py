"""Trained networks, applied to cases: from the voxels of a file to its segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.compress.folding import deploy
from core.train.hardware import choose_device
from tasks.segmentation.data.cases import Voxels
from tasks.segmentation.frame import Frame
from tasks.segmentation.labels import Labels
from tasks.segmentation.objects import split_objects
from tasks.segmentation.onednn import with_onednn
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.postprocess import Postprocessing
from tasks.segmentation.preprocess import Prepared, preprocess, previous_channels
from tasks.segmentation.resample import classify, resample_argmax, resample_probabilities
from tasks.segmentation.windows import Progress, sliding_window


@dataclass
class Segmentation:
    """What was found in a case, as in its file.

    Attributes:
        labels: ``(Z, Y, X)`` int16 classes.
        objects: ``(Z, Y, X)`` int32 numbers of objects, of models that learned objects.
        probabilities: ``(outputs, Z, Y, X)`` float32, before post-processing, if asked for.
    """

    labels: np.ndarray
    objects: np.ndarray | None = None
    probabilities: np.ndarray | None = None


class Segmenter:
    """Segments cases with trained networks.

    Args:
        settings: ``config.json`` of its package: ``labels``, ``channels``, ``plan``, ``postprocessing`` (or ``None``)
            and, if not all axes were mirrored in training, ``mirror_axes``.
        networks: Trained networks by name, one a fold; copies of them in their form for inference are used.
        metadata: Of its package.
        previous: Coarser model whose result this one reads too.
        members: Models whose probabilities are averaged, in place of networks of its own.

    Attributes:
        labels: What the label maps mean.
        plan: How cases are prepared; of an ensemble, the first member's.
        channels: Names of the channels.
        networks: The networks.
        postprocessing: What is done to label maps.
        step: Largest step of the windows as a share of the patch.
        mirror: Whether to average over mirrored inputs: yes, no, or auto: on a GPU alone.
        batch: Windows that are computed together.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        networks: Mapping[str, nn.Module],
        metadata: Mapping[str, Any],
        previous: Segmenter | None = None,
        members: Sequence[Segmenter] = (),
    ) -> None:
        self.device = choose_device("auto")
        self.labels = Labels.from_dict(settings["labels"])
        self.plan = Plan.from_dict(settings["plan"] or settings["members"][0]["plan"])
        self.channels: list[str] = list(settings["channels"])
        stored = settings["postprocessing"]
        self.postprocessing = Postprocessing.from_dict(stored) if stored else Postprocessing()
        axes = settings.get("mirror_axes")
        self.mirror_axes: list[int] = list(range(self.plan.dims)) if axes is None else list(axes)
        # Not channels-last, which was no faster in volumes and slower in images, with instance norms.
        self.networks = {
            name: with_onednn(deploy(network.eval())).to(self.device) for name, network in networks.items()
        }
        self.metadata = dict(metadata)
        self.previous = previous
        self.members = list(members)
        self.step, self.mirror, self.batch = 0.5, "auto", 2
        self._seen = {name: frozenset(cases) for name, cases in metadata.get("learned_from", {}).items()}

    def unseen(self, name: str) -> list[str]:
        """Returns the networks that did not learn from a case of this name; all of them, if none is left."""
        if self.members:
            known = [set(member.unseen(name)) for member in self.members]
            return [network for network in self.members[0].networks if all(network in each for each in known)]
        left = [network for network in self.networks if name not in self._seen.get(network, ())]
        return left or list(self.networks)

    def knows(self, name: str) -> bool:
        """Whether every network, or every one of a member, learned from a case of this name."""
        if self.members:
            return any(member.knows(name) for member in self.members)
        return bool(self.networks) and all(name in self._seen.get(network, ()) for network in self.networks)

    @property
    def mirrors(self) -> bool:
        """Whether mirrored inputs are averaged over."""
        return self.mirror == "yes" or (self.mirror == "auto" and self.device.type == "cuda")

    def prepare(self, voxels: Voxels, name: str) -> Prepared:
        """Prepares a case, with the result among its channels of those coarser networks that have not seen it.

        Raises:
            DataError: The case does not fit the model; see :func:`tasks.segmentation.preprocess.preprocess`.
        """
        bare = replace(voxels, labels=None, mask=None, objects=None)  # not needed here, and slow to resample
        prepared = preprocess(bare, self.plan, name)
        if self.previous:
            self._pass_options(self.previous)
            coarse = self.previous.segment(voxels, name, self.previous.unseen(name)).labels
            further = previous_channels(coarse, prepared.frame, self.plan)
            prepared.image = np.concatenate([prepared.image, further])
        return prepared

    @torch.inference_mode()
    def logits(
        self, prepared: Prepared, folds: Sequence[str] | None = None, progress: Progress | None = None
    ) -> Tensor:
        """Returns the logits of a prepared case, ``(outputs, *prepared.frame.new_shape)`` float32 on the CPU.

        Args:
            prepared: The case, by :meth:`prepare`.
            folds: Networks whose mean is asked for; all when not given.
            progress: Told how many windows of all networks are done.
        """
        asked = [self.networks[fold] for fold in (self.networks if folds is None else folds)]
        image = torch.from_numpy(prepared.image)
        total: Tensor | None = None
        for index, network in enumerate(asked):
            logits = sliding_window(
                network,
                image,
                self.plan.patch_size,
                step=self.step,
                mirror_axes=self.mirror_axes if self.mirrors else [],
                batch=self.batch,
                outputs=self.labels.outputs,
                device=self.device,
                progress=partial(_of_several, progress, index, len(asked)) if progress else None,
            )
            total = logits if total is None else total.add_(logits)
        assert total is not None
        return total.div_(len(asked))

    def segment(
        self,
        voxels: Voxels,
        name: str,
        folds: Sequence[str] | None = None,
        progress: Progress | None = None,
        keep_probabilities: bool = False,
    ) -> Segmentation:
        """Segments a case.

        Args:
            voxels: As in its files. Outside of its field of view everything is background.
            name: Of the case, for messages.
            folds: Networks whose mean is asked for; all when not given.
            progress: Told how many windows are done; it starts anew with each member of an ensemble.
            keep_probabilities: Also return the probabilities, which take the memory of one float volume each.

        Raises:
            DataError: The case does not fit the model.
        """
        probabilities: np.ndarray | None = None
        if keep_probabilities or self.members or self.labels.instances:
            probabilities = self.probabilities(voxels, name, folds, progress)
            labels = classify(probabilities, self.labels)
        else:
            frame, logits = self._predict(voxels, name, folds, progress)
            labels = resample_argmax(logits, frame, self.labels)
            if voxels.mask is not None:
                labels[~voxels.mask] = 0
        objects = None
        if self.labels.instances:
            assert probabilities is not None
            objects = split_objects(*probabilities)
        return Segmentation(
            self.postprocessing.apply(labels), objects, probabilities if keep_probabilities else None
        )

    def probabilities(
        self,
        voxels: Voxels,
        name: str,
        folds: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Returns ``(outputs, Z, Y, X)`` float32 as in the file, the mean over the members of an ensemble."""
        if self.members:
            total: np.ndarray | None = None
            for member in self.members:
                self._pass_options(member)
                part = member.probabilities(voxels, name, folds, progress)
                total = part if total is None else np.add(total, part, out=total)
            assert total is not None
            return np.divide(total, len(self.members), out=total)
        frame, logits = self._predict(voxels, name, folds, progress)
        result = resample_probabilities(logits, frame, self.labels)
        if voxels.mask is not None:
            result[:, ~voxels.mask] = 0
            if not self.labels.regions:
                result[0, ~voxels.mask] = 1
        return result

    def _pass_options(self, other: Segmenter) -> None:
        other.step, other.mirror, other.batch = self.step, self.mirror, self.batch

    def _predict(
        self, voxels: Voxels, name: str, folds: Sequence[str] | None, progress: Progress | None
    ) -> tuple[Frame, Tensor]:
        # The prepared image is given up here, before anything of the file's size is made.
        prepared = self.prepare(voxels, name)
        return prepared.frame, self.logits(prepared, folds, progress)


def _of_several(progress: Progress, index: int, count: int, done: int, total: int) -> None:
    progress(index * total + done, count * total)
