#!/bin/sh
# The part in C that starts jobs, at length: compiled with every warning an error; each kind of start and 2,000 hostile
# ones under AddressSanitizer and UBSan; then 10,000 starts under hostile siblings of five kinds, and 20,000 starts each
# as the same and as another user that leave nothing. As root, with gcc and Python's headers.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-$PWD/.venv/bin/python}
source=runner/supervisor/_spawn.c
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/tests/support" "$scratch/runner" "$scratch/seen"
cp runner/__init__.py "$scratch/runner/" && cp -r runner/supervisor "$scratch/runner/"
cp tests/support/starts.py tests/support/hostile_starts.py "$scratch/tests/support/"
rm -f "$scratch"/runner/supervisor/*.so && chmod -R a+rX "$scratch"
gcc -std=c11 -O1 -g -Wall -Wextra -Wpedantic -Wshadow -Werror -fPIC -shared \
    -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -isystem "$headers" \
    -o "$scratch/runner/supervisor/_spawn.abi3.so" "$source"
sanitized() {
    # The interpreter itself is not free of leaks at its end.
    LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 "$python" -IS "$@"
}
sanitized "$scratch/tests/support/starts.py" "$scratch/seen" >"$scratch/found"
"$python" -c '
import json, sys
found = json.load(open(sys.argv[1]))
for name, ways in found.items():
    assert ways["direct"] == ways["forked"], (name, ways)
print(len(found), "kinds of start are the same under the sanitizers")' "$scratch/found"
sanitized "$scratch/tests/support/hostile_starts.py" "${SANITIZED_STARTS:-400}" && echo
STARTS=${STARTS:-20000} HOSTILE_STARTS=${HOSTILE_STARTS:-2000} \
    exec "$python" -m pytest -q -n0 -s --timeout 3000 tests/integration/test_supervisor_starts.py "$@"
