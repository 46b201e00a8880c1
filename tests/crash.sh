#!/bin/sh
# The full crash test: 200 jobs, the agent killed at 50 random instants, with and without faults of AWS; and outages
# of a minute of every kind. Takes about twenty minutes. CRASH_SEED=n repeats a certain history.
set -eu
cd "$(dirname "$0")/.."
CRASH_JOBS=${CRASH_JOBS:-200} CRASH_KILLS=${CRASH_KILLS:-50} CRASH_SEED=${CRASH_SEED:-7} \
    OUTAGE_S=${OUTAGE_S:-60} \
    exec "${PYTHON:-.venv/bin/python}" -m pytest -q tests/acceptance/test_crash.py tests/acceptance/test_outages.py "$@"
