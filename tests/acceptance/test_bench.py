"""The bench itself, at tiny sizes: that it measures, not what."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench" / "bench.py"


def test_the_bench_measures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--only", "output", "--json", str(figures)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| jobs/s | " in done.stdout
    found = json.loads(figures.read_text())
    ours = found["side_by_side"]["cron-runner"]
    assert ours["jobs_per_s"] > 0
    assert ours["cpu_s_per_1000"] > 0
    assert ours["idle_pss_mb"] > 10
    assert ours["requests_per_1000"] >= 250  # ten to a call is the most that SQS takes
    output = found["cron-runner"]["lines of output"]
    assert output["lines_lost"] == 0
    assert output["cpu_us_per_line"] > 0
