#!/bin/sh
# Schemathesis against the API of a real host's page: some 2,000 requests of its description and others, none of which may
# end in a server's error or in an answer that is not described. One to three minutes; uv fetches Schemathesis.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-.venv/bin/python}" tests/api.py uvx --from "schemathesis>=4.3,<5" st
