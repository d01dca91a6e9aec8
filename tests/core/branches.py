"""Branches whose effect on a stream is easy to work out by hand."""

from __future__ import annotations

from torch import nn


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


class Doubly(nn.Module):
    """Takes ``rate * x`` off the stream and forecasts ``10 * x``, as a block of N-BEATS does."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        return -self.rate * x, 10 * x
