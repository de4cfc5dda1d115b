"""Scores and heat-maps come of one pass through the backbone: predicted, drawn, served and on a device."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from serving import LABELS, small_model

from export.quantization.conversion import convert
from export.signatures import signatures
from msrn_tf import predict
from msrn_tf.data.demo import DEMO_LABELS, draw_example
from msrn_tf.data.examples import Examples
from msrn_tf.models import MSRN
from msrn_tf.models.inference_model import inference_model
from msrn_tf.predictor import Predictor
from msrn_tf.report.findings import Finding
from msrn_tf.report.photos import PhotoShelf
from msrn_tf.visualization.heatmap_files import HeatmapFiles
from msrn_tf.visualization.heatmaps import contact_sheet

CONVOLUTIONS = {"Conv2D", "_FusedConv2D", "DepthwiseConv2dNative"}


@pytest.fixture(scope="module")
def model():
    return small_model(32)


@pytest.fixture
def passes(monkeypatch):
    """A list with an item for each pass through the backbone: a call, or the tracing of one that is compiled."""
    found, feature_maps = [], MSRN.feature_maps

    def counted(model, images, training=False):
        found.append(images.shape)
        return feature_maps(model, images, training=training)

    monkeypatch.setattr(MSRN, "feature_maps", counted)
    return found


@pytest.mark.parametrize("by", ["label", *(pytest.param(by, marks=pytest.mark.slow) for by in ("scale", "group"))])
def test_predict_writes_heatmaps_of_the_pass_that_scores(model, passes, tmp_path, by):
    paths = []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.jpg"))
        (tmp_path / f"{number}.jpg").write_bytes(draw_example("test", number).image_bytes)
    predictor = Predictor(model, by)
    passes.clear()
    rows = list(predict.predict_files(predictor, paths, 2, HeatmapFiles(str(tmp_path / "maps"), by)))
    assert len(rows) == 3 and len(passes) == 1  # compiled once for both batches


def test_pictures_for_tensorboard_and_of_a_report_take_a_pass_a_batch(model, passes):
    rows = [draw_example("test", number) for number in range(3)]
    images = np.stack([tf.image.resize(tf.io.decode_jpeg(row.image_bytes), (32, 32)).numpy() for row in rows])
    contact_sheet(model, images.astype(np.uint8))
    assert len(passes) == 1
    findings = [Finding(image, label, 0.5, 1) for image in (0, 2) for label in (1, 3)]
    PhotoShelf(model, Examples.of(rows, len(DEMO_LABELS)), findings)
    assert len(passes) == 3  # of two photos, for two labels each


def convolutions(concrete):
    """How many convolutions a call computes: those of the graph, and of every function that it calls."""
    graph = concrete.graph.as_graph_def()
    bodies = {function.signature.name: function.node_def for function in graph.library.function}

    def count(nodes):
        total = 0
        for node in nodes:
            total += node.op in CONVOLUTIONS
            called = collections.Counter(value.func.name for value in node.attr.values() if value.HasField("func"))
            total += sum(times * count(bodies[name]) for name, times in called.items() if name in bodies)
        return total

    return count(graph.node)


def test_a_served_explanation_computes_no_more_convolutions_than_scores_alone(model):
    found = {
        name: tf.function(function, input_signature=[spec]).get_concrete_function()
        for name, (function, spec) in signatures(inference_model(model)).items()
        if name in ("serving_default", "explain")
    }
    counts = {name: convolutions(function) for name, function in found.items()}
    assert counts["explain"] == counts["serving_default"] > 10


def test_a_device_computes_heatmaps_without_another_convolution(model):
    counts = []
    for with_attention in (False, True):
        interpreter = Interpreter(model_content=convert(model, "none", with_attention=with_attention))
        counts.append(sum(details["op_name"] == "CONV_2D" for details in interpreter._get_ops_details()))
    assert counts[0] == counts[1] > 10
    assert len(LABELS) == len(model.labels)
