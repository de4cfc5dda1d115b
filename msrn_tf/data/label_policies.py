"""What a data set's silence means: labels that a photo is not listed with, absent, unknown or under suspicion.

A person's decisions (`data.corrections`) stand above the policy: what was looked at and found absent is absent.
"""

from msrn_tf.data.corrections import Corrections
from msrn_tf.data.examples import Examples, Reader
from msrn_tf.data.targets import ABSENT, UNKNOWN, CompressedTargets

UNLISTED = -2
"""A target of training alone: not listed, taken for absent until its loss is large. All else reads it as unknown."""

MEANINGS = {"absent": ABSENT, "unknown": UNKNOWN, "suspect": UNLISTED}


def with_unlisted(examples: Examples, policy: str) -> Examples:
    """The examples with another meaning of labels that are not listed.

    Of a data set that lists what is there, they are those that are absent. One whose default is unknown lists what is
    absent too: what it lists stays, and `suspect` is about what it does not.

    Args:
        examples: `Examples`.
        policy: one of `MEANINGS`.
    """
    default = examples.compressed_default
    if policy == "absent" or (policy, default) == ("unknown", UNKNOWN):
        return examples
    meaning = MEANINGS[policy]
    if default is None:
        targets = examples.targets.copy()
        targets[targets == ABSENT] = meaning
        return examples.with_targets(targets)
    kept = examples.compressed_targets()
    return examples.with_targets(CompressedTargets(kept.starts, kept.columns, kept.values, kept.num_labels, meaning))


class Relabelled:
    """A reader whose targets a person corrected, and where one split's silence has another meaning.

    Args:
        reader: as in `msrn_tf.data.examples`.
        corrections: `Corrections`, or None.
        policy: one of `MEANINGS`.
        split: the split that the policy is for.
    """

    def __init__(self, reader: Reader, corrections: Corrections | None, policy: str = "absent", split: str = ""):
        self.labels, self.splits = reader.labels, reader.splits
        self.names_what_is_shown = getattr(reader, "names_what_is_shown", False)
        self._reader, self._corrections, self._policy, self._split = reader, corrections, policy, split
        if hasattr(reader, "places"):
            self.places = reader.places

    def read(self, split: str) -> Examples:
        """All examples of a split. Raises `UserError`, also for corrections that are of other photos."""
        examples = self._reader.read(split)
        changes = self._corrections.changes(examples, self._reader, split) if self._corrections else None
        if split == self._split:
            examples = with_unlisted(examples, self._policy)
        return examples if changes is None else changes.made_in(examples)
