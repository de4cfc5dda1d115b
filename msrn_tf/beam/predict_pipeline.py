"""`msrn_tf.predict` as one pipeline: paths of photos in, files of rows out, one of a photo."""

import dataclasses
import functools
import json
from typing import Any

import apache_beam as beam
import pyarrow
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from msrn_tf.beam.model_handler import ClassifierHandler
from msrn_tf.beam.pipelines import run
from msrn_tf.beam.sources import Source, photos_named
from msrn_tf.errors import UserError, first_line
from msrn_tf.predictions import Prediction, Refusal

NAMESPACE = "predict"
PARQUET, JSON_LINES = ".parquet", ".jsonl"
COLUMNS = pyarrow.schema(
    [
        ("photo", pyarrow.string()),
        ("labels", pyarrow.list_(pyarrow.string())),
        ("scores", pyarrow.list_(pyarrow.float32())),
        ("present", pyarrow.list_(pyarrow.string())),
        ("reason", pyarrow.string()),
    ]
)
"""Of a Parquet file; `reason` is null for a photo that was classified."""


@dataclasses.dataclass(frozen=True)
class Output:
    """Files of rows: the start of their names, and `PARQUET` or `JSON_LINES`."""

    prefix: str
    suffix: str

    @classmethod
    def of(cls, text: str) -> "Output":
        """By what a person gave: a name with one of the suffixes, or a start of names of JSON lines."""
        suffix = next((suffix for suffix in (PARQUET, JSON_LINES) if text.endswith(suffix)), "")
        return cls(text.removesuffix(suffix), suffix or JSON_LINES)

    def check_new(self) -> None:
        """Refuses files of an earlier run, beside which new ones could not be told apart. Raises `UserError`."""
        pattern = f"{self.prefix}-*-of-*{self.suffix}"
        try:
            (found,) = FileSystems.match([pattern], [1])
        except (BeamIOError, ValueError, OSError, ImportError) as error:
            raise UserError(f"`output`={self.prefix}: cannot be looked at ({first_line(error)})") from error
        if found.metadata_list:
            raise UserError(
                f"`output`={self.prefix}: {found.metadata_list[0].path} is there from an earlier run; delete such "
                "files, or choose another name"
            )


def predict(
    model_path: str, source: Source, output: Output, top_k: int, batch_size: int, options: PipelineOptions
) -> dict[str, int]:
    """Classifies photos and writes a row of each.

    Args:
        model_path: of `model.keras`, which every worker reads.
        source: what names the photos.
        output: where rows go.
        top_k: labels of a row.
        batch_size: photos in a batch, at most.
        options: of `pipelines.pipeline_options`.

    Returns:
        Dict of counter → value: `photos`, `refused`, and those of `RunInference`.

    Raises:
        UserError: the pipeline failed.
    """
    add = functools.partial(
        add_prediction, handler=ClassifierHandler(model_path, batch_size), source=source, output=output, top_k=top_k
    )
    return run(options, add, NAMESPACE)


def add_prediction(
    pipeline: beam.Pipeline, handler: ClassifierHandler, source: Source, output: Output, top_k: int
) -> None:
    """Adds all steps to a pipeline."""
    rows = photos_named(pipeline, source) | RunInference(handler) | "rows of photos" >> beam.ParDo(AsRow(top_k))
    if output.suffix == PARQUET:
        _ = (
            rows
            | "columns" >> beam.Map(in_columns)
            | "write" >> beam.io.WriteToParquet(output.prefix, COLUMNS, codec="zstd", file_name_suffix=PARQUET)
        )
    else:
        _ = (
            rows
            | "lines" >> beam.Map(json.dumps)
            | "write" >> beam.io.WriteToText(output.prefix, file_name_suffix=JSON_LINES)
        )


class AsRow(beam.DoFn):
    """The row of a photo, as `msrn_tf.predict --json` prints it; counts them."""

    def __init__(self, top_k: int):
        self._top_k = top_k
        self._photos = Metrics.counter(NAMESPACE, "photos")
        self._refused = Metrics.counter(NAMESPACE, "refused")

    def process(self, element: Prediction | Refusal) -> list[dict[str, Any]]:
        """See the class."""
        (self._refused if isinstance(element, Refusal) else self._photos).inc()
        return [element.as_json(self._top_k)]


def in_columns(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what `COLUMNS` names."""
    # What is no text in a file's name is an escape, as JSON has it.
    photo = row["photo"].encode("utf-8", "backslashreplace").decode()
    return {name: row.get(name) for name in COLUMNS.names} | {"photo": photo}
