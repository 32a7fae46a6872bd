"""Truncated back-propagation: batches cut along time, with the state carried on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastlstm.training.batches import ArrayBatches, Batch, Batches, batch_count


@dataclass(frozen=True)
class Chunks:
    """How sequences are cut; the default leaves them whole.

    Parameters
    ----------
    steps : int or None
        Steps of a chunk; None: the whole sequence.
    stateful : bool
        Whether a chunk starts from the state that the one before it ended with.
    burn_in : int
        Steps at the beginning of a sequence, or of every chunk that is not carried on,
        which only bring the state to life: no loss, no gradient.
    """

    steps: int | None = None
    stateful: bool = False
    burn_in: int = 0

    @property
    def whole(self) -> bool:
        """Whether sequences stay as they are."""
        return self == Chunks()

    def count(self, batches: Batches) -> int | None:
        """Return the number of chunks in an epoch, None where it is not known."""
        count = batch_count(batches)
        if self.steps is None or count is None:
            return count
        if not isinstance(batches, ArrayBatches):
            return None
        return count * sum(1 for _ in self._begins(batches.steps))

    def cut(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the chunks of all batches in turn, but those without a real step.

        Nor those, behind the first of a sequence, that would be burn-in alone.
        `Batch.fresh` tells the chunks that start a sequence.
        """
        for number, batch in enumerate(batches):
            total = batch.x.shape[1]
            size = total if self.steps is None else self.steps
            for begin in self._begins(total):
                starts = begin == 0 and (number == 0 or batch.fresh)
                fresh = starts or not self.stateful
                part = batch.between(begin, begin + size, fresh)
                if part.lengths is not None and begin > 0:
                    last = part.lengths.max(initial=0)
                    if last <= (self.burn_in if fresh else 0):
                        break
                yield part

    def _begins(self, total: int) -> range:
        """Return the first steps of the chunks of `total` steps."""
        rest = 0 if self.stateful else self.burn_in
        return range(0, max(total - rest, 1), max(self.steps or total, 1))
