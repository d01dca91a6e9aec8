"""The learners: real small networks on made images, batches without objects, masks, validation."""

import pytest
import torch
from torch import nn

from core.errors import ConfigError
from tasks.detection import learner as module
from tasks.detection.config import RTMDetConfig, RTMDetInsConfig, SSDLiteConfig
from tasks.detection.learner import LEARNERS, RTMDetInsLearner, RTMDetLearner, mass_centres
from tasks.detection.models.build import build_network

SIZE = 64
COLOURS = ((230, 40, 40), (40, 40, 230))
OBJECTS = (
    [((8, 8, 40, 40), 0)],
    [((24, 16, 60, 48), 1), ((4, 4, 20, 24), 0)],
    [],
    [((10, 30, 34, 62), 1)],
)


def batch_of(objects=OBJECTS, size=SIZE, masks=False):
    """Gray images with a rectangle for each object, coloured by its class."""
    images = torch.full((len(objects), 3, size, size), 114, dtype=torch.uint8)
    boxes, labels, owner, drawn = [], [], [], []
    for i, image in enumerate(objects):
        for (left, top, right, bottom), label in image:
            images[i, :, top:bottom, left:right] = torch.tensor(COLOURS[label], dtype=torch.uint8)[
                :, None, None
            ]
            mask = torch.zeros(size, size, dtype=torch.uint8)
            mask[top:bottom, left:right] = 1
            boxes.append((left, top, right, bottom))
            labels.append(label)
            owner.append(i)
            drawn.append(mask[2::4, 2::4])
    batch = {
        "image": images,
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "owner": torch.tensor(owner, dtype=torch.int64),
        "ids": [f"{i}.png" for i in range(len(objects))],
    }
    if masks:
        batch["masks"] = torch.stack(drawn) if drawn else torch.zeros(0, size // 4, size // 4).byte()
        batch["has_mask"] = torch.ones(len(drawn), dtype=torch.bool)
    return batch


def learner_of(config, seed=0, **options):
    torch.manual_seed(seed)
    return LEARNERS[config.name](build_network(config, 2), **options)


CONFIGS = {
    "rtmdet": RTMDetConfig(size="nano"),
    "rtmdet_ins": RTMDetInsConfig(size="nano"),
    "ssdlite": SSDLiteConfig(),
}
each_model = pytest.mark.parametrize("name", CONFIGS)


def trained(learner, batch, steps, lr):
    optimizer = torch.optim.AdamW(learner.parameters(), lr=lr)
    seen = []
    for _ in range(steps):
        loss, metrics = learner(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append({name: value.item() for name, value in metrics.items()})
    return seen


@each_model
def test_every_term_falls_on_four_images(name):
    seen = trained(learner_of(CONFIGS[name]), batch_of(masks=name == "rtmdet_ins"), 40, 0.004)
    first, last = seen[0], seen[-1]
    assert set(first) == {"loss_cls", "loss_box", "positives"} | ({"loss_mask"} & set(first))
    assert ("loss_mask" in first) == (name == "rtmdet_ins")
    total = [sum(v for k, v in each.items() if k != "positives") for each in (first, last)]
    assert total[1] < 0.5 * total[0]
    assert last["positives"] > 0


def test_a_trained_network_finds_the_objects():
    learner = learner_of(CONFIGS["rtmdet"])
    batch = batch_of()
    trained(learner, batch, 40, 0.004)
    # In training mode: so few steps are not enough for the running statistics of norms.
    with torch.no_grad():
        boxes, scores = learner.model.decode(learner.model(module.normalise(batch["image"], learner.model)))
    for i, objects in enumerate(OBJECTS):
        if objects:
            best = scores[i].max(1).values.argmax()
            label = int(scores[i, best].argmax())
            distance = [
                (boxes[i, best] - torch.tensor(box)).abs().max().item() for box, of in objects if of == label
            ]
            assert min(distance) < 4


@each_model
def test_a_batch_without_objects_is_finite_and_every_parameter_has_a_gradient(name):
    learner = learner_of(CONFIGS[name])
    loss, metrics = learner(batch_of([[], []], masks=name == "rtmdet_ins"))
    assert loss.isfinite() and metrics["positives"] == 0
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())


@each_model
def test_three_hundred_objects_in_an_image(name):
    boxes = [
        ((x, y, min(x + 12, SIZE), min(y + 12, SIZE)), (x + y) % 2)
        for x in range(0, 60, 3)
        for y in range(0, 60, 4)
    ]
    assert len(boxes) == 300
    loss, metrics = learner_of(CONFIGS[name])(batch_of([boxes, []], masks=name == "rtmdet_ins"))
    assert loss.isfinite() and metrics["positives"] > 10


def test_under_autocast_losses_are_float32():
    learner, batch = learner_of(CONFIGS["rtmdet"]), batch_of()
    expected = learner(batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss = learner(batch)[0]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)


class Given(nn.Module):
    """Two images of 32 pixels whose places at stride 8 predict given boxes, and prototypes that are a given mask."""

    pixels, mean, std = "rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, boxes, masks):
        super().__init__()
        self.boxes, self.masks = boxes, nn.Parameter(masks)
        self.drawn = []

    def forward(self, x):
        self.prototypes = self.masks
        return self

    def flatten(self, outputs):
        rows = [(x, y, 8) for y in range(0, 32, 8) for x in range(0, 32, 8)]
        priors = torch.tensor(rows, dtype=torch.float32)
        logits = torch.zeros(2, 16, 2, requires_grad=True)
        return logits, self.boxes.expand(2, 16, 4), priors, torch.zeros(2, 16, 169)

    def mask_logits(self, prototypes, kernels, priors):
        self.drawn.append(len(kernels))
        return prototypes[:1].expand(len(kernels), -1, -1)


def given(strength=60.0):
    """One object of the size of half the image in each of two images; the second one's mask is missed."""
    masks = torch.full((2, 8, 4, 4), -strength)
    masks[0, :, :2] = strength
    learner = RTMDetInsLearner(Given(torch.tensor([0.0, 0.0, 32.0, 16.0]), masks))
    return learner, batch_of([[((0, 0, 32, 16), 0)], [((0, 0, 32, 16), 0)]], size=32, masks=True)


def test_the_mask_loss_is_twice_the_mean_dice_loss_at_a_quarter_of_the_resolution():
    learner, batch = given()
    _, metrics = learner(batch)
    # Enlarged to 8 rows, the two about the edge are half way: 60 * 0.5 is as sure as 60. The other image has 0.
    assert metrics["loss_mask"].item() == pytest.approx(2 * 0.5, abs=1e-3)
    assert learner.model.drawn[0] == learner.model.drawn[1] > 1


def test_objects_without_an_outline_have_no_mask_loss():
    learner, batch = given()
    batch["has_mask"] = torch.tensor([True, False])
    _, metrics = learner(batch)
    assert metrics["loss_mask"].item() == pytest.approx(0.0, abs=1e-3)
    batch["has_mask"] = torch.tensor([False, True])
    assert learner(batch)[1]["loss_mask"].item() == pytest.approx(2.0, abs=1e-3)
    batch["has_mask"] = torch.tensor([False, False])
    loss, metrics = learner(batch)
    assert metrics["loss_mask"] == 0 and loss.isfinite()


def test_masks_above_the_limit_are_an_even_choice(monkeypatch):
    monkeypatch.setattr(module, "MASK_VALUES", 4 * 8 * 8)
    learner, batch = given()
    _, metrics = learner(batch)
    assert learner.model.drawn == [2, 2]
    assert metrics["loss_mask"].item() == pytest.approx(1.0, abs=1e-3)


def test_centres_of_mass_by_hand():
    masks = torch.zeros(3, 8, 8, dtype=torch.uint8)
    masks[0, 2:4, 1:5] = 1
    masks[1, 0, 0], masks[1, 7, 0] = 1, 1
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 32.0, 32.0], [4.0, 8.0, 10.0, 20.0]])
    expected = torch.tensor([[12.0, 12.0], [2.0, 16.0], [7.0, 14.0]])
    assert torch.equal(mass_centres(masks, boxes), expected)
    assert mass_centres(masks[:0], boxes[:0]).shape == (0, 2)


def test_validation_is_the_negative_map_of_the_network():
    asked = []

    def score(network):
        asked.append(network)
        return {"map": 0.25, "map50": 0.5}

    network = nn.Linear(1, 1)
    assert RTMDetLearner(network, validate=score).validate() == (-0.25, {"map": 0.25, "map50": 0.5})
    assert asked == [network]


def test_validation_without_images_names_the_option():
    with pytest.raises(ConfigError, match=r"--data\.validation_share"):
        RTMDetLearner(nn.Linear(1, 1)).validate()


def test_suspects_are_the_images():
    assert RTMDetLearner(nn.Linear(1, 1)).suspects(batch_of()) == ["0.png", "1.png", "2.png", "3.png"]


def test_an_unknown_model_is_named_with_the_nearest_one():
    with pytest.raises(ConfigError, match="rtmdet_ins"):
        LEARNERS["rtmdet_in"]


def test_anchors_are_exact_under_autocast():
    torch.manual_seed(0)
    network, images = build_network(SSDLiteConfig(), 2).eval(), torch.rand(1, 3, 320, 320)
    with torch.no_grad():
        expected = network(images)["anchors"]
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(network(images)["anchors"], expected)


def leave_nan_behind(*_):
    """Frees memory that is full of nan, which a gradient that is not written would show."""
    for size in (64, 256, 1024, 4096, 16384):
        used = [torch.full((size,), torch.nan) for _ in range(60)]
        del used


def test_gradients_of_ssdlite_are_finite_where_maps_are_one_place_under_autocast():
    learner = learner_of(SSDLiteConfig()).to(memory_format=torch.channels_last)
    depthwise = [m for m in learner.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    for layer in depthwise:
        layer.register_forward_hook(lambda _, x, y: y.register_hook(leave_nan_behind) and None)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = learner(batch_of())
    loss.backward()
    assert all(torch.isfinite(layer.weight.grad).all() for layer in depthwise)
