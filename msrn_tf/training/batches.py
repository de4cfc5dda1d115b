"""A run's training batches, on the replicas of every worker; photos that cannot be decoded are passed over."""

import concurrent.futures
import os

from msrn_tf.data import pipeline
from msrn_tf.data.example import name_of
from msrn_tf.data.pipeline import UNREADABLE, distributed, epoch_order, why_not_decoded
from msrn_tf.errors import UserError
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say


def check_photos(examples, max_pixels):
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
    return f"{name_of(example)}: is no photo that can be decoded ({reason}); mend it, or use --bad_images=skip"


class TrainingBatches:
    """The batches of any epoch, from any step on.

    In place of a photo that cannot be decoded stands the next one that can, whenever it was found out: a run that goes
    on sees what one that was never stopped sees.

    Args:
        examples: list of `Example`.
        plan: `FitPlan`.
        strategy: `tf.distribute.Strategy`.
        batch_size: int, over all replicas.
        pipeline: what gives `training_batches`: the module, or a `FeatureCache`.

    Attributes:
        bad: indices of the photos that could not be decoded so far.
    """

    def __init__(self, examples, plan, strategy, batch_size, pipeline=pipeline):
        self.examples, self.plan, self.strategy, self.batch_size = examples, plan, strategy, batch_size
        self.pipeline = pipeline
        self.steps = len(examples) // batch_size
        self.bad = set()

    def of_epoch(self, epoch, first=0):
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

    def _distributed(self, epoch, first):
        examples = [self.examples[source] for source in self._sources()]
        images_per_replica = self.batch_size // self.strategy.num_replicas_in_sync

        def of_shard(shard):
            dataset = self.pipeline.training_batches(
                examples,
                self.plan.inputs,
                batch_size=self.batch_size,
                seed=self.plan.seed,
                epoch=epoch,
                first_batch=first,
                shard=shard,
            )
            return dataset.rebatch(images_per_replica, drop_remainder=True)

        return distributed(self.strategy, of_shard)

    def _sources(self):
        """For each example the index of the one that is read: its own, or that of the next sound one."""
        sources, count = list(range(len(self.examples))), len(self.examples)
        for index in self.bad:
            sources[index] = next(n % count for n in range(index + 1, index + count) if n % count not in self.bad)
        return sources

    def _find_bad(self, epoch, batch):
        """Remembers the photos of a batch that cannot be decoded; returns whether there are any."""
        order, positions = epoch_order(len(self.examples), self.batch_size, self.plan.seed, epoch)
        sources, before = self._sources(), len(self.bad)
        for source in {sources[index] for index in order[positions[batch]]}:
            example = self.examples[source]
            reason = why_not_decoded(example, self.plan.inputs.max_pixels)
            if not reason:
                continue
            if not self.plan.skip_bad_images:
                raise UserError(_refusal(example, reason))
            say(f"skipped    {name_of(example)}: {reason}")
            self.bad.add(source)
        if len(self.bad) == len(self.examples):
            raise UserError("none of the training photos can be decoded")
        return len(self.bad) > before
