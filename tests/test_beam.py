"""Preparation and prediction as Apache Beam pipelines: the same records, counts, graphs, audits and rows as without."""

import dataclasses
import glob
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf
import yaml
from PIL import Image
from running import ROOT, assert_refused, command
from serving import small_model

pytest.importorskip("apache_beam", reason="apache-beam is not installed: pip install 'apache-beam~=2.77'")

from msrn_tf import predict
from msrn_tf.beam import sources
from msrn_tf.beam.pipelines import pipeline_options
from msrn_tf.beam.predict_pipeline import Output
from msrn_tf.beam.prepare_pipeline import FindAlike, FindSame, Job
from msrn_tf.beam.sources import Source, find_source
from msrn_tf.beam.work_list import read_block, shuffled_blocks, write_blocks
from msrn_tf.config import DataConfig
from msrn_tf.data.demo import draw_example
from msrn_tf.data.examples import Examples
from msrn_tf.data.near_duplicates import alike_pairs
from msrn_tf.data.preparation import PreparationPlan
from msrn_tf.data.prepared import Prepared
from msrn_tf.data.targets import CompressedTargets, sum_of_pairs, symmetric
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph
from msrn_tf.models.factory import save_model
from msrn_tf.predict import PredictionConfig
from msrn_tf.prepare import PreparationConfig
from msrn_tf.prepare import main as prepare
from msrn_tf.runners import RunnerConfig

DIRECT = RunnerConfig(runner="DirectRunner")


def scenery(seed):
    """A picture with large forms, another one for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((160, 120), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 photos of two splits: one twice, one smaller again in the other split, one no photo, one missing."""
    folder = tmp_path_factory.mktemp("photos")
    lines = ["image,labels,split"]
    for seed in range(40):
        scenery(seed).save(folder / f"{seed:02d}.jpg", quality=95)
        labels = "|".join(["red"] * (seed % 2) + ["blue"] * (seed % 3 > 0) + ["?green"] * (seed % 5 == 0))
        lines.append(f"{seed:02d}.jpg,{labels},{'train' if seed < 30 else 'val'}")
    scenery(3).resize((100, 75)).save(folder / "alike.jpg", quality=60)
    (folder / "twin.jpg").write_bytes((folder / "05.jpg").read_bytes())
    (folder / "bad.jpg").write_text("no photo")
    lines += ["alike.jpg,green,val", "twin.jpg,red,val", "bad.jpg,red,train", "gone.jpg,red,train"]
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


def configured(photos, output, **choices):
    return (
        DataConfig(dataset="table", data_dir=str(photos)),
        PreparationConfig(**{"output": str(output), "image_size": 130} | choices),
    )


def by_beam(photos, output, runner=DIRECT, **choices):
    data, config = configured(photos, output, **choices)
    prepare(data, config, runner)
    return output


@pytest.fixture(scope="module")
def both(photos, tmp_path_factory):
    """The folder that is prepared without Beam, and the one with it, of small shards."""
    folder = tmp_path_factory.mktemp("prepared")
    data, config = configured(photos, folder / "here")
    prepare(data, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msrn_tf.beam.preparation.MOST_SHARDS", 4)
        patch.setattr("msrn_tf.beam.preparation.SAMPLE", 0)
        patch.setattr("msrn_tf.beam.preparation.USUAL_BYTES", 1 << 40)
        return folder / "here", by_beam(photos, folder / "beam")


def read_json_lines(start):
    paths = map(pathlib.Path, sorted(glob.glob(f"{start}-*.jsonl")))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def read_parquet(start):
    paths = sorted(glob.glob(f"{start}-*.parquet"))
    return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]


def records(folder, split):
    """What TensorFlow reads of a split's shards, in any order."""
    found = []
    for record in tf.data.TFRecordDataset(sorted(glob.glob(f"{folder}/{split}-*.tfrecord"))):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        found.append((features["image/id"].bytes_list.value[0], record.numpy()))
    return sorted(found)


def assert_same_data(here, beam):
    """Records, index, counts, label graph and audit."""
    one, other = (json.loads((folder / "dataset.json").read_text()) for folder in (here, beam))
    assert one["labels"] == other["labels"] and list(one["splits"]) == list(other["splits"])
    for split, described in one["splits"].items():
        assert {**described, "num_shards": 0} == {**other["splits"][split], "num_shards": 0}
        assert records(here, split) == records(beam, split)
        tables = [Prepared(str(folder)).read(split) for folder in (here, beam)]
        rows = [sorted((e.image_id, e.target.tobytes()) for e in table) for table in tables]
        assert rows[0] == rows[1]
    graphs = [LabelGraph.load(str(folder / "label_graph.npz")) for folder in (here, beam)]
    assert graphs[0].labels == graphs[1].labels and graphs[0].num_images == graphs[1].num_images
    np.testing.assert_array_equal(graphs[0].counts, graphs[1].counts)
    np.testing.assert_array_equal(graphs[0].cooccurrence, graphs[1].cooccurrence)
    for name in ("audit.json", "near_duplicates.txt"):
        assert (here / name).read_text() == (beam / name).read_text()


def test_a_pipeline_writes_what_the_command_without_one_writes(both):
    here, beam = both
    assert_same_data(here, beam)
    report = json.loads((beam / "audit.json").read_text())
    assert report["splits"]["train"]["rejected"] == 2 and report["num_duplicates"] == 1
    assert report["training_photos_like_others"] == ["03.jpg"]
    assert len(glob.glob(f"{beam}/train-*.tfrecord")) == 4
    assert not [name for name in os.listdir(beam) if name.endswith((".json.tmp", ".tfrecord.json")) or "list" in name]


def test_photos_that_are_left_out_go_to_files_of_their_own(both):
    found = read_json_lines(f"{both[1]}/rejected/photos")
    rows = {os.path.basename(row["image"]): row["reason"] for row in found}
    assert rows.keys() == {"bad.jpg", "gone.jpg"}
    assert "not one of" in rows["bad.jpg"] and "no such file" in rows["gone.jpg"]


def test_every_record_is_where_the_index_says(both):
    examples = Prepared(str(both[1])).read("train")
    for example in examples:
        content = pathlib.Path(example.image_path).read_bytes()[example.record_offset :]
        record = content[12 : 12 + int.from_bytes(content[:8], "little")]
        assert tf.train.Example.FromString(record).features.feature["image/id"].bytes_list.value[0] == (
            example.image_id.encode()
        )


def test_the_order_is_a_function_of_the_seed_and_shards_are_kept_when_a_run_goes_on(
    photos, both, tmp_path, monkeypatch
):
    beam = both[1]
    monkeypatch.setattr("msrn_tf.beam.preparation.MOST_SHARDS", 4)
    monkeypatch.setattr("msrn_tf.beam.preparation.SAMPLE", 0)
    monkeypatch.setattr("msrn_tf.beam.preparation.USUAL_BYTES", 1 << 40)
    with monkeypatch.context() as patch:
        patch.setattr("msrn_tf.beam.prepare_pipeline.WriteIndex.process", broken)
        with pytest.raises(UserError, match="the pipeline failed"):
            by_beam(photos, tmp_path / "again")
    shards = sorted((tmp_path / "again").glob("*.tfrecord"))
    times = [shard.stat().st_mtime_ns for shard in shards]
    assert len(shards) == 6 and not (tmp_path / "again" / "dataset.json").exists()
    shards[0].unlink()  # as if it had been lost with its machine
    by_beam(photos, tmp_path / "again")
    assert [shard.stat().st_mtime_ns for shard in shards[1:]] == times[1:]
    for shard in shards:
        assert shard.read_bytes() == (beam / shard.name).read_bytes()
    by_beam(photos, tmp_path / "other", order_seed=1)
    ids = [Prepared(str(folder)).read("train").ids for folder in (beam, tmp_path / "other")]
    assert ids[0] != ids[1] and sorted(ids[0]) == sorted(ids[1]) != ids[0]


def broken(self, element):
    raise ValueError("of the test")


def test_a_worker_says_why_nothing_can_be_used_or_which_photo_is_not_to_be_skipped(photos, tmp_path, caplog):
    with pytest.raises(UserError, match=r"^(bad|gone)\.jpg.*is not a photo that can be used|bad_images"):
        by_beam(photos, tmp_path / "strict", bad_images="fail")
    (tmp_path / "list.csv").write_text("image,labels,split\na.jpg,cat,train\nb.jpg,cat,train\n")
    with pytest.raises(
        UserError, match=r"split 'train': none of its 2 photos can be used \(.*[ab]\.jpg: cannot be read"
    ):
        by_beam(tmp_path, tmp_path / "none")
    assert not (tmp_path / "none" / "dataset.json").exists()
    assert "Traceback" not in caplog.text


def test_rows_come_back_from_the_work_list_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    dense = rng.integers(-1, 2, (50, 4)).astype(np.int8)
    sparse = CompressedTargets.from_dense(np.where(rng.random((50, 300)) < 0.02, np.int8(1), np.int8(-1)))
    ids = [f"caf\udce9{n}" for n in range(50)]
    for name, targets in (("dense", dense), ("sparse", sparse)):
        rows = Examples(np.array(ids, object), targets, np.array([f"/p/{text}" for text in ids], object))
        assert write_blocks(str(tmp_path), name, shuffled_blocks(rows, 8, seed=3)) == 7
        blocks = [read_block(str(tmp_path), name, number) for number in range(7)]
        numbers = np.concatenate([block.numbers for block in blocks])
        assert sorted(numbers) == list(range(50)) and numbers.tolist() != list(range(50))
        for block in blocks:
            wanted = rows.take(block.numbers)
            assert block.examples.ids == wanted.ids
            assert block.examples.compressed_default == wanted.compressed_default
            np.testing.assert_array_equal(block.examples.targets, wanted.targets)
            assert [e.image_path for e in block.examples] == [e.image_path for e in wanted]


def test_pairs_of_labels_of_parts_add_up_to_the_table_of_all():
    targets = np.random.default_rng(1).integers(-1, 2, (60, 7)).astype(np.int8)
    present = (targets == 1).astype(int)
    expected = present.T @ present
    np.fill_diagonal(expected, 0)
    parts = [CompressedTargets.from_dense(part) for part in np.split(targets, [10, 10, 35])]
    np.testing.assert_array_equal(symmetric(sum_of_pairs(part.label_pairs() for part in parts), 7), expected)
    np.testing.assert_array_equal(symmetric(sum_of_pairs([]), 7), np.zeros((7, 7)))


def test_photos_that_look_alike_are_found_by_parts_of_their_hashes_each_pair_once():
    random = np.random.default_rng(0)
    values = random.integers(0, 1 << 62, 200).tolist()
    values += [value ^ sum(1 << int(bit) for bit in random.choice(64, n % 6, False)) for n, value in enumerate(values)]
    looks = [f"{value:016x}" for value in values]
    job = Job("", "", ["cat"], "train", 0, 0.4, PreparationPlan(1), {"train": 1, "val": 1})
    buckets = {}
    for n, look in enumerate(looks):  # every photo has bytes of its own
        for output in FindSame(job).process((b"", [(n % 2, n, b"%d.jpg" % n, b"%d" % n, look)])):
            buckets.setdefault(output.value[0], []).append(output.value[1])
    found = [item for bucket in buckets.items() for item in FindAlike().process(bucket)]
    pairs = sorted(tuple(sorted(int(photo["image"]) for photo in json.loads(text))) for _, text in found)
    assert pairs == [(one, other) for one, other, _ in alike_pairs(looks)] and len(pairs) >= 160
    for place, text in found:
        assert (place[0] == 0) == (len({tuple(photo["splits"]) for photo in json.loads(text)}) == 2)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("model") / "model.keras")
    save_model(small_model(32), path)
    return path


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Seven photos, one of them in a folder below, a text file called .jpg, and a table of all that names one more."""
    folder = tmp_path_factory.mktemp("album")
    (folder / "deep").mkdir()
    names = [f"{number}.jpg" for number in range(6)] + ["deep/6.jpg"]
    for number, name in enumerate(names):
        (folder / name).write_bytes(draw_example("test", number).image_bytes)
    (folder / "bad.jpg").write_text("no photo")
    (folder / "notes.txt").write_text("no photo by its name")
    (folder / "list.csv").write_text(
        "\n".join(["file_name,day", *(f"{name},1" for name in [*names, "bad.jpg", "gone.jpg"])])
    )
    return folder


def of_this_machine(album, path, capsys):
    """Rows that the command prints without Beam, by photo."""
    with pytest.raises(SystemExit) as ended:
        predict.main([str(album), f"{album}/bad.jpg"], PredictionConfig(model=path, json=True, top_k=3))
    assert ended.value.code == predict.UNREADABLE_STATUS
    return {row["photo"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}


def test_a_pipeline_predicts_the_rows_of_the_command(album, model_path, tmp_path, capsys):
    expected = of_this_machine(album, model_path, capsys)
    assert expected[f"{album}/bad.jpg"]["reason"].startswith("is not one of") and len(expected) == 8
    for name, read in (("rows", read_json_lines), ("rows.parquet", read_parquet)):
        config = PredictionConfig(
            model=model_path, input=str(album), output=str(tmp_path / name), top_k=3, batch_size=4
        )
        with pytest.raises(SystemExit) as ended:
            predict.main([], config, DIRECT)
        assert ended.value.code == predict.UNREADABLE_STATUS
        assert "7 photos, 1 more refused" in capsys.readouterr().err
        with pytest.raises(UserError, match=r"`output`=.*rows-.* is there from an earlier run"):
            predict.main([], config, DIRECT)
        rows = {row["photo"]: row for row in read(tmp_path / "rows")}
        assert rows.keys() == expected.keys()
        for photo, row in rows.items():
            for column in ("labels", "present", "reason"):
                assert (row.get(column) or None) == (expected[photo].get(column) or None)
            np.testing.assert_allclose(row["scores"], expected[photo]["scores"], atol=2e-6)


def test_photos_are_named_by_tables_of_the_same_columns(album, tmp_path, model_path, capsys):
    assert find_source(f"{album}/list.csv") == Source(tables=(f"{album}/list.csv",), column="file_name")
    config = PredictionConfig(model=model_path, input=f"{album}/list.csv", output=str(tmp_path / "rows"))
    with pytest.raises(SystemExit):
        predict.main([], config, DIRECT)
    rows = {row["photo"]: row for row in read_json_lines(tmp_path / "rows")}
    assert len(rows) == 9 and rows[f"{album}/gone.jpg"]["reason"] == "no such file"
    table = pyarrow.csv.read_csv(album / "list.csv")
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    pyarrow.parquet.write_table(table.rename_columns(["file_name", "night"]), tmp_path / "b.parquet")
    assert find_source(f"{tmp_path}/a.parquet").column == "file_name"
    with pytest.raises(
        UserError, match=r"a\.parquet has the columns file_name, day, and .*b\.parquet file_name, night"
    ):
        find_source(f"{tmp_path}/*.parquet")
    with pytest.raises(UserError, match="no column names photos in day"):
        (tmp_path / "c.csv").write_text("day,night\n1,2\n")
        find_source(f"{tmp_path}/c.csv")
    with pytest.raises(UserError, match=r"`image_column`=photo: .* has file_name, day"):
        find_source(f"{album}/list.csv", "photo")
    pyarrow.parquet.write_table(pyarrow.table({"image": [b"bytes"]}), tmp_path / "d.parquet")
    with pytest.raises(UserError, match=r"d\.parquet: column 'image' holds binary, not text; name another with"):
        list(sources._rows(f"{tmp_path}/d.parquet", "image"))


def test_what_cannot_be_read_or_run_is_one_sentence(album, model_path, tmp_path):
    for wrong in (f"{album}/*.png", f"{album}/none/", f"{tmp_path}/none.parquet"):
        with pytest.raises(UserError, match="no such file, and no file matches it"):
            find_source(wrong)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("")
    with pytest.raises(UserError, match="no photo found"):
        find_source(str(tmp_path / "empty"))
    for wrong in ("nosuch://bucket/*.jpg", "ram://bucket/*.jpg"):  # of TensorFlow alone: workers would not see it
        with pytest.raises(UserError, match=f"`input`={wrong[:5]}"):
            find_source(wrong)
    with pytest.raises(UserError, match="no option 'regionn'; did you mean region"):
        pipeline_options("DataflowRunner", ["regionn=europe-west4"])
    with pytest.raises(UserError, match=r"`runner_option`=num_workers=many: .*invalid int value"):
        pipeline_options("DataflowRunner", ["num_workers=many"])
    options = pipeline_options("DataflowRunner", ["use_public_ips=false", "experiments=a,b", "num_workers=3"])
    found = options.get_all_options()
    assert (found["use_public_ips"], found["experiments"], found["num_workers"]) == (False, ["a", "b"], 3)
    assert Output.of("gs://b/scores.parquet") == Output("gs://b/scores", ".parquet")
    assert Output.of("out/scores") == Output.of("out/scores.jsonl") == Output("out/scores", ".jsonl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["msrn_tf.prepare", "--dataset=demo", "--output=out", "--runner=NoRunner"], ["--runner"]),
        (["msrn_tf.prepare", "--dataset=demo", "--output=out", "--runner=DirectRunner", "--runner_option=x=1"],
         ["--runner_option=x=1", "no option 'x'"]),
        (["msrn_tf.predict", "--runner=DirectRunner", "--output=out"], ["--input", "missing"]),
        (["msrn_tf.predict", "--input=photos", "a.jpg"], ["--input", "--runner"]),
        (["msrn_tf.predict", "--runner=DirectRunner", "--input=none/*.jpg", "--output=out"], ["--input=none/*.jpg"]),
        (["msrn_tf.predict", "--runner=DirectRunner", "--input=none", "--output=out", "--csv"], ["--csv", "--runner"]),
    ],
)  # fmt: skip
def test_bad_flags_end_with_one_sentence_and_nothing_is_written(tmp_path, arguments, words):
    assert_refused(command(*arguments, cwd=tmp_path), *words)
    assert os.listdir(tmp_path) == []


def words_of_manifests():
    """(name of the pipeline, words of its command line) of each one in deploy/beam."""
    for document in yaml.safe_load_all((ROOT / "deploy" / "beam" / "flink-kubernetes.yaml").read_text()):
        if document["kind"] == "Job":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            yield container["command"][2], container["args"]
    script = (ROOT / "deploy" / "beam" / "dataflow.sh").read_text().replace("\\\n", " ")
    lines = [line for line in script.splitlines() if not line.startswith("#")]
    common = shlex.split(script.partition("dataflow=(")[2].partition("\n)")[0], comments=True)
    for line in lines:
        if line.startswith("python -m "):
            _, _, name, *words = shlex.split(line)
            yield name, [*common, *(word for word in words if word != "${dataflow[@]}")]


def test_manifests_give_options_that_beam_knows_and_flags_that_the_commands_have():
    found = list(words_of_manifests())
    assert [name for name, _ in found] == ["msrn_tf.prepare", "msrn_tf.predict"] * 2
    configs = {"msrn_tf.prepare": (DataConfig, PreparationConfig), "msrn_tf.predict": (PredictionConfig,)}
    for name, words in found:
        given = [word.removeprefix("--").partition("=") for word in words]
        known = {field.name for config in (RunnerConfig, *configs[name]) for field in dataclasses.fields(config)}
        assert {flag for flag, _, _ in given} <= known
        options = pipeline_options(
            dict((f, v) for f, _, v in given)["runner"], [v for f, _, v in given if f == "runner_option"]
        )
        assert options.get_all_options()["runner"] in ("PortableRunner", "DataflowRunner")


@pytest.mark.slow
def test_two_workers_write_what_the_command_without_a_pipeline_writes_though_one_of_them_is_killed(shared, tmp_path):
    """On 5,008 real photos. The direct runner has no worker in a lost one's place: the same command goes on."""
    here, beam = tmp_path / "here", tmp_path / "beam"
    flags = ["--dataset=voc2007", f"--data_dir={shared / 'voc2007' / 'VOCdevkit'}", "--shard_megabytes=4"]
    flags += ["--splits=train,val"]
    workers = ["direct_num_workers=2", "direct_running_mode=multi_processing"]
    of_beam = [*flags, "--runner=DirectRunner", *(f"--runner_option={option}" for option in workers)]
    run = command("msrn_tf.prepare", *flags, f"--output={here}")
    assert run.returncode == 0, run.stderr
    process = prepare_process(*of_beam, f"--output={beam}")
    while process.poll() is None and len(list(beam.glob("*.tfrecord.json"))) < 6:
        time.sleep(0.05)
    lost = workers_of(process)
    os.kill(lost[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert len(lost) == 2 and process.returncode == 2 and "the same command goes on" in errors
    assert not (beam / "dataset.json").exists()
    kept = {note.name.removesuffix(".json") for note in beam.glob("*.tfrecord.json")}
    times = {name: (beam / name).stat().st_mtime_ns for name in kept}
    assert len(kept) >= 6
    again = prepare_process(*of_beam, f"--output={beam}")
    said, errors = again.communicate(timeout=600)
    assert again.returncode == 0, errors
    assert f"shards kept {len(kept)}" in said
    assert {name: (beam / name).stat().st_mtime_ns for name in kept} == times
    assert_same_data(here, beam)
    assert not list(beam.glob("*.tmp"))


def prepare_process(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "msrn_tf.prepare", *arguments],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def workers_of(process):
    """The processes that work for the direct runner of a process."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"apache_beam.runners.worker.sdk_worker_main" in words and parent in (
            process.pid,
            *children_of(process.pid),
        ):
            found.append(int(folder.name))
    return sorted(found)


def children_of(number):
    tasks = pathlib.Path(f"/proc/{number}/task").glob("*/children")
    return [int(child) for path in tasks for child in path.read_text().split()]


@pytest.mark.slow
def test_a_job_service_runs_what_a_pipeline_is_sent_as_to_flink_and_spark(photos, both, tmp_path, monkeypatch):
    """Beam's own, in Python: the pipeline goes to another process in the form in which it goes to any runner."""
    monkeypatch.setattr("msrn_tf.beam.preparation.MOST_SHARDS", 4)
    monkeypatch.setattr("msrn_tf.beam.preparation.SAMPLE", 0)
    monkeypatch.setattr("msrn_tf.beam.preparation.USUAL_BYTES", 1 << 40)
    words = ["-p", "0", "--port_file", str(tmp_path / "port"), "--staging_dir", str(tmp_path / "staging")]
    service = subprocess.Popen([sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", *words])
    try:
        while not (tmp_path / "port").exists() or not (tmp_path / "port").read_text():
            assert service.poll() is None
            time.sleep(0.1)
        port = (tmp_path / "port").read_text().strip()
        runner = RunnerConfig("PortableRunner", (f"job_endpoint=localhost:{port}", "environment_type=LOOPBACK"))
        by_beam(photos, tmp_path / "records", runner)
    finally:
        service.kill()
        service.wait()
    assert_same_data(both[0], tmp_path / "records")
    for name in ("train-00000.tfrecord", "val-00001.tfrecord"):
        assert (tmp_path / "records" / name).read_bytes() == (both[1] / name).read_bytes()
