#!/usr/bin/env bash
# What needs no test to run: style, types, spelling, and the forms of files that other programs read.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
prepare_environment requirements-dev.txt
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/codespell
.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
.venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
.venv/bin/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
