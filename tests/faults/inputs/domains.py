"""Every task with good files, and commands on them that are over at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.task import Task, load_task
from tests.faults.inputs.good_files import (
    boxes,
    cases,
    histories,
    image_inputs,
    photos,
    record_inputs,
    recordings,
    records,
    series,
    volumes,
    words,
)
from tests.tasks.csi import channel_files
from tests.tasks.ecg import record_folders

LOOP = [
    "--train.steps=1",
    "--train.batch_size=4",
    "--train.device=cpu",
    "--train.tune_allocator=false",
    "--tracking=none",
    "--register=false",
]


@dataclass(frozen=True)
class Domain:
    """What a task is tried with.

    Attributes:
        name: The task.
        data: Writes a data set into a folder.
        inputs: Writes files for ``predict`` into a folder.
        train: Options of a training of one step, beside the data.
        path: What ``--data.path`` names, below the data's folder.
        predict: Options of ``predict``.
        output: What ``predict`` then writes.
        works: The inputs that need no further options.
        table: Whether ``predict`` writes one table for a folder, too.
        wrong: Options of ``train`` that contradict each other, the data, or themselves.
    """

    name: str
    data: Callable[[Path], object]
    inputs: Callable[[Path], object]
    train: list[str]
    path: str = ""
    predict: list[str] = field(default_factory=list)
    output: str = "out"
    works: tuple[str, ...] = ()
    table: bool = False
    wrong: list[list[str]] = field(default_factory=list)

    @property
    def task(self) -> Task:
        """The task itself."""
        return load_task(self.name)


DOMAINS = (
    Domain(
        "forecasting",
        series,
        series,
        [
            *LOOP,
            "--data.horizon=3",
            "--model.lookbacks=[2]",
            "--model.losses=[smape]",
            "--model.blocks=1",
            "--model.width=4",
            "--model.layers=1",
        ],
        "long.csv",
        output="out.csv",
        works=("long.csv", "wide.csv"),
        wrong=[
            ["--data.horizon=500"],
            ["--data.horizon=0"],
            ["--data.freq=fortnight"],
            ["--data.seasonality=0"],
            ["--data.name=wide", "--data.id_column=unique_id"],
            ["--data.groups=[Hourly]"],
            ["--data.target_column=price"],
            ["--data.min_length=900"],
            ["--train.history=-1"],
            ["--intervals.levels=[0, 80]"],
            ["--model.repeats=0"],
        ],
    ),
    Domain(
        "denoising",
        lambda folder: photos(folder, 1),
        lambda folder: image_inputs(folder, 1),
        [
            *LOOP,
            "--model.layers=3",
            "--model.width=4",
            "--data.patch=12",
            "--data.patches=4",
            "--scoring.baselines=[noisy]",
        ],
        output="out.png",
        works=("view.png",),
        wrong=[
            ["--data.patch=400"],
            ["--data.sigma=[50, 5]"],
            ["--data.sigma=-5"],
            ["--data.test_share=1.5"],
            ["--data.resize=[0]"],
            ["--data.quality=[90, 10]", "--data.kinds=[jpeg]"],
            ["--data.scene=("],
            ["--data.name=pairs"],
            ["--model.layers=1"],
            ["--model.variant=best"],
            ["--data.channels=0"],
        ],
    ),
    Domain(
        "super_resolution",
        lambda folder: photos(folder, 3),
        lambda folder: image_inputs(folder, 3),
        [*LOOP, "--model=carn_m", "--model.width=8", "--data.patch=8", "--data.patches=2"],
        output="out.png",
        works=("view.png",),
        wrong=[
            ["--data.scales=[5]"],
            ["--data.scales=[]"],
            ["--data.patch=300"],
            ["--data.jpeg=[90, 10]"],
            ["--data.name=pairs"],
            ["--model.width=7"],
            ["--model.groups=0"],
            ["--data.channels=7"],
            ["--data.scene=["],
            ["--data.test_share=-1"],
        ],
    ),
    Domain(
        "segmentation",
        cases,
        volumes,
        [
            *LOOP[:1],
            "--train.batch_size=2",
            *LOOP[2:],
            "--train.batches_per_epoch=1",
            "--train.validation_batches=1",
            "--model.base_width=4",
            "--model.blocks=[1, 1, 1, 1, 1, 1]",
            "--scoring.baselines=[majority]",
        ],
        output="out.nii.gz",
        works=("scan_0000.nii.gz",),
        wrong=[
            ["--data.folds=100"],
            ["--data.fold=2"],
            ["--data.layout=drive"],
            ["--data.channels=[4]"],
            ["--data.test_share=0.99"],
            ["--plan.spacing=[0, 1, 1]"],
            ["--plan.patch_size=[8]"],
            ["--plan.normalisation=[ctt]"],
            ["--plan.configuration=3d_cascade_fullres"],
            ["--plan.file=missing.json"],
            ["--model.blocks=[]"],
            ["--scoring.step=0"],
            ["--augment.mirror=[5]"],
            ["--data.subject=("],
        ],
    ),
    Domain(
        "detection",
        boxes,
        lambda folder: image_inputs(folder, 3),
        [
            *LOOP,
            "--image_size=64",
            "--model.size=nano",
            "--train.warmup_steps=0",
            "--scoring.bootstrap=0",
            "--scoring.baselines=[prior]",
        ],
        output="out.json",
        predict=["--draw=false"],
        works=("view.png",),
        wrong=[
            ["--image_size=50"],
            ["--image_size=0"],
            ["--data.classes=[blue]"],
            ["--data.layout=coco"],
            ["--data.layout=voc"],
            ["--augment.scale=[2, 1]"],
            ["--augment.mosaic=3"],
            ["--model=rtmdet_ins"],
            ["--model.backbone=resnet51"],
            ["--model.backbone_weights=missing.pth", "--model.backbone=resnet18"],
            ["--data.group=("],
            ["--scoring.iou=2"],
            ["--data.train_share=0"],
        ],
    ),
    Domain(
        "speech",
        words,
        recordings,
        [
            *LOOP,
            "--data.rate=4000",
            "--data.duration=0.5",
            "--data.least=5",
            "--features.window=120",
            "--features.hop=40",
            "--features.high=1900",
            "--features.mels=20",
            "--features.coefficients=20",
            "--model.width=4",
            "--model.layers=2",
            "--scoring.stream=false",
        ],
        output="out.csv",
        works=("said.wav",),
        table=True,
        wrong=[
            ["--data.words=[medium]"],
            ["--data.rate=0"],
            ["--data.duration=0"],
            ["--data.folds=99"],
            ["--data.speaker=("],
            ["--data.unknown=-1"],
            ["--features.high=9000"],
            ["--features.mels=0"],
            ["--features.hop=0"],
            ["--features.coefficients=50"],
            ["--model.pool=[100, 100]"],
            ["--data.noise_path=nowhere"],
            ["--extend.weight=2", "--extend.model=x"],
            ["--train.smoothing=2"],
        ],
    ),
    Domain(
        "ecg",
        records,
        record_inputs,
        [
            *LOOP,
            "--crop=1.28",
            "--data.rate=50",
            "--data.least=2",
            "--model=xresnet1d18",
            "--model.width=4",
            "--model.layers=[1, 1]",
            *record_folders.QUICK[1:],
        ],
        "wfdb",
        ["--page=none"],
        "out.csv",
        works=("beat.hea",),
        table=True,
        wrong=[
            ["--crop=0"],
            ["--data.least=100"],
            ["--data.highpass=40", "--data.lowpass=1"],
            ["--data.notch=-50"],
            ["--data.leads=[]"],
            ["--data.leads=[I, I]"],
            ["--data.patient=("],
            ["--data.name=ptbxl"],
            ["--data.table=none.csv"],
            ["--data.validation_share=1"],
            ["--model.layers=[]"],
            ["--model.kernel=0"],
            ["--train.focusing=-1"],
        ],
    ),
    Domain(
        "csi",
        channel_files.make_folder,
        histories,
        [
            *channel_files.CHANNELS,
            *LOOP,
            "--train.warmup_steps=0",
            *channel_files.SMALL,
            *channel_files.QUICK[1:],
        ],
        output="out.npy",
        works=("past.npy",),
        wrong=[
            ["--data.history=0"],
            ["--data.horizon=99"],
            ["--data.models=[Z]"],
            ["--data.models=[]"],
            ["--data.speeds=[-3]"],
            ["--data.test_noise=[rain:3]"],
            ["--data.test_noise=[awgn:loud]"],
            ["--data.snr=[25, 0]"],
            ["--data.samples=0"],
            ["--data.subcarriers=5"],
            ["--model.groups=3"],
            ["--model.heads=3"],
            ["--data.validation_share=1"],
            ["--scoring.order=0"],
        ],
    ),
)
