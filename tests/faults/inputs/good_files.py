"""Small good files of every task."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import soundfile
import torch
from PIL import Image

from tests.tasks.csi import channel_files
from tests.tasks.ecg import record_folders
from tests.tasks.segmentation.data import case_folders

# ---------------------------------------------------------------- forecasting


def sales(path: Path, names: str = "abcd", months: int = 36) -> None:
    """Monthly series in a long table."""
    rng = np.random.default_rng(0)
    rows = [
        f"{name},{2015 + t // 12}-{t % 12 + 1:02}-01,{50 + 10 * np.sin(t / 2) + rng.normal():.2f}"
        for name in names
        for t in range(months)
    ]
    path.write_text("\n".join(["unique_id,ds,y", *rows]) + "\n")


def series(folder: Path) -> None:
    """The same in the three forms that are read."""
    sales(folder / "long.csv")
    rng = np.random.default_rng(1)
    wide = [
        f"2016-{t // 28 + 1:02}-{t % 28 + 1:02},{rng.uniform():.3f},{9 + rng.uniform():.3f}"
        for t in range(140)
    ]
    (folder / "wide.csv").write_text("\n".join(["date,x,z", *wide]) + "\n")
    lines = [
        {"start": "2015-01-01", "target": (20 + rng.uniform(size=30)).tolist(), "item_id": n} for n in "pq"
    ]
    (folder / "lines.jsonl").write_text("".join(json.dumps({**line, "freq": "M"}) + "\n" for line in lines))


# ---------------------------------------------------------------- images


def picture(seed: int, height: int = 40, width: int = 44, channels: int = 1) -> np.ndarray:
    """Waves and a little noise."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (3 + seed + c)) + np.cos(columns / (4 + c)) for c in range(channels)]
    noise = np.random.default_rng(seed).integers(0, 8, (height, width, channels))
    return (60 * (np.stack(waves, axis=2) + 2) + noise).astype(np.uint8).squeeze()


def photos(folder: Path, channels: int) -> None:
    """Four images."""
    for i in range(4):
        Image.fromarray(picture(i, channels=channels)).save(folder / f"photo{i}.png")


def image_inputs(folder: Path, channels: int) -> None:
    """The formats that are read."""
    values = picture(9, channels=channels)
    for ending in ("png", "jpg", "bmp", "tif"):
        Image.fromarray(values).save(folder / f"view.{ending}")
    np.save(folder / "view.npy", values)
    cv2.imwrite(str(folder / "deep.png"), values.astype(np.uint16) * 256)


# ---------------------------------------------------------------- detection


def boxes(folder: Path) -> None:
    """Squares on gray, as YOLO has them, with three parts."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("valid", 3)):
        (folder / part / "images").mkdir(parents=True)
        (folder / part / "labels").mkdir()
        for i in range(count):
            values = np.full((64, 64, 3), 90, np.uint8) + rng.integers(0, 9, (64, 64, 3), dtype=np.uint8)
            rows = []
            for label in range(2):
                x, y = rng.integers(0, 40, 2)
                values[y : y + 16, x : x + 16, label] = 230
                rows.append(f"{label} {(x + 8) / 64} {(y + 8) / 64} 0.25 0.25")
            Image.fromarray(values).save(folder / part / "images" / f"{part}{i}.png")
            (folder / part / "labels" / f"{part}{i}.txt").write_text("\n".join(rows) + "\n")
    (folder / "data.yaml").write_text("train: train/images\nval: valid/images\nnc: 2\nnames: [red, green]\n")


# ---------------------------------------------------------------- speech


def tone(pitch: float, seed: int, rate: int = 4000) -> np.ndarray:
    """Half a second."""
    rng = np.random.default_rng(seed)
    return 0.3 * np.sin(2 * np.pi * pitch * np.arange(rate // 2) / rate) + 0.01 * rng.standard_normal(
        rate // 2
    )


def words(folder: Path) -> None:
    """Two words of ten speakers, and noise."""
    for word, pitch in (("low", 300), ("high", 1300)):
        (folder / word).mkdir()
        for speaker in range(10):
            name = f"{speaker:08x}_nohash_0.wav"
            soundfile.write(folder / word / name, tone(pitch, speaker), 4000, subtype="PCM_16")
    (folder / "_background_noise_").mkdir()
    hiss = 0.05 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(folder / "_background_noise_" / "hiss.wav", hiss, 4000, subtype="PCM_16")


def recordings(folder: Path) -> None:
    """One recording in the formats that are read."""
    for ending in ("wav", "flac", "ogg"):
        soundfile.write(folder / f"said.{ending}", tone(300, 5), 4000)


# ---------------------------------------------------------------- the others


SHAPE = (8, 12, 10)


def cases(folder: Path) -> None:
    """An nnU-Net raw folder."""
    case_folders.nnunet(folder, count=6)
    for i in range(6):
        case_folders.save(folder / "imagesTr" / f"case_{i:02}_0000.nii.gz", case_folders.volume(i, SHAPE))
        case_folders.save(folder / "labelsTr" / f"case_{i:02}.nii.gz", case_folders.labels(i, SHAPE))


def volumes(folder: Path) -> None:
    """Volumes for ``predict``."""
    case_folders.save(folder / "scan_0000.nii.gz", case_folders.volume(50, SHAPE))
    case_folders.save(folder / "flat.nii", case_folders.volume(51, SHAPE))


def records(folder: Path) -> None:
    """Records of the challenges in WFDB files, and of the table as CSV."""
    codes = {f"r{i}": ("426783006", "164890007")[i % 2] for i in range(9)}
    record_folders.challenge_folder(folder / "wfdb", codes)
    record_folders.csv_folder(folder / "table")


def record_inputs(folder: Path) -> None:
    """The formats that are read."""
    signal = record_folders.wave(30)
    record_folders.wfdb_record(folder / "beat", signal)
    times = (np.arange(signal.shape[1]) / 100).round(2)
    rows = np.column_stack([times, signal.T.round(4)]).tolist()
    record_folders.write_csv(folder / "leads.csv", [["time", *record_folders.LEADS], *rows])
    np.save(folder / "leads.npy", signal)
    np.savez(folder / "leads.npz", signal=signal, rate=100)


def histories(folder: Path) -> None:
    """Complex histories ``(samples, antennas, reports, subcarriers)``."""
    shape = (3, channel_files.ANTENNAS, channel_files.HISTORY, channel_files.SUBCARRIERS)
    rng = np.random.default_rng(4)
    values = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    np.save(folder / "past.npy", values)
    np.savez(folder / "past.npz", H=values)
    torch.save(torch.from_numpy(values), folder / "past.pt")
