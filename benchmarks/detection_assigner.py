"""``python -m benchmarks.detection_assigner``: which place learns which object, against the literal form.

The literal form is the published one: a tensor of places, objects and classes, and a loop over the objects. Both get
the same images; what they assign must be equal. Bars: a tenth of the CPU time and a fiftieth of the memory, at 100
objects of 80 classes in 320 x 320 pixels. Memory is the most that tensors hold beyond the inputs, as torch's profiler
counts it, allocation by allocation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import interleave, print_bar, print_comparison, print_heading, print_text
from core.train.hardware import keep_large_allocations
from tasks.detection.assigner import assign
from tasks.detection.models.head import decode_boxes

CPU_BAR, MEMORY_BAR = 10.0, 50.0
STRIDES = (8, 16, 32)


def literal_assign(
    logits: Tensor,
    boxes: Tensor,
    priors: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    centres: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Does what :func:`tasks.detection.assigner.assign` does, in the way in which the paper writes it."""
    matched, quality = torch.full((len(priors),), -1), torch.zeros(len(priors))
    if not len(gt_boxes):
        return matched, quality
    sides = torch.cat([priors[:, None, :2] - gt_boxes[:, :2], gt_boxes[:, 2:] - priors[:, None, :2]], -1)
    valid = (sides.min(-1).values > 0).any(1)
    if not valid.any():
        return matched, quality
    logits, boxes, priors = logits[valid], boxes[valid], priors[valid]
    if centres is None:
        centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    distance = (priors[:, None, :2] - centres).pow(2).sum(-1).sqrt() / priors[:, None, 2]
    centre_cost = torch.pow(10, distance - 3)
    iou = literal_iou(boxes, gt_boxes)
    iou_cost = -torch.log(iou + 1e-7) * 3
    one_hot = F.one_hot(gt_labels, logits.shape[1]).float()[None].repeat(len(boxes), 1, 1)
    soft = one_hot * iou[..., None]
    each = logits[:, None].repeat(1, len(gt_boxes), 1)
    scale = soft - each.sigmoid()
    class_cost = F.binary_cross_entropy_with_logits(each, soft, reduction="none") * scale.abs().pow(2)
    cost = class_cost.sum(-1) + iou_cost + centre_cost
    matching = torch.zeros_like(cost, dtype=torch.uint8)
    numbers = iou.topk(min(13, len(iou)), dim=0).values.sum(0).int().clamp(min=1)
    for g, number in enumerate(numbers.tolist()):
        matching[cost[:, g].topk(number, largest=False).indices, g] = 1
    several = matching.sum(1) > 1
    if several.any():
        best = cost[several].argmin(1)
        matching[several] = 0
        matching[several.nonzero()[:, 0], best] = 1
    taken = matching.sum(1) > 0
    places = valid.nonzero()[:, 0][taken]
    matched[places] = matching[taken].argmax(1)
    quality[places] = (matching * iou).sum(1)[taken]
    return matched, quality


def literal_iou(a: Tensor, b: Tensor) -> Tensor:
    """Returns ``(N, M)`` with x and y in one tensor, as it is mostly written."""
    shared = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])
    overlap = shared.clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    return overlap / (areas[0][:, None] + areas[1] - overlap).clamp(min=1e-6)


def corner_priors(size: int) -> Tensor:
    """Returns ``(P, 3)``: x, y and stride of the left top corners of all cells, level by level, row by row."""
    rows = [(x, y, s) for s in STRIDES for y in range(0, size, s) for x in range(0, size, s)]
    return torch.tensor(rows, dtype=torch.float32)


def made_image(
    size: int, objects: int, classes: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns logits, boxes, places, objects and labels of an image: a half-trained network on random objects.

    A place predicts the box of the nearest object, roughly, where there is one.
    """
    random = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random)

    priors = corner_priors(size)
    sides = (8 + uniform(objects, 2) * size / 3).clamp(max=size)
    corner = uniform(objects, 2) * (size - sides)
    gt = torch.cat([corner, corner + sides], 1)
    labels = (uniform(objects) * classes).long()
    boxes = decode_boxes(priors, priors[:, 2:] * 6 * uniform(len(priors), 4))
    logits = torch.randn(len(priors), classes, generator=random) * 2 - 3
    if objects:
        nearest = torch.cdist(priors[:, :2], (gt[:, :2] + gt[:, 2:]) / 2).argmin(1)
        trust = uniform(len(priors), 1)
        boxes = trust * gt[nearest] + (1 - trust) * boxes
        logits[torch.arange(len(priors)), labels[nearest]] += 3 * trust[:, 0]
    return logits, boxes, priors, gt, labels


def peak_memory(run: Callable[[], object]) -> int:
    """Returns the most bytes that the tensors of a call hold at once, what is there before not counted."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    held, most = 0, 0
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def compare(size: int, objects: int, classes: int, rounds: int) -> bool:
    """Prints a table; returns whether the assignments are equal and the bars are met."""
    image = made_image(size, objects, classes, seed=0)
    contestants = {"skipway": lambda: assign(*image), "literal": lambda: literal_assign(*image)}
    ours, theirs = (run() for run in contestants.values())
    same = torch.equal(ours[0], theirs[0]) and torch.allclose(ours[1], theirs[1], atol=1e-5)
    times = interleave(contestants, rounds)
    title = f"Assigning {objects} objects of {classes} classes, {size} px, {len(image[2])} places"
    print_comparison(title, "image", 1, times)
    memory = {name: peak_memory(run) for name, run in contestants.items()}
    cpu, held = times["literal"][0] / times["skipway"][0], memory["literal"] / memory["skipway"]
    sizes = ", ".join(f"{name} {held / 2**20:.2f} MiB" for name, held in memory.items())
    print_text(
        f"Memory: {sizes}. {int((ours[0] >= 0).sum())} places have an object; what is assigned is "
        f"{'equal' if same else 'NOT EQUAL'}."
    )
    fine = same
    for bar, measured, kind in ((CPU_BAR, cpu, "CPU time"), (MEMORY_BAR, held, "memory")):
        what = f"{kind} of assigning {objects} objects of {classes} classes, against the literal form"
        met = same and measured >= bar
        fine = print_bar(what, f"{bar:g} times less", f"{measured:.1f}", met) and fine
    return fine


def main() -> None:
    """Prints the table and the bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each contestant")
    options = parser.parse_args()
    # As in trainings; both have it.
    keep_large_allocations()
    torch.set_num_threads(options.threads)
    print_heading("Assigning objects to places")
    compare(options.size, options.objects, options.classes, options.rounds)


if __name__ == "__main__":
    main()
