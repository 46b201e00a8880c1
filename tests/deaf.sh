#!/bin/sh
# Deaf, stuck, idle, full and paused agents with the product's own limits: red within 90 seconds, restarted after two
# minutes, or neither. All side by side, since they only wait: about five minutes.
set -eu
cd "$(dirname "$0")/.."
DEAF_REAL=1 exec "${PYTHON:-.venv/bin/python}" -m pytest -q -n10 tests/acceptance/test_deaf.py "$@"
