#!/bin/bash
# Prepares a data set and predicts photos on Google Cloud Dataflow; docs/beam.md says what each does.
#   PROJECT=my-project REGION=europe-west4 BUCKET=my-bucket IMAGE=REGISTRY/msrn-beam bash deploy/beam/dataflow.sh
# Not run by this project's tests. Needs pip install ".[data,beam]" "apache-beam[gcp]~=2.77" and credentials of gcloud.
set -euo pipefail
: "${PROJECT:?}" "${REGION:?}" "${BUCKET:?}" "${IMAGE:?}"

dataflow=(
  --runner=DataflowRunner
  "--runner_option=project=$PROJECT"
  "--runner_option=region=$REGION"
  "--runner_option=temp_location=gs://$BUCKET/temp"
  "--runner_option=sdk_container_image=$IMAGE"
  --runner_option=sdk_location=container # the package is in the image; nothing is staged
  --runner_option=max_num_workers=100
)

# Photos are read and decoded: small machines, as many threads as cores in each.
python -m msrn_tf.prepare --dataset=table --data_dir="gs://$BUCKET/photos" --output="gs://$BUCKET/records" \
  --max_side=640 "${dataflow[@]}" --runner_option=job_name=msrn-prepare --runner_option=machine_type=n2-standard-4

# One process a machine, whose TensorFlow uses all cores: each process has a model of its own.
python -m msrn_tf.predict --model="gs://$BUCKET/runs/voc/model.keras" --input="gs://$BUCKET/photos/**.jpg" \
  --output="gs://$BUCKET/scores/scores.parquet" --batch_size=32 "${dataflow[@]}" \
  --runner_option=job_name=msrn-predict --runner_option=machine_type=n2-standard-8 \
  --runner_option=experiments=no_use_multiple_sdk_containers
