"""Small files that say they are large."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.faults.hostile.trial import Trial
from tests.faults.inputs.cases import Good

IMAGES = ("denoising", "super_resolution", "detection", "segmentation")
Write = Callable[[Path], None]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _wide_png(path: Path) -> None:
    head = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(10**6))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    )


def _wide_npy(path: Path) -> None:
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    header = header.ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64))


def _wide_bmp(path: Path) -> None:
    path.write_bytes(
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(100)
    )


def _wide_tiff(path: Path) -> None:
    tags = [
        (256, 4, 1, 300_000),
        (257, 4, 1, 300_000),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 200),
    ]
    tags += [(277, 3, 1, 1), (278, 4, 1, 300_000), (279, 4, 1, 64)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(200))


def _long_wav(path: Path) -> None:
    head = (
        b"RIFF"
        + struct.pack("<I", 2**32 - 1)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    )
    path.write_bytes(head + b"data" + struct.pack("<I", 2**32 - 40) + bytes(64))


def _large_nifti(path: Path) -> None:
    import nibabel

    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[40:56] = struct.pack("<8h", 3, 30_000, 30_000, 30_000, 1, 1, 1, 1)
    path.write_bytes(content)


def _packed(path: Path) -> None:
    """Half a gigabyte of zeros in an array of an archive that is small."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = "{'descr': '<f8', 'fortran_order': False, 'shape': (12, 100000000000), }".ljust(117) + "\n"
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(2**20)
        archive.writestr("signal.npy", content)
        archive.writestr("rate.npy", as_bytes(np.array(100)))


def as_bytes(values: np.ndarray) -> bytes:
    """An array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _many_samples(path: Path) -> None:
    lines = [f"beat 2 100 {10**12}", *(f"beat.dat 16 1000/mV 16 0 0 0 0 {lead}" for lead in ("I", "II"))]
    path.write_text("\n".join(lines) + "\n")
    path.with_suffix(".dat").write_bytes(bytes(400))


GROWING: tuple[tuple[str, str, Write], ...] = (
    *((task, "wide.png", _wide_png) for task in IMAGES),
    *((task, "wide.npy", _wide_npy) for task in (*IMAGES, "ecg", "csi")),
    *((task, "wide.bmp", _wide_bmp) for task in IMAGES),
    *((task, "wide.tif", _wide_tiff) for task in IMAGES),
    ("speech", "long.wav", _long_wav),  # as a recorder writes it that was cut off: what is there is read
    ("segmentation", "large.nii", _large_nifti),
    ("ecg", "packed.npz", _packed),
    ("csi", "packed.npz", _packed),
    ("ecg", "beat.hea", _many_samples),
)


def growing(tasks: list[str]) -> Iterator[Trial]:
    for task, name, write in GROWING:
        if task in tasks:

            def declared(place: Path, good: Good, name: str = name, write: Write = write) -> list[str]:
                write(place / name)
                return [
                    *good.model,
                    f"--input={name}",
                    f"--output={good.domain.output}",
                    *good.domain.predict,
                ]

            codes = (0, 1) if name == "long.wav" else (1,)
            yield Trial("sizes", f"{task}: {name}", task, "predict", declared, codes)
