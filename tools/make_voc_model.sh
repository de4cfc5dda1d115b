#!/usr/bin/env bash
# Makes what lies in models/ anew: trains on VOC 2007's train split, calibrates on val, measures on test, and exports for a
# phone: `bash tools/make_voc_model.sh VOCdevkit`. The run stays in runs/voc2007_lite.
set -euo pipefail
data=$(realpath "$1")
source "$(dirname "$0")/environment.sh"
prepare_environment requirements.txt
export PYTHONPATH=.
python=.venv/bin/python run=runs/voc2007_lite
voc=(--dataset=voc2007 "--data_dir=$data")

$python -m msrn_tf.train --flagfile=configs/voc2007_lite.cfg --data_dir="$data" --workdir="$run"
$python -m msrn_tf.calibrate --model="$run/model.keras" "${voc[@]}" --split=val
$python -m msrn_tf.evaluate --model="$run/model.keras" "${voc[@]}" --split=test --output="$run/metrics.json"
$python -m export.tflite --model="$run/model.keras" --quantize=int8 "${voc[@]}" --output="$run/model.tflite"
$python -m export.compare --model="$run/model.keras" --tflite="$run/model.tflite" "${voc[@]}" --split=test
cp "$run/model.keras" models/voc2007.keras
cp "$run/model.tflite" models/voc2007.tflite
