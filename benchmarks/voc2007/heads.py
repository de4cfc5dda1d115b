"""Heads trained on feature maps that are kept on a disk, one after the other in one process: seconds a run.

What `study.py` does by `msrn_tf.train`, without its files: the same model, order, loss and optimizer. Global average
pooling needs the maps' averages alone, which are 81 times smaller at 288 pixels and stay in memory.
"""

import dataclasses
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf
from runs import choices, trained_parameters

from msrn_tf.data.label_policies import with_unlisted
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.models.factory import create_model, load_model, save_model
from msrn_tf.progress import ProgressBar
from msrn_tf.training.batches import TrainingBatches
from msrn_tf.training.feature_cache import FeatureCache
from msrn_tf.training.graph_setup import prepare_label_graph
from msrn_tf.training.setup import make_train_step, positive_weights


class Heads:
    """Trains and scores variants of one frozen backbone.

    Args:
        folder: of the feature maps, see `FeatureCache`.
        labels: C names.
        training, test: `Examples`, with all labels that are known.
    """

    def __init__(self, folder, labels, training, test):
        self.folder, self.labels, self.training, self.test = folder, labels, training, test
        self._kept = {}

    def run(self, variant, seed, targets):
        """Scores `[test photos, C]` of a variant trained on these targets, and the number of trained weights."""
        data, model_config, optimization, _ = choices(variant, f"--seed={seed}")
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        examples = with_unlisted(self.training.with_targets(targets), optimization.unlisted)
        weights = positive_weights(self.labels, examples) if optimization.positive_weight == "balanced" else None
        graph, _ = prepare_label_graph(model_config, self.labels, examples, seed)
        model = create_model(model_config, self.labels, data.image_size, graph, False)
        training, test = self._sources(model, data.augment)
        training = dataclasses.replace(training, examples=examples)
        strategy = tf.distribute.get_strategy()
        step = make_train_step(optimization, model, strategy, len(examples), training.feature_maps(model), weights)
        batches = TrainingBatches(training, strategy, optimization.batch_size, seed, sampling=optimization.sampling)
        with ProgressBar(f"{variant.name}, seed {seed}", optimization.epochs, "epochs") as bar:
            for epoch in range(1, optimization.epochs + 1):
                for batch in batches.in_epoch(epoch):
                    step(*batch)
                bar.update(epoch)
        return Evaluator(model, 32).scores(test), trained_parameters(model)

    def _sources(self, model, augment):
        """Of training and test, opened once for each image size, and averaged once for each that is averaged."""
        averaged = model.name == "gap"
        key = (model.image_size, augment, averaged)
        if key not in self._kept:
            cache = FeatureCache(self.folder, model)
            training, _ = cache.open(self.training, augment=augment, training=True)
            test, _ = FeatureCache(self.folder, _loaded(model)).open(self.test, training=False)
            self._kept[key] = [_averaged(source) if averaged else source for source in (training, test)]
        return self._kept[key]


def _loaded(model):
    """The model as a file gives it, which `study.py` scores: feature maps are kept by what a backbone's config says."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        save_model(model, path)
        return load_model(path)


def _averaged(source):
    """The source with its maps' averages over positions in their places, `[N, variants, 1, 1, features]`."""
    means = []
    for kept in source.maps:
        rows = [np.mean(kept[row : row + 16], axis=(2, 3), keepdims=True) for row in range(0, len(kept), 16)]
        means.append(np.concatenate(rows))
    return dataclasses.replace(source, maps=means)
