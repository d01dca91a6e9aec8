"""Files in the authors' layout that need no generator, and a training on them that is over in a second."""

from __future__ import annotations

import numpy as np
import torch

ANTENNAS, SUBCARRIERS, HISTORY, HORIZON = 2, 8, 6, 2
CHANNELS = [
    "--data.rows=1",
    "--data.columns=1",
    f"--data.subcarriers={SUBCARRIERS}",
    "--data.gap=4",
    f"--data.history={HISTORY}",
    f"--data.horizon={HORIZON}",
    "--data.models=[A]",
    "--data.speeds=[1, 10]",
    "--data.samples=8",
    "--data.test_samples=3",
]
LOOP = [
    "--train.epochs=2",
    "--train.batch_size=4",
    "--train.warmup_steps=0",
    "--train.log_every=1",
    "--train.device=cpu",
    "--train.tune_allocator=false",
    "--tracking=none",
]
SMALL = [
    "--model.time_hidden=4",
    "--model.time_layers=1",
    "--model.channels=2",
    "--model.groups=1",
    "--model.reduction=1",
    "--model.width=8",
    "--model.layers=1",
    "--model.heads=2",
    "--model.feedforward=8",
    "--model.blocks=1",
]
TINY = [*CHANNELS, *LOOP]
QUICK = [
    "--train.steps=1",
    "--scoring.baselines=[last]",
    "--scoring.cost=false",
    "--data.test_noise=[clean]",
]


def make_condition(folder, name, count, seed, antennas=ANTENNAS, subcarriers=SUBCARRIERS):
    """Sums of three complex exponentials, as files in the authors' layout."""
    rng = np.random.default_rng(seed)
    speed = float(name.split("_")[-1])
    doppler, delay, angle = (
        most * rng.uniform(-1, 1, (3, count, 1, 1, 1)) for most in (0.01 * speed, 0.5 / subcarriers, 0.5)
    )
    a, t, k = (np.arange(size) for size in (antennas, HISTORY + HORIZON, 2 * subcarriers + 4))
    phase = angle * a[:, None, None] + doppler * t[:, None] + delay * k
    gain = rng.normal(size=(2, 3, count, 1, 1, 1)) / np.sqrt(6)
    channel = ((gain[0] + 1j * gain[1]) * np.exp(2j * np.pi * phase)).sum(0)
    whole = torch.from_numpy(channel.astype(np.complex64))
    uplink, downlink = whole[..., :subcarriers], whole[..., -subcarriers:]
    (folder / name).mkdir(parents=True)
    torch.save(uplink[:, :, :HISTORY].clone(), folder / name / "H_U_hist.pt")
    torch.save(uplink[:, :, HISTORY:].clone(), folder / name / "H_U_pred.pt")
    torch.save(downlink[:, :, HISTORY:].clone(), folder / name / "H_D_pred.pt")


def make_folder(root):
    """CDL A at two speeds to learn from and to test on; CDL E to test on."""
    for place, model, count, seed in (
        ("train/regular", "A", 8, 0),
        ("test/regular", "A", 3, 10),
        ("test/generalization", "E", 3, 20),
    ):
        for i, speed in enumerate(("001", "010")):
            make_condition(root / place, f"cm_{model}_ds_100_ms_{speed}", count, seed + i)
    return root


def histories(files):
    return torch.load(files / "test/generalization/cm_E_ds_100_ms_010/H_U_hist.pt", weights_only=True).numpy()
