"""Trains the variants of `variants.py` on VOC 2007 and keeps what each scores: the numbers behind docs/results.md.

    PYTHONPATH=. python benchmarks/voc2007/study.py --group=graph --phase=tune

Two phases: `tune` trains on `train` and scores `val`, as often as one likes; `final` trains on `train` and `val`
together and scores `test`, once for each variant that was chosen. A run that is there already is not run again, so that
a study that was broken off goes on. `tables.py` makes the tables of the scores.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import time
import traceback

import keras
import tensorflow as tf
from attention_forms import attending
from runs import PHASES, RunsConfig, choices, keep_scores, run_folder, scores_file, trained_parameters
from variants import select

from msrn_tf import command_line, train
from msrn_tf.command_line import option
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.models.factory import load_model
from msrn_tf.training.feature_cache import FeatureCache

RUNS_A_PROCESS = 4
"""TensorFlow keeps the functions that it traced: a process that made many models grows."""


@dataclasses.dataclass(frozen=True)
class StudyConfig(RunsConfig):
    """Study"""

    workers: int = option(2, "runs at a time, each with its share of the cores", low=1)


def main(study):
    variants = select(study.group, study.only)
    if any(variant.single_positive for variant in variants):
        raise UserError(f"--group={study.group}: is single_positive.py's, which leaves out labels")
    jobs = [(variant, seed) for seed in study.seeds for variant in variants]
    jobs = [job for job in jobs if not os.path.exists(scores_file(study, *job))]
    print(f"{len(jobs)} runs of {len(variants)} variants", flush=True)
    threads = max(1, len(os.sched_getaffinity(0)) // study.workers)
    pool = multiprocessing.get_context("spawn").Pool(
        study.workers, initializer=start_worker, initargs=(threads,), maxtasksperchild=RUNS_A_PROCESS
    )
    failed = 0
    with pool:
        finished = pool.imap_unordered(run_or_say_why, [(study, *job) for job in jobs], chunksize=1)
        for done, (name, seed, outcome, has_failed) in enumerate(finished, 1):
            failed += has_failed
            print(f"{done}/{len(jobs)}  {name:30} seed {seed}  {outcome}", flush=True)
    if failed:
        raise UserError(f"--group={study.group}: {failed} runs failed, see above; the same command tries them again")


def start_worker(threads):
    """Once a process, before its first run."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def run_or_say_why(job):
    """`(name, seed, sentence, failed)`. An exception would end the pool, whose workers do not heed its signal."""
    study, variant, seed = job
    folder = run_folder(study, variant, seed)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        with _logged_to(os.path.join(folder, "log.txt")):
            outcome = _run(study, variant, seed, folder)
    except Exception as error:
        return variant.name, seed, f"failed: {type(error).__name__}: {error}; see {folder}", True
    return variant.name, seed, outcome, False


@contextlib.contextmanager
def _logged_to(path):
    """Keeps in a file what is printed, and the traceback of what fails."""
    with open(path, "w", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            yield
        except Exception:
            traceback.print_exc()
            raise


def _run(study, variant, seed, folder):
    """Trains, loads the model that was written, and keeps its scores on the split to measure on."""
    started = time.perf_counter()
    training_split, test_split = PHASES[study.phase]
    more = [f"--seed={seed}", f"--train_split={training_split}", f"--data_dir={study.voc}", f"--workdir={folder}"]
    data, model_config, optimization, run = choices(variant, *more)
    cache_folder = os.path.join(study.runs, "features") if model_config.freeze_backbone else ""
    data = dataclasses.replace(data, cache_features=cache_folder)
    keras.backend.clear_session()
    with attending(variant.attention):
        train.main(data, model_config, optimization, run)
    model = load_model(os.path.join(folder, "model.keras"))
    reader = open_dataset(data.dataset, data.data_dir)
    examples = read_split(reader, test_split)
    if cache_folder:
        source, _ = FeatureCache(cache_folder, model).open(examples, training=False)
    else:
        source = PhotoSource(examples, InputPlan(model.image_size))
    scores, targets = Evaluator(model, 32).scores(source), examples.targets
    seconds = time.perf_counter() - started
    found = evaluate_scores(scores, targets, model.labels, model.thresholds)["mAP"]
    shutil.rmtree(os.path.join(folder, "checkpoints"), ignore_errors=True)
    keep_scores(scores_file(study, variant, seed), scores, targets, model.labels, seconds, trained_parameters(model))
    return f"mAP {found:.2f}  {seconds:.0f} s"


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(StudyConfig,))
