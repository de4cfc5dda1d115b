"""A run's training batches, on the replicas of every worker; photos that cannot be decoded are passed over."""

import concurrent.futures
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from msrn_tf.data.batch_source import BatchSource, stand_ins
from msrn_tf.data.examples import Examples, name_of
from msrn_tf.data.pipeline import UNREADABLE, distributed, epoch_order, why_not_decoded
from msrn_tf.errors import UserError
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say
from msrn_tf.training.sampling import BalancedSampling


def check_photos(examples: Examples, max_pixels: int) -> None:
    """Refuses the first photo that cannot be decoded, before anything is computed. Raises `UserError`."""
    with (
        ProgressBar("decoding validation photos", len(examples)) as bar,
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads,
    ):
        reasons = threads.map(lambda example: why_not_decoded(example, max_pixels), examples)
        for done, (example, reason) in enumerate(zip(examples, reasons, strict=True), 1):
            if reason:
                threads.shutdown(cancel_futures=True)
                raise UserError(_refusal(example, reason))
            bar.update(done)


def _refusal(example, reason):
    return f"{name_of(example)}: is not a photo that can be decoded ({reason}); fix it, or use `bad_images`=skip"


class TrainingBatches:
    """The batches of any epoch, from any step on.

    In place of a photo that cannot be decoded stands the next one that can, whenever it was found out: a run that goes
    on sees what one that was never stopped sees.

    Args:
        source: `BatchSource`.
        strategy: `tf.distribute.Strategy`.
        batch_size: int, over all replicas.
        seed: int.
        skip_bad_images: bool. Rather than to end the run.
        sampling: one of `choices.SAMPLINGS`.

    Attributes:
        bad: numbers of the photos that could not be decoded so far.
    """

    def __init__(
        self,
        source: BatchSource,
        strategy: Any,
        batch_size: int,
        seed: int,
        skip_bad_images: bool = True,
        sampling: str = "shuffle",
    ):
        self.source, self.strategy, self.batch_size = source, strategy, batch_size
        self.seed, self.skip_bad_images = seed, skip_bad_images
        self.steps = len(source.examples) // batch_size
        self._sampling = BalancedSampling(source.examples, seed) if sampling == "balanced" else None
        self.bad = set()

    def in_epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Distributed batches `first`, `first` + 1, … of an epoch.

        Raises:
            UserError: a photo cannot be decoded and none are to be skipped, or none at all can be decoded.
        """
        done = first
        while done < self.steps:
            try:
                for batch in self._distributed(epoch, done):
                    yield batch
                    done += 1
            except UNREADABLE:
                if not self._find_bad(epoch, done):
                    raise

    def _sources(self, epoch):
        """For each place of an epoch's order the photo that is read, int `[N]`; None: the photos in that order."""
        sources = stand_ins(len(self.source.examples), self.bad) if self.bad else None
        if self._sampling is None:
            return sources
        drawn = self._sampling.drawn(epoch)
        return drawn if sources is None else sources[drawn]

    def _distributed(self, epoch, first):
        sources = self._sources(epoch)
        images_per_replica = self.batch_size // self.strategy.num_replicas_in_sync

        def of_shard(shard):
            dataset = self.source.training_batches(
                batch_size=self.batch_size,
                seed=self.seed,
                epoch=epoch,
                first_batch=first,
                shard=shard,
                sources=sources,
            )
            return dataset.rebatch(images_per_replica, drop_remainder=True)

        return distributed(self.strategy, of_shard)

    def _find_bad(self, epoch, batch):
        """Remembers the photos of a batch that cannot be decoded; returns whether there are any."""
        examples = self.source.examples
        order, positions = epoch_order(len(examples), self.batch_size, self.seed, epoch)
        places, sources, before = order[positions[batch]], self._sources(epoch), len(self.bad)
        for row in np.unique(places if sources is None else sources[places]).tolist():
            reason = self.source.why_not_decoded(row)
            if not reason:
                continue
            if not self.skip_bad_images:
                raise UserError(_refusal(examples[row], reason))
            say(f"skipped    {name_of(examples[row])}: {reason}")
            self.bad.add(row)
        if len(self.bad) == len(examples):
            raise UserError("none of the training photos can be decoded")
        return len(self.bad) > before
