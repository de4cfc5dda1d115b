"""A run that is killed, stopped or damaged at any moment goes on as if nothing had happened."""

import io
import json
import pathlib
import random
import shutil
import signal
import subprocess
import time
import types
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
from processes import Running
from running import SMALL, assert_refused, command

from msrn_tf.data.examples import Example, Examples
from msrn_tf.errors import UserError
from msrn_tf.training import run_directory
from msrn_tf.training.checkpoints import RunCheckpoints

RUN = [*SMALL, "--deterministic", "--epochs=2", "--ema_decay=0.9", "--dropout=0.2", "--notensorboard"]


def arguments(voc, workdir, *more):
    return ["--dataset=voc2007", f"--data_dir={voc}", f"--workdir={workdir}", *RUN, *more]


def index_files(workdir):
    return sorted(pathlib.Path(workdir).glob("checkpoints/ckpt-*.index"), key=lambda p: int(p.stem.split("-")[1]))


def newest_number(workdir):
    """The newest checkpoint's number, 0 where there is none."""
    files = index_files(workdir)
    return int(files[-1].stem.split("-")[1]) if files else 0


def unfinished(workdir):
    """What a checkpoint is being written to."""
    return list(pathlib.Path(workdir).glob("checkpoints/*_temp"))


def final_state(workdir):
    """Every number of the newest checkpoint: weights, optimizer, moving averages, position, best score."""
    reader = tf.train.load_checkpoint(str(index_files(workdir)[-1]).removesuffix(".index"))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: reader.get_tensor(name) for name in names if "save_counter" not in name}


def assert_identical(one, other, at_least=100):
    assert one.keys() == other.keys()
    assert len(one) > at_least
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(small_voc, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    run = command("msrn_tf.train", *arguments(small_voc, workdir))
    assert run.returncode == 0, run.stderr
    return workdir


def kill(process, workdir, moment):
    """Kills a run after its next checkpoint: at a random moment, or `"inside"` the writing of another one."""
    before = newest_number(workdir)
    process.wait_for(lambda: newest_number(workdir) > before)
    if moment == "inside":
        process.wait_for(lambda: unfinished(workdir))
    else:
        time.sleep(moment)
    process.kill()


def test_a_run_killed_inside_the_writing_of_a_checkpoint_goes_on_to_the_same_bits(small_voc, undisturbed, tmp_path):
    workdir = tmp_path / "run"
    flags = arguments(small_voc, workdir, "--checkpoint_steps=1")
    for _ in range(10):  # a checkpoint may be finished between the look and the kill
        kill(Running("msrn_tf.train", *flags), workdir, "inside")
        if unfinished(workdir):
            break
    assert unfinished(workdir)
    run = command("msrn_tf.train", *flags)
    assert run.returncode == 0, run.stderr
    assert "continues" in run.stdout and not unfinished(workdir)
    assert_identical(final_state(workdir), final_state(undisturbed))
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    for record, undisturbed_record in zip(records, expected, strict=True):
        assert record["val_mAP"] == undisturbed_record["val_mAP"]
        assert record["loss"] == pytest.approx(undisturbed_record["loss"], rel=1e-9)


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(small_voc, undisturbed, tmp_path):
    workdir, random_moment = tmp_path / "run", random.Random(2)
    flags = arguments(small_voc, workdir, "--checkpoint_steps=1")
    moments = [random_moment.uniform(0, 0.3) for _ in range(6)] + ["inside"] * 4
    cut_short = []
    for moment in random_moment.sample(moments, 10):
        kill(Running("msrn_tf.train", *flags), workdir, moment)
        cut_short.append(bool(unfinished(workdir)))
    assert any(cut_short)
    run = command("msrn_tf.train", *flags)
    assert run.returncode == 0, run.stderr
    assert_identical(final_state(workdir), final_state(undisturbed))


REPLICAS = ["--num_cpu_replicas=2", "--clip_norm=0.5"]  # every step is clipped


def kept_model(workdir):
    """Every number of `model.keras`."""
    with zipfile.ZipFile(workdir / "model.keras") as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    found = {}
    weights.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def records_of(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{name: json.loads(line)[name] for name in ("epoch", "step", "val_mAP", "best")} for line in lines]


def assert_same_run(workdir, undisturbed):
    assert_identical(final_state(workdir), final_state(undisturbed))
    assert_identical(kept_model(workdir), kept_model(undisturbed), at_least=47)
    assert records_of(workdir) == records_of(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "kills"),
    [
        pytest.param(["--model=gap"], 2, id="each its own batch"),
        pytest.param([], 10, id="each its own batch, 10 kills"),
        pytest.param(["--sync_batch_norm"], 10, id="synchronized, 10 kills"),
    ],
)
def test_a_run_of_two_replicas_that_is_killed_goes_on_to_the_same_bits(small_voc, tmp_path, more, kills):
    flags = [*REPLICAS, *more, "--checkpoint_steps=1"]
    undisturbed, workdir, random_moment = tmp_path / "undisturbed", tmp_path / "run", random.Random(3)
    run = command("msrn_tf.train", *arguments(small_voc, undisturbed, *REPLICAS, *more))
    assert run.returncode == 0, run.stderr
    for _ in range(kills):
        kill(Running("msrn_tf.train", *arguments(small_voc, workdir, *flags)), workdir, random_moment.uniform(0, 0.3))
    run = command("msrn_tf.train", *arguments(small_voc, workdir, *flags))
    assert run.returncode == 0, run.stderr
    assert "devices    2 × CPU" in run.stdout and "continues" in run.stdout
    assert_same_run(workdir, undisturbed)


def test_a_stop_signal_saves_and_ends_with_status_0_and_a_damaged_checkpoint_is_passed_over(
    small_voc, undisturbed, tmp_path
):
    workdir = tmp_path / "run"
    flags = arguments(small_voc, workdir, "--checkpoint_steps=3")
    process = Running("msrn_tf.train", *flags)
    process.wait_for(lambda: newest_number(workdir))
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, process.stderr()
    assert "by SIGTERM; the same command continues from there" in process.stdout()
    assert len(index_files(workdir)) == 2

    newest = index_files(workdir)[-1].with_suffix(".data-00000-of-00001")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    newest.write_bytes(content)
    run = command("msrn_tf.train", *flags)
    assert run.returncode == 0, run.stderr
    assert "damaged" in run.stdout and "after step 3, from" in run.stdout
    assert_identical(final_state(workdir), final_state(undisturbed))


def test_a_finished_run_says_so_and_other_flags_are_refused_by_name(small_voc, undisturbed):
    before = (undisturbed / "metrics.jsonl").read_text()
    less_memory = ["--accumulation_steps=2", "--recompute_backbone"]  # what may be changed where it ran out
    again = command("msrn_tf.train", *arguments(small_voc, undisturbed, *less_memory))
    assert again.returncode == 0 and "validation mAP" in again.stdout
    changed = command("msrn_tf.train", *arguments(small_voc, undisturbed, "--seed=7", "--channels=16"))
    assert_refused(changed, "--seed=7 (was 0)", "--channels=16 (was 8)", undisturbed)
    assert (undisturbed / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_weights_of_another_model_are_taken_again_where_a_run_was_killed_before_its_first_checkpoint(
    small_voc, undisturbed, tmp_path
):
    workdir = tmp_path / "run"
    flags = arguments(small_voc, workdir, "--epochs=1", f"--init_from={undisturbed / 'model.keras'}")
    process = Running("msrn_tf.train", *flags)
    process.wait_for((workdir / "flags.cfg").exists)
    process.kill()
    assert not index_files(workdir)
    run = command("msrn_tf.train", *flags)
    assert run.returncode == 0, run.stderr
    assert "transfer " in run.stdout and "continues" not in run.stdout


def test_a_folder_that_holds_a_model_of_no_known_run_is_refused(undisturbed, tmp_path):
    shutil.copy(undisturbed / "model.keras", tmp_path)
    assert run_directory.is_started(undisturbed) and not run_directory.is_started(tmp_path / "new")
    with pytest.raises(UserError, match=f"`workdir`={tmp_path}: holds a model, but no flags.cfg"):
        run_directory.is_started(tmp_path)


def test_a_second_command_in_the_folder_of_a_run_is_refused_until_the_first_is_gone(small_voc, tmp_path):
    workdir = tmp_path / "run"
    flags = arguments(small_voc, workdir, "--epochs=50", "--model=gap")
    first = Running("msrn_tf.train", *flags)
    first.wait_for(lambda: newest_number(workdir))
    second = command("msrn_tf.train", *flags)
    assert_refused(second, f"--workdir={workdir}", "another command is training in it")
    first.kill()
    with run_directory.held(str(workdir)):  # the lock died with its process
        pass


def test_a_folder_is_held_by_one_and_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path):
    workdir = str(tmp_path / "new" / "run")
    with run_directory.held(workdir):
        with pytest.raises(UserError, match=f"`workdir`={workdir}: another command"), run_directory.held(workdir):
            pass
        assert (tmp_path / "new" / "run").is_dir()
    assert list(tmp_path.iterdir()) == []
    with run_directory.held(workdir):
        (tmp_path / "new" / "run" / "flags.cfg").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "run", "flags.cfg"]
    with pytest.raises(UserError, match="cannot be written"), run_directory.held(f"{workdir}/flags.cfg/below"):
        pass


def checkpoints_of(folder):
    """One variable's worth of a run."""
    model, optimizer = types.SimpleNamespace(variables=[]), types.SimpleNamespace(variables=[])
    return RunCheckpoints(str(folder), model, optimizer)


def test_a_checkpoint_that_the_file_system_does_not_give_is_not_called_damaged(tmp_path):
    folder = tmp_path / "run"
    checkpoints = checkpoints_of(folder)
    for epoch in (1, 2):
        checkpoints.epoch.assign(epoch)
        checkpoints.save()
    data = next((folder / "checkpoints").glob("ckpt-2.data-*"))
    content = data.read_bytes()
    data.unlink()
    data.symlink_to("/proc/self/mem")  # whose first byte gives an input/output error, to root too
    with pytest.raises(UserError, match=r"ckpt-2\.data.*cannot be read \(Input/output error\)"):
        checkpoints_of(folder).restore()

    data.unlink()
    data.write_bytes(content[: len(content) // 2])
    again = checkpoints_of(folder)
    path, warnings = again.restore()
    assert path.endswith("ckpt-1") and int(again.epoch) == 1
    assert len(warnings) == 1 and "ckpt-2: damaged" in warnings[0]


def test_a_checkpoint_of_another_model_is_not_called_damaged(tmp_path):
    checkpoints_of(tmp_path).save()
    model = types.SimpleNamespace(variables=[types.SimpleNamespace(value=tf.Variable(1.0))])
    with pytest.raises(UserError, match="holds other variables than this run's model"):
        RunCheckpoints(str(tmp_path), model, types.SimpleNamespace(variables=[])).restore()


def test_other_data_are_refused(rng, tmp_path):
    rows = (Example(f"photo {index}", rng.integers(0, 2, 3).astype("int8"), "photo.jpg") for index in range(5))
    examples = Examples.of(rows, 3)
    run_directory.start(tmp_path, [], examples, ["cat", "dog", "hat"])
    run_directory.check_same_data(tmp_path, examples, ["cat", "dog", "hat"])
    relabelled = examples.with_targets(np.concatenate([1 - examples.targets[:1], examples.targets[1:]]))
    for other, labels, word in [
        (examples, ["cat", "dog", "mat"], "labels"),
        (examples[:4], ["cat", "dog", "hat"], "number of images"),
        (examples[::-1], ["cat", "dog", "hat"], "image names"),
        (relabelled, ["cat", "dog", "hat"], "targets"),
    ]:
        with pytest.raises(UserError, match=f"other {word};"):
            run_directory.check_same_data(tmp_path, other, labels)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_is_whole(small_voc, undisturbed, tmp_path):
    size = sum(file.stat().st_size for file in undisturbed.rglob("*") if file.is_file())
    one = sum(file.stat().st_size for file in undisturbed.glob("checkpoints/ckpt-2.*"))
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(1.7 * one)}", "tmpfs", disk]).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        flags = arguments(small_voc, disk / "run", "--checkpoint_steps=3")
        assert_refused(command("msrn_tf.train", *flags), "cannot be written", "continues from there")
        assert [file.stem for file in index_files(disk / "run")] == ["ckpt-1"]
        assert not list((disk / "run" / "checkpoints").glob("*_temp"))
        subprocess.run(["mount", "-o", f"remount,size={4 * size}", disk], check=True)
        run = command("msrn_tf.train", *flags)
        assert run.returncode == 0, run.stderr
        assert "after step 3, from" in run.stdout
        assert_identical(final_state(disk / "run"), final_state(undisturbed))
    finally:
        subprocess.run(["umount", disk], check=True)
