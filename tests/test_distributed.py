"""Several workers as a person runs them: the same command in several processes, one of which is lost."""

import json
import os
import pathlib
import subprocess
import sys
import time

from running import ROOT, SMALL, command
from test_training import free_ports

from msrn_tf.errors import LostWorkerError


def start_workers(flags, folder, workdirs=None):
    ports = free_ports(2)
    processes = []
    for index in range(2):
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        }
        log = open(pathlib.Path(folder) / f"worker{index}-{ports[0]}.log", "w+")  # noqa: SIM115
        arguments = [sys.executable, "-m", "msrn_tf.train", *flags]
        if workdirs:
            arguments.append(f"--workdir={workdirs[index]}")
        processes.append((subprocess.Popen(arguments, stdout=log, stderr=log, env=environment), log))
    return processes


def end_of(process, log, timeout=240):
    status = process.wait(timeout)
    log.seek(0)
    return status, log.read()


def test_when_one_of_two_workers_is_killed_the_other_says_so_and_both_go_on_from_the_last_checkpoint(
    small_voc, tmp_path
):
    run = tmp_path / "run"
    flags = ["--dataset=voc2007", f"--data_dir={small_voc}", f"--workdir={run}", *SMALL, "--epochs=2",
             "--checkpoint_steps=2", "--notensorboard"]  # fmt: skip
    workers = start_workers(flags, tmp_path)
    while len(list(run.glob("checkpoints/ckpt-*.index"))) < 2 and workers[0][0].poll() is None:
        time.sleep(0.02)
    workers[1][0].kill()
    status, output = end_of(*workers[0])
    assert status == LostWorkerError.exit_status, output
    assert "another worker is gone" in output and "Traceback" not in output

    again = [end_of(*worker) for worker in start_workers(flags, tmp_path)]
    assert [status for status, _ in again] == [0, 0], again
    assert "goes on    in epoch" in again[0][1]
    assert "goes on" not in again[1][1]  # the chief alone speaks
    epochs = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2]
    assert not list(run.glob(".checkpoints-worker-*"))


def test_workers_whose_folders_are_not_shared_refuse_to_go_on(small_voc, tmp_path):
    flags = ["--dataset=voc2007", f"--data_dir={small_voc}", *SMALL, "--notensorboard", "--checkpoint_steps=2"]
    own, other = tmp_path / "own", tmp_path / "other"
    assert command("msrn_tf.train", *flags, f"--workdir={own}").returncode == 0
    ended = [end_of(*worker) for worker in start_workers(flags, tmp_path, [own, other])]
    assert 2 in [status for status, _ in ended]
    assert any("start in different places" in output for _, output in ended)
