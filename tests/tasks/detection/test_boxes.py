"""Overlaps of boxes: by hand, against torchvision, and of boxes without area."""

import torch
from torchvision.ops import box_iou

from tasks.detection.boxes import iou_matrix


def test_iou_by_hand():
    a = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    b = torch.tensor([[2.0, 0.0, 6.0, 2.0], [4.0, 0.0, 8.0, 2.0], [0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 2.0, 2.0]])
    assert torch.allclose(iou_matrix(a, b), torch.tensor([[4 / 12, 0.0, 1.0, 1 / 8]]))


def test_iou_equals_torchvision_on_random_boxes():
    corners = torch.rand(60, 2, generator=torch.Generator().manual_seed(0)) * 50
    boxes = torch.cat([corners, corners + torch.arange(1, 121).view(60, 2) / 4], 1)
    assert torch.allclose(iou_matrix(boxes[:20], boxes[20:]), box_iou(boxes[:20], boxes[20:]), atol=1e-6)


def test_boxes_inside_out_or_without_area_overlap_with_nothing():
    good = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 2.0, 2.0]])
    bad = torch.tensor(
        [[3.0, 3.0, 1.0, 1.0], [3.0, 0.0, 1.0, 4.0], [2.0, 2.0, 2.0, 2.0], [4.0, 0.0, 0.0, 4.0]]
    )
    assert torch.equal(iou_matrix(good, bad), torch.zeros(2, 4))
