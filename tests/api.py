"""Schemathesis against the API of a real host's page: each operation of `openapi.json`, with values of its description
and others. A server's error, an answer that is not described and a missing sign-in fail it.

    tests/api.sh        (it is run there by uv, with a version of its own)
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))

from serving_web import OPERATE, serving

from aws import Aws
from fleet import Fleet
from standin import FastStandIn
from waiting import wait_for

# `positive_data_acceptance` would have every made-up run id be one that exists.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"


def main() -> int:
    directory = Path(tempfile.mkdtemp(prefix="crt-"))
    directory.chmod(0o755)
    with FastStandIn() as stand_in:
        aws = Aws(stand_in.endpoint)
        fleet = Fleet(aws, directory, group="test")
        try:
            host = fleet.host(more='\n[jobs.backup]\ncommand = ["echo"]\n')
            host.start()
            for n in range(5):
                fleet.send({"job": "backup", "run_id": f"r{n}"})
            wait_for(lambda: host.command("show", "r4").returncode == 0, "the runs are there", detail=host.log)
            with serving(host, directory) as page:
                return subprocess.run(
                    [
                        *sys.argv[1:],
                        *("run", f"http://127.0.0.1:{page.port}/api/v1/openapi.json", "--checks", CHECKS),
                        *("-H", f"Authorization: Bearer {OPERATE}", "--max-examples", "20", "--seed", "1"),
                        *("--exclude-operation-id", "stream", "--request-timeout", "20", "--no-color"),
                    ],
                    check=False,
                    cwd=directory,
                ).returncode
        finally:
            fleet.remove()
            aws.close()


if __name__ == "__main__":
    sys.exit(main())
