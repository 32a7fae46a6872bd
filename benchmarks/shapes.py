"""The shapes that are compared; input/hidden/layers/T/batch."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """One row of the table."""

    name: str
    input_size: int
    hidden_size: int
    num_layers: int
    seq_len: int
    batch_size: int
    bidirectional: bool = False
    train: bool = True

    @property
    def label(self) -> str:
        """What the table prints."""
        sizes = "/".join(map(str, self[1:6]))
        directions = " bidirectional" if self.bidirectional else ""
        return f"{self.name} {sizes}{directions}"

    @property
    def flops(self) -> float:
        """Operations of the matrix products; backward counts twice the forward."""
        directions = 2 if self.bidirectional else 1
        below = directions * self.hidden_size * (self.num_layers - 1)
        columns = self.input_size + below + self.num_layers * self.hidden_size
        forward = 2.0 * 4 * self.hidden_size * columns * directions
        return forward * self.seq_len * self.batch_size * (3 if self.train else 1)


SHAPES = (
    Shape("mnist", 28, 128, 1, 28, 128),
    Shape("amp", 1, 24, 1, 512, 16),
    Shape("sine", 1, 32, 1, 30, 32),
    Shape("sine1", 1, 133, 1, 30, 1),
    Shape("mnist1", 28, 785, 1, 28, 1),
    Shape("policy", 64, 256, 1, 256, 8),
    Shape("hydrology", 31, 128, 1, 365, 256),
    Shape("big", 1024, 1024, 1, 32, 128),
    Shape("forecast", 1, 128, 2, 72, 128),
    Shape("spacecraft", 25, 80, 2, 250, 64),
    Shape("speech", 65, 128, 2, 50, 50),
    Shape("language", 256, 512, 2, 64, 64),
    Shape("infer512", 512, 512, 1, 100, 1, train=False),
    Shape("infer1024", 1024, 1024, 1, 50, 64, train=False),
    Shape("infer40", 1, 40, 1, 2048, 1, train=False),
    Shape("infer-bi1", 60, 128, 2, 500, 1, bidirectional=True, train=False),
    Shape("infer-bi32", 60, 128, 2, 500, 32, bidirectional=True, train=False),
)
