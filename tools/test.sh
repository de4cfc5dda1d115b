#!/usr/bin/env bash
# The whole test suite, in an environment it makes itself. Arguments go to pytest: `tools/test.sh -m slow`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
prepare_environment requirements-dev.txt
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec .venv/bin/python -m pytest --durations=10 "$@"
