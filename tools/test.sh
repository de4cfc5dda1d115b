#!/usr/bin/env bash
# The whole test suite, in an environment it makes itself. Arguments go to pytest: `tools/test.sh -m slow`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
prepare_environment requirements-dev.txt
# Optional: with PyTorch the tests of .pth files run too. Only a build for CPUs, where pip finds one: others take gigabytes.
.venv/bin/python -c "import torch" 2> /dev/null ||
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0+cpu" 2> /dev/null ||
  echo "no CPU build of PyTorch to be had: tests of .pth files are skipped"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Groups and their order are tests/conftest.py's.
exec .venv/bin/python -m pytest -n 2 --dist=loadgroup --no-loadscope-reorder --durations=10 "$@"
