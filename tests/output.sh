#!/bin/sh
# The full output test: ten jobs print 100,000 lines each while Logs is away for a minute, throttles, and the agent is
# killed three times; then the hostile outputs. Takes about five minutes. OUTPUT_SEED=n repeats a certain history.
set -eu
cd "$(dirname "$0")/.."
OUTPUT_LINES=${OUTPUT_LINES:-100000} OUTPUT_AWAY_S=${OUTPUT_AWAY_S:-60} OUTPUT_SEED=${OUTPUT_SEED:-7} \
    exec "${PYTHON:-.venv/bin/python}" -m pytest -q tests/acceptance/test_output.py "$@"
