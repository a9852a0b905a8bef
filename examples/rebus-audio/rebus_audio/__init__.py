"""Sounds as a modality: files are decoded, made into log-mel spectrograms and read by a small transformer.

Letters: N sounds, T frames, M mel bands, L tokens, D width.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor, nn

from rebus import recipe
from rebus.errors import DataError
from rebus.models.features import Features, masked_mean
from rebus.models.modalities import Modality
from rebus.models.towers.base import Tower
from rebus.nn.block import EncoderLayer

ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff")
RATE, WINDOW, HOP, BANDS = 16_000, 400, 160, 64  # samples a second; of a frame; between frames; mel bands


def mel_filters() -> NDArray[np.float32]:
    """(WINDOW // 2 + 1, BANDS) triangles that are evenly spaced on the mel scale of O'Shaughnessy (1987)."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)  # hertz
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    up = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S,) samples at RATE -> (T, BANDS) logarithms of mel energies, mean 0 and spread 1."""
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hanning(WINDOW).astype(np.float32)
    energies = np.abs(np.fft.rfft(frames)) ** 2 @ mel_filters()
    logarithms = np.log(np.maximum(energies, 1e-8))
    return ((logarithms - logarithms.mean()) / (logarithms.std() + 1e-5)).astype(np.float32)


class Audio(Modality):
    """One column of sound files, or of their bytes."""

    name = "audio"
    kinds = ("audio",)
    many = False
    towers = ("log_mel",)

    @classmethod
    def recognise(cls, name: str, cells: Any) -> float:
        """The share of cells that name a sound file."""
        cells = [str(cell).lower() for cell in cells if cell]
        return sum(cell.endswith(ENDINGS) for cell in cells) / max(len(cells), 1)

    def item(self, cells: Mapping[str, Any], root: Path, where: str) -> dict[str, NDArray[Any]] | None:
        """One sound as its spectrogram (T, M). Raises DataError: it cannot be decoded."""
        cell = next(iter(cells.values()))
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return None
        try:
            source = io.BytesIO(cell) if isinstance(cell, bytes) else root / str(cell)
            samples, rate = soundfile.read(source, dtype="float32", always_2d=True, frames=60 * 192_000)
        except (OSError, RuntimeError) as error:
            do = "check the path, or remove the row"
            raise DataError(where, "a sound file (WAV, FLAC, OGG)", str(error), do) from error
        mono = resample_poly(samples.mean(1), RATE, rate) if rate != RATE else samples.mean(1)
        return {"mel": log_mel(mono.astype(np.float32))}

    def collate(self, items: list[dict[str, NDArray[Any]]]) -> dict[str, Tensor]:
        """``mel`` (N, T, M), shorter ones padded, and ``length`` (N,) in frames."""
        lengths = torch.tensor([len(item["mel"]) for item in items])
        mel = [torch.from_numpy(item["mel"]) for item in items]
        return {"mel": nn.utils.rnn.pad_sequence(mel, batch_first=True), "length": lengths}


class LogMel(Tower):
    """Two convolutions that make a token of every 8 frames, sinusoidal positions, then transformer layers."""

    modality = "audio"
    own_settings = recipe.OtherTower
    defaults: ClassVar = {"width": 128, "depth": 2, "heads": 4, "dropout": 0.1}

    def __init__(self, settings: Any, **context: Any) -> None:
        super().__init__(settings)
        width = self.width
        self.stem = nn.ModuleList(
            [nn.Conv1d(BANDS, width, 8, stride=4, padding=2), nn.Conv1d(width, width, 4, stride=2, padding=1)]
        )
        self.layers = nn.ModuleList(
            [EncoderLayer(width, settings.heads, 4 * width, dropout=settings.dropout) for _ in range(settings.depth)]
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, mel: Tensor, length: Tensor) -> Features:
        """(N, T, M), (N,) -> Features of (N, T // 8, D)."""
        x = mel.transpose(1, 2)
        if x.shape[2] < 16:
            x = nn.functional.pad(x, (0, 16 - x.shape[2]))
        for convolution in self.stem:
            x = nn.functional.gelu(convolution(x))
        x = x.transpose(1, 2)
        places = torch.arange(x.shape[1], device=x.device)
        rates = torch.exp(torch.arange(0, self.width, 2, device=x.device) * (-np.log(10_000) / self.width))
        angles = places[:, None] * rates
        x = x + torch.cat([angles.sin(), angles.cos()], 1).to(x.dtype)
        mask = places < (length[:, None] // 8).clamp(min=1)
        for layer in self.layers:
            x = layer(x, mask[:, None, None])
        x = self.norm(x)
        return Features(x, mask, masked_mean(x, mask))
