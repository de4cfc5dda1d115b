"""Running a pipeline: a runner's options from words, its errors as sentences, its counters as numbers."""

import contextlib
import difflib
import io
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.runners.runner import PipelineState

from msrn_tf.errors import UserError, first_line

WORDS = {"true": True, "false": False}
LISTS = ("experiments", "dataflow_service_options", "resource_hints")
_OWN_ERROR = re.compile(r"UserError: (.+?)(?: \[while running|\\n|$)", re.MULTILINE)


def pipeline_options(runner: str, words: Sequence[str]) -> PipelineOptions:
    """The options of a pipeline.

    Args:
        runner: a name of `msrn_tf.runners.RUNNERS`.
        words: `name=value` each, of Beam's pipeline options; a name alone is one that is true.

    Raises:
        UserError: Beam knows no such option, or not this value of it.
    """
    known, values = PipelineOptions([]).get_all_options(), {}  # without a list it would read the command line
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "give name=value, with a name of Beam's pipeline options"
            raise UserError(f"`runner_option`={word}: Beam has no option {name!r}; {hint}")
        values[name] = value.split(",") if name in LISTS else WORDS.get(value.lower() or "true", value)
    quiet = {"default_sdk_harness_log_level": "WARNING"}
    options = PipelineOptions.from_dictionary({"runner": runner} | quiet | values)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options.get_all_options()
    except SystemExit as error:  # of its argument parser
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"`runner_option`={' '.join(words)}: {reason}; see Beam's pipeline options") from error
    options.view_as(SetupOptions).save_main_session = False
    return options


def run(
    options: PipelineOptions, add: Callable[[beam.Pipeline], None], namespace: str, advice: str = ""
) -> dict[str, int]:
    """Runs a pipeline to its end.

    Args:
        options: of `pipeline_options`.
        add: called with the pipeline; adds its steps.
        namespace: of its counters.
        advice: what a person can do when it fails.

    Returns:
        Dict of counter → value.

    Raises:
        UserError: it cannot be started, or failed.
    """
    runner = options.get_all_options()["runner"]
    try:
        with _quiet(runner):
            pipeline = beam.Pipeline(options=options)
            add(pipeline)
            result = pipeline.run()
            state = result.wait_until_finish()
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"`runner`={runner}: needs {error.name or first_line(error)}, which is not installed: pip install "
            '"apache-beam[gcp]" for Dataflow and gs://'
        ) from error
    except Exception as error:
        raise _failure(runner, error, advice) from error
    if state not in (PipelineState.DONE, None):
        raise UserError(f"`runner`={runner}: the pipeline ended as {state}; {advice or 'its log says why'}")
    return {item.key.metric.name: item.result for item in _counters(result, namespace)}


@contextlib.contextmanager
def _quiet(runner: str) -> Iterator[None]:
    """Within it, the direct runner does not log the tracebacks of an error that is told as a sentence. What other
    runners log is of other machines."""
    logger = logging.getLogger("apache_beam")
    before = logger.level
    if runner == "DirectRunner":
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _counters(result: Any, namespace: str) -> Sequence[Any]:
    return result.metrics().query(MetricsFilter().with_namespace(namespace))["counters"]


def _failure(runner, error, advice):
    """The sentence about a pipeline that failed: what a worker said, or what the runner says."""
    texts = [str(one) for one in (error, error.__cause__, error.__context__) if one is not None]
    for text in texts:
        if found := _OWN_ERROR.search(text):
            return UserError(found[1])
    what = _last_line(texts[0]) or first_line(error)
    return UserError(f"`runner`={runner}: the pipeline failed ({what})" + (f"; {advice}" if advice else ""))


def _last_line(text):
    """The last line that says something: those before are a worker's traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r" \[while running .*", "", lines[-1])[:300].replace("`", "'") if lines else ""
