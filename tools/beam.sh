#!/usr/bin/env bash
# The tests of pipelines, in `.venv-beam`: what is in `.venv`, with apache-beam and the older packages that it needs before
# it. Arguments go to pytest: `tools/beam.sh -m slow`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
prepare_environment requirements-dev.txt
if [ ! -e .venv-beam/.installed ]; then
  .venv/bin/python -m venv --without-pip .venv-beam
  site=$(.venv-beam/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
  .venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > "$site/others.pth"
  # Later ones of the last two need protobuf 7.
  .venv/bin/python -m pip --python .venv-beam/bin/python install --quiet --disable-pip-version-check \
    "apache-beam~=2.77" "grpcio-health-checking<1.80" "grpcio-reflection<1.80"
  touch .venv-beam/.installed
fi
exec .venv-beam/bin/python -m pytest -n 0 tests/test_beam.py "$@"
