#!/usr/bin/env bash
# Builds the documentation into site/, and stops at a broken link or a page that no menu names. Arguments go to
# `mkdocs build`. The pages need no network; `python -m http.server --directory site` shows them.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
prepare_environment requirements-docs.txt
export NO_MKDOCS_2_WARNING=1 # that the next version will be another program: the requirements name this one
exec .venv/bin/python -m mkdocs build --strict --clean "$@"
