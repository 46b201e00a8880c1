#!/bin/sh
# A dozen agents for ten minutes at a steady load, with agents and supervisors killed, AWS away, answers lost and late:
# nothing lost, nothing twice, and memory, descriptors, threads and files that do not grow. SOAK_SEED=n is another history.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-.venv/bin/python}" tests/support/soak.py --minutes "${SOAK_MINUTES:-10}" --agents "${SOAK_AGENTS:-12}" \
    --rate "${SOAK_RATE:-4}" --seed "${SOAK_SEED:-7}" "$@"
