"""Photos a second: the model alone on pixels in memory, as trained and folded, and msrn_tf.predict from files to rows.

    python benchmarks/predict.py --model=runs/voc/model.keras --photos=PHOTOS

`predict` computes with the folded model. All run in turns in one process, on the same photos in batches of the same
size; printed are medians of the rounds and their range, of the rate from the end of the first batch on: what TensorFlow
does once, such as tracing, is not counted.
"""

import argparse
import os
import statistics
import time

import tensorflow as tf

from msrn_tf.data.photo_batches import decoded_batches
from msrn_tf.data.photos import find_photos
from msrn_tf.models.factory import load_model
from msrn_tf.predict import predict_files
from msrn_tf.predictor import Predictor


def rate(batches):
    """Photos a second behind the first batch, of an iterator that gives the number of photos of each."""
    next(batches)
    start = time.perf_counter()
    count = sum(batches)
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    model, size = load_model(arguments.model), arguments.batch_size
    paths = find_photos([arguments.photos])[: arguments.count]
    paths = paths[: len(paths) // size * size]
    batches = [images for _, images in decoded_batches(paths, model.image_size, size)]
    predictor = Predictor(model)
    forward = tf.function(lambda images: model.calibrated(model(images, training=False)))

    def model_alone():
        for images in batches:
            forward(images).numpy()
            yield len(images)

    def model_folded():
        for images in batches:
            predictor.of_batch(images)
            yield len(images)

    def predict():
        for number, _ in enumerate(predict_files(predictor, paths, size), 1):
            if number % size == 0:
                yield size

    ways = {"model alone": model_alone, "model folded": model_folded, "predict": predict}
    for way in ways.values():
        rate(way())
    rounds = [{name: rate(way()) for name, way in ways.items()} for _ in range(arguments.rounds)]
    print(f"{os.uname().machine}, {os.cpu_count()} cores; {len(paths)} photos of {model.image_size} pixels")
    for name in ways:
        rates = [one[name] for one in rounds]
        shares = [one[name] / one["model alone"] for one in rounds]
        print(
            f"{name:12} {statistics.median(rates):6.1f} photos/s ({min(rates):.1f}–{max(rates):.1f})"
            f"  {statistics.median(shares):.2f} of the model alone ({min(shares):.2f}–{max(shares):.2f})"
        )
