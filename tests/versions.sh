#!/bin/bash
# The tests that need nothing but Python, under other Pythons and with other libraries than a developer has: the unit and
# contract tests of what is committed, with the newest libraries under each version named, and under 3.11 with the
# lowest that pyproject.toml allows.
#
#     tests/versions.sh                      # 3.12.1, 3.12, 3.13, lowest; needs uv, which fetches what is not there
#     tests/versions.sh 3.13 lowest
#
# Each is told as it ends; ends with 1 where one failed.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
[ $# -gt 0 ] || set -- 3.12.1 3.12 3.13 lowest
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
failed=0
for version; do
  python=$version resolution=highest
  [ "$version" != lowest ] || { python=3.11 resolution=lowest-direct; }
  rm -rf "$here/source" "$here/venv"
  mkdir "$here/source"
  git archive HEAD | tar -x -C "$here/source"
  uv venv -q --python "$python" "$here/venv"
  uv pip install -q --python "$here/venv/bin/python" --resolution "$resolution" -e "$here/source[test]"
  echo "== $version: $("$here/venv/bin/python" --version)"
  (cd "$here/source" && "$here/venv/bin/pytest" -q tests/unit tests/contract) || failed=1
done
exit $failed
