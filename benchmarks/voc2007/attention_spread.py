"""How many positions of the deepest map a label looks at: the exponential of the entropy of its weights.

    PYTHONPATH=. python benchmarks/voc2007/attention_spread.py --models=A/model.keras --models=B/model.keras

As many as the map has: the weights are equal, and attention is an average. Means over photos, over labels and, channel
by channel, over channels.
"""

import dataclasses

import numpy as np
from keras import ops

from msrn_tf import command_line
from msrn_tf.command_line import option
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.layers import CosineAttention
from msrn_tf.models.factory import load_model


@dataclasses.dataclass(frozen=True)
class SpreadConfig:
    """Spread"""

    models: tuple[str, ...] = option((), "model.keras; may be given several times", repeated=True, path="input")
    photos: int = option(64, "photos of val", low=1)
    voc: str = option("../shared/voc2007/VOCdevkit", "folder of the data set", path="input")


def main(config):
    examples = read_split(open_dataset("voc2007", config.voc), "val")
    examples = examples[:: max(1, len(examples) // config.photos)][: config.photos]
    for path in config.models:
        model = load_model(path)
        source, vectors = PhotoSource(examples, InputPlan(model.image_size)), model.semantics().vectors
        spreads, largest = [], []
        for images, _ in source.evaluation_batches(np.arange(len(examples)), batch_size=1):
            deepest = model.projection(model.feature_maps(images))[-1]
            positions = np.reshape(deepest, (-1, deepest.shape[-1]))
            weights = position_weights(model.attention, positions, np.array(vectors)[: len(model.labels)])
            entropy = -np.sum(weights * np.log(np.maximum(weights, 1e-30)), axis=-1)
            spreads.append(np.exp(entropy).mean())
            largest.append(weights.max(axis=-1).mean() * weights.shape[-1])
        print(
            f"{path}: looks at {np.mean(spreads):.1f} of {weights.shape[-1]} positions; the largest weight is "
            f"{np.mean(largest):.1f} times the average",
            flush=True,
        )


def position_weights(attention, positions, vectors):
    """`[…, N]`, each row sums to 1: a row a label (and head) for cosines, a row a label and channel otherwise."""
    if isinstance(attention, CosineAttention):
        return np.array(attention.attention_weights(positions[None], vectors))
    return np.array(ops.softmax(positions.T[None] * vectors[:, :, None], axis=-1))


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(SpreadConfig,))
