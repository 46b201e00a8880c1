#!/bin/bash
# Second opinions: what other people's programs say of what we send, write and ask for. Each makes a venv of its own in a
# temporary folder; one that cannot be had is named and skipped. Ends with 1 where one disagrees.
#
#     tests/opinions.sh                        # all; needs uv and PyPI, and npm for fauxqs
#     tests/opinions.sh cloudevents ministack
#
# cloudevents   the SDK of version 1 and that of version 2 read the contract's events
# parliament    finds nothing in the IAM policies that `check --iam-policy` prints
# checkov       finds nothing in the CloudFormation templates but what is meant, below
# ministack     another stand-in for AWS: queues, logs and table, the main path of the installed agent on it
# fauxqs        another SQS: the calls of runner/aws/sqs.py on it
#
# In the ordinary tests are cfn-lint, rsyslog, syslog-ng and promtool, in tests/packaging/run lintian: where they are there.
set -uo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
[ $# -gt 0 ] || set -- cloudevents parliament checkov ministack fauxqs
ours=${PYTHON:-$PWD/.venv/bin/python}
here=$(mktemp -d)
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$here"' EXIT
failed=0

# venv NAME REQUIREMENT…: its folder; 1 where it cannot be had.
venv() {
  local name=$1
  shift
  uv venv -q --python 3.11 "$here/$name" && uv pip install -q --python "$here/$name/bin/python" "$@" && return
  echo "== $name: skipped, cannot be installed"
  return 1
}

say() { # NAME COMMAND…
  local name=$1
  shift
  if "$@"; then echo "== $name: agrees"; else
    echo "== $name: disagrees"
    failed=1
  fi
}

# Waits for a server, then runs tests against it.
answers() { for _ in $(seq 100); do curl -s -o /dev/null -m 1 "$1" && return; sleep 0.2; done; return 1; }

cloudevents() {
  local version
  for version in 'cloudevents>=1.11,<2' 'cloudevents>=2,<3'; do
    venv "cloudevents${version//[^0-9]/}" "$version" || continue
    say "$version" "$here/cloudevents${version//[^0-9]/}/bin/python" tests/opinions/read_events.py tests/contract/events
  done
}

parliament() {
  # It imports pkg_resources, which later setuptools have no more.
  venv parliament 'parliament>=1.6' 'setuptools<81' || return 0
  local policy
  for policy in tests/contract/policies/*.json; do
    say "parliament, ${policy##*/}" quiet "$here/parliament/bin/python" -W ignore "$here/parliament/bin/parliament" <"$policy"
  done
}

quiet() { # Agrees by printing nothing.
  local said
  said=$("$@" 2>&1)
  [ -z "$said" ] || echo "$said"
  [ -z "$said" ]
}

checkov() {
  venv checkov 'checkov>=3.2' || return 0
  local meant=(
    CKV_AWS_119 CKV_AWS_158 CKV_AWS_173 CKV_AWS_27 # AWS's own keys encrypt; a key of one's own costs, and is added by who needs it
    CKV_AWS_117                                    # a function that calls AWS alone needs no VPC, and no NAT
    CKV_AWS_115                                    # one a minute; the recorder's number is the event source's
    CKV_AWS_116                                    # the next minute catches up; the results queue has dead letters of its own
  )
  local IFS=,
  say checkov "$here/checkov/bin/checkov" -d packaging/cloudformation --framework cloudformation --quiet --compact \
    --skip-download --skip-check "${meant[*]}"
}

ministack() {
  venv ministack 'ministack>=1.5' || return 0
  GATEWAY_PORT=4577 "$here/ministack/bin/ministack" >"$here/ministack.log" 2>&1 &
  server=$!
  answers http://127.0.0.1:4577/_ministack/health || { echo "== ministack: skipped, it does not start"; return 0; }
  say ministack env CRON_RUNNER_TEST_AWS=http://127.0.0.1:4577 \
    "$ours" -m pytest -q -n0 --no-header tests/acceptance/test_main_path.py tests/integration/test_table.py
  kill "$server"
  server=""
}

fauxqs() {
  command -v npm >/dev/null || { echo "== fauxqs: skipped, there is no npm"; return 0; }
  npm install --silent --prefix "$here/fauxqs" fauxqs >/dev/null 2>&1 || { echo "== fauxqs: skipped, cannot be installed"; return 0; }
  FAUXQS_PORT=4578 FAUXQS_LOGGER=false node "$here/fauxqs/node_modules/.bin/fauxqs" >"$here/fauxqs.log" 2>&1 &
  server=$!
  answers http://127.0.0.1:4578/health || { echo "== fauxqs: skipped, it does not start"; return 0; }
  say fauxqs "$ours" tests/opinions/ask_queue.py http://127.0.0.1:4578
  kill "$server"
  server=""
}

for one; do "$one"; done
exit $failed
