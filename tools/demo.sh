#!/usr/bin/env bash
# First the trained model of models/ on real photographs; then the main job on the built-in demo set: train, calibrate,
# evaluate with a report, predict with heat-maps, export for a phone. Results lie in runs/demo.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
prepare_environment requirements.txt
export PYTHONPATH=.
python=.venv/bin/python run=runs/demo

rm -rf "$run"
mkdir -p "$run/real"
echo "== real photographs (tools/photos/README.md has their sources and licences), by the model in models/"
$python -m msrn_tf.predict --heatmaps="$run/real/heatmaps" --sheet="$run/real/sheet.jpg" tools/photos
echo "== MSRN from scratch, on drawn landscapes"
$python -m msrn_tf.train --flagfile=configs/demo.cfg --workdir="$run"
echo "== baseline: global maximum pooling on the same backbone"
$python -m msrn_tf.train --flagfile=configs/demo.cfg --model=gmp --workdir="$run/gmp"
echo "== calibration on the validation split"
$python -m msrn_tf.calibrate --model="$run/model.keras" --dataset=demo --split=val
echo "== evaluation on the test split, against the baseline"
$python -m msrn_tf.evaluate --model="$run/gmp/model.keras" --dataset=demo --split=test --output="$run/gmp/metrics.json" > /dev/null
$python -m msrn_tf.evaluate --model="$run/model.keras" --baseline="$run/gmp/model.keras" --dataset=demo --split=test \
  --output="$run/metrics.json" --report="$run/report.html"
echo "== prediction"
$python tools/write_demo_photos.py "$run/photos" 8
$python -m msrn_tf.predict --model="$run/model.keras" --heatmaps="$run/heatmaps" "$run/photos"
echo "== on the device"
$python -m export.tflite --model="$run/model.keras" --quantize=int8 --dataset=demo --output="$run/model.tflite"
$python -m export.ondevice --model="$run/model.tflite" "$run/photos"
if command -v npm > /dev/null; then # which brings the page's LiteRT.js
  echo "== in the browser"
  $python -m export.tflite --model="$run/model.keras" --quantize=int8 --with_attention --dataset=demo --output="$run/web.tflite"
  $python -m export.web --tflite="$run/web.tflite" --title="What does the demo model see?" --output="$run/page"
fi
$python tools/demo_summary.py "$run"
