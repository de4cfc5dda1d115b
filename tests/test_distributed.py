"""Several workers as a person runs them: the same command in several processes, one of which is lost."""

import json
import random
import time

import pytest
from processes import Running
from running import SMALL, command
from test_resume import arguments, assert_same_run, newest_number
from test_training import free_ports

from msrn_tf.errors import LostWorkerError


def start_workers(flags, workdirs=None):
    ports = free_ports(2)
    processes = []
    for index in range(2):
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        own = [f"--workdir={workdirs[index]}"] if workdirs else []
        processes.append(Running("msrn_tf.train", *flags, *own, environment={"TF_CONFIG": json.dumps(task)}))
    return processes


def ends_of(workers):
    """Status and everything written, of each."""
    return [(worker.wait(), worker.stdout() + worker.stderr()) for worker in workers]


@pytest.mark.slow
def test_when_one_of_two_workers_is_killed_the_other_says_so_and_both_go_on_from_the_last_checkpoint(
    small_voc, tmp_path
):
    run = tmp_path / "run"
    flags = ["--dataset=voc2007", f"--data_dir={small_voc}", f"--workdir={run}", *SMALL, "--model=gap", "--epochs=2",
             "--checkpoint_steps=2", "--notensorboard"]  # fmt: skip
    workers = start_workers(flags)
    workers[0].wait_for(lambda: len(list(run.glob("checkpoints/ckpt-*.index"))) >= 2)
    workers[1].kill()
    [(status, output)] = ends_of(workers[:1])
    assert status == LostWorkerError.exit_status, output
    assert "another worker is gone" in output and "Traceback" not in output

    again = ends_of(start_workers(flags))
    assert [status for status, _ in again] == [0, 0], again
    assert "continues  in epoch" in again[0][1]
    assert "continues" not in again[1][1]  # the chief alone speaks
    epochs = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2]
    assert not list(run.glob(".checkpoints-worker-*"))


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--sync_batch_norm"]], ids=["each its own batch", "synchronized"])
def test_two_workers_that_are_killed_go_on_to_the_bits_of_an_undisturbed_run(small_voc, tmp_path, more):
    undisturbed, run, random_moment = tmp_path / "undisturbed", tmp_path / "run", random.Random(4)
    flags = arguments(small_voc, undisturbed, "--clip_norm=0.5", *more)
    assert [status for status, _ in ends_of(start_workers(flags))] == [0, 0]
    flags = arguments(small_voc, run, "--clip_norm=0.5", *more, "--checkpoint_steps=1")
    for number in range(3):
        before, workers = newest_number(run), start_workers(flags)
        workers[0].wait_for(lambda before=before: newest_number(run) > before)
        time.sleep(random_moment.uniform(0, 0.3))
        for worker in workers[:: 1 if number % 2 else -1]:
            worker.kill()
    assert [status for status, _ in ends_of(start_workers(flags))] == [0, 0]
    assert_same_run(run, undisturbed)


def test_workers_whose_folders_are_not_shared_refuse_to_go_on(small_voc, tmp_path):
    flags = ["--dataset=voc2007", f"--data_dir={small_voc}", *SMALL, "--model=gap"]
    flags += ["--notensorboard", "--checkpoint_steps=2"]
    own, other = tmp_path / "own", tmp_path / "other"
    assert command("msrn_tf.train", *flags, f"--workdir={own}").returncode == 0
    ended = ends_of(start_workers(flags, [own, other]))
    assert 2 in [status for status, _ in ended]
    assert any("start in different places" in output for _, output in ended)
