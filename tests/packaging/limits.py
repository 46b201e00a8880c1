"""A host with all of cgroup v2's controllers, in user-mode Linux: limits, and restarts with jobs that live in them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cloud import Cloud
from guest import UserMode
from steps import AGENT, SUPERVISOR, configure, endless, install, last_stop, log, pid, unbroken

if TYPE_CHECKING:
    from guest import Guest
    from report import Report

SUPPORT = Path(__file__).resolve().parents[1] / "support"
UNIT = f"/sys/fs/cgroup/system.slice/{SUPERVISOR}"
HUNGRY = [
    "python3",
    "-c",
    "import time; print('hungry', flush=True); held = b'x' * {bytes}; time.sleep({after}); print('fed')",
]


def hungry(megabytes: int, after: float = 0) -> list[str]:
    """A job that takes so much memory and holds it for a while."""
    return [*HUNGRY[:2], HUNGRY[2].format(bytes=megabytes << 20, after=after)]


def run(report: Report, deb: Path) -> None:
    """All of it on one boot."""
    report.part("a host with controllers, in user-mode Linux: limits, restarts with survivors")
    with UserMode() as guest:
        with report.check("the host has the memory, cpu and pids controllers"):
            found = guest.run("cat /sys/fs/cgroup/cgroup.controllers").split()
            assert {"memory", "cpu", "pids"} <= set(found), found
        cloud = _cloud(guest)
        with report.check("installed, enabled and started; the supervisor has the controllers"):
            install(guest, deb)
            configure(guest, cloud)
            guest.run(f"systemctl enable --now {AGENT}", timeout=120)
            state = guest.property(SUPERVISOR, "StatusText")
            assert "limits of memory, cpu, pids" in state, state
            assert guest.run(f"cat {UNIT}/cgroup.procs") == "", "the unit's own cgroup has processes"
        _limits(report, guest, cloud)
        _survivors(report, guest, cloud)
        _ends(report, guest, cloud)


def _cloud(guest: Guest) -> Cloud:
    """The stand-in inside of the host, on its own loopback."""
    for path in SUPPORT.glob("standin*.py"):
        guest.put(path)
    program = guest.put(Path(__file__).with_name("cloud.py"))
    guest.run(
        "mkdir -p /opt/aws && cp /mailbox/*.py /opt/aws; systemd-run -q --unit=stand-in "
        "sh -c 'sleep infinity | python3 /opt/aws/standin.py > /run/stand-in.port'"
    )
    port = guest.until("grep . /run/stand-in.port", "the stand-in's port").strip()
    return Cloud.inside(guest, f"http://127.0.0.1:{port}", program)


def _limits(report: Report, guest: Guest, cloud: Cloud) -> None:
    with report.check("memory: over its limit a job ends as oom_killed, and says which limit"):
        cloud.send("greedy", hungry(300), limits={"memory": "64M"})
        ended = cloud.wait("greedy", "finished")
        report.note(f"{ended['outcome']}, {ended['reason']}, peak {ended['usage']['max_rss_bytes'] >> 20} MiB")
        assert (ended["outcome"], ended["reason"], ended["signal"]) == ("oom_killed", "memory limit 64M", "SIGKILL"), (
            ended
        )
        assert 48 << 20 <= ended["usage"]["max_rss_bytes"] <= 64 << 20, ended["usage"]
        assert cloud.output(ended) == "hungry"
    with report.check("memory: a child over the limit takes the whole run along, and the shell does not hide it"):
        inner = hungry(300)[2]
        cloud.send("parent", f'python3 -c "{inner}" & sleep 300; echo still here', limits={"memory": "64M"})
        ended = cloud.wait("parent", "finished")
        assert ended["outcome"] == "oom_killed", ended
    with report.check("memory: as another user, and below the limit, a job succeeds and its peak is told"):
        cloud.send("modest", hungry(40), limits={"memory": "128M"}, user="app")
        ended = cloud.wait("modest", "finished")
        assert ended["outcome"] == "succeeded", ended
        assert 40 << 20 <= ended["usage"]["max_rss_bytes"] <= 128 << 20, ended["usage"]
    with report.check("supervisor and agent are unharmed: same processes, no unit failed by somebody's memory"):
        assert guest.property(SUPERVISOR, "NRestarts") == guest.property(AGENT, "NRestarts") == "0"
        assert guest.property(SUPERVISOR, "Result") == "success"
    with report.check("pids: a job cannot have more processes than its limit"):
        script = "n=0; while [ $n -lt 40 ]; do sleep 2 & n=$((n+1)); done; echo all; wait"
        cloud.send("many", script, limits={"pids": 10}, user="app")
        ended = cloud.wait("many", "finished")
        text = cloud.output(ended)
        assert "all" not in text.splitlines(), text
        assert ended["outcome"] == "failed", ended
        cloud.send("few", "sleep 0.1 & sleep 0.1 & wait; echo all", limits={"pids": 10}, user="app")
        assert cloud.output(cloud.wait("few", "finished")) == "all"
    with report.check("cpu: a job gets its share and no more"):
        spin = "import time; end = time.monotonic() + 4\nwhile time.monotonic() < end: pass"
        cloud.send("busy", ["python3", "-c", spin], limits={"cpu": 0.25})
        ended = cloud.wait("busy", "finished")
        used = ended["usage"]["cpu_user_s"] + ended["usage"]["cpu_system_s"]
        report.note(f"{used:.2f} s of cpu in {ended['duration_s']:.1f} s with 0.25 cores allowed")
        assert ended["outcome"] == "succeeded"
        assert used <= ended["duration_s"] * 0.35, ended
    with report.check("a run leaves no cgroup behind"):
        guest.until(
            f'test -z "$(find {UNIT} -mindepth 1 -maxdepth 1 -type d ! -name supervisor)"', "no run's cgroup is left"
        )


def _survivors(report: Report, guest: Guest, cloud: Cloud) -> None:
    """Jobs with limits, in cgroups with controllers, through everything that happens to the units."""
    acts = {
        "the agent is restarted": f"systemctl restart {AGENT}",
        "the agent is killed": f"systemctl kill -s KILL --kill-whom=main {AGENT}",
        "systemd reads its units anew": "systemctl daemon-reload",
        "systemd is replaced": "systemctl daemon-reexec",
        "the supervisor is replaced": f"systemctl reload {SUPERVISOR}",
        "a property of the supervisor's unit is set": f"systemctl set-property --runtime {SUPERVISOR} CPUWeight=90",
    }
    run_id = cloud.send(
        "survivor", endless("/run/survivor-ends"), limits={"memory": "64M", "pids": 20, "cpu": 0.9}, user="app"
    )
    job = cloud.wait(run_id, "started")["pid"]
    cloud.send("later", hungry(300), limits={"memory": "64M"}, labels={"warm": "up"})
    cloud.wait("later", "finished")
    where = guest.run(f"grep ^0:: /proc/{job}/cgroup").strip().removeprefix("0::")
    for what, act in acts.items():
        with report.check(f"a job with limits goes on when {what}"):
            agent, supervisor = pid(guest, AGENT), pid(guest, SUPERVISOR)
            guest.run(act, timeout=90)
            guest.until(f"systemctl is-active {AGENT} {SUPERVISOR}", "both units are active", within=90)
            guest.until(f"test $(systemctl show -P MainPID {AGENT}) -gt 0", "the agent is back")
            assert pid(guest, SUPERVISOR) == supervisor, log(guest, SUPERVISOR)
            if AGENT in act:
                assert pid(guest, AGENT) != agent
            held = guest.run(
                f"kill -0 {job}; cd /sys/fs/cgroup{where}; cat cgroup.procs memory.max pids.max cpu.max"
            ).split()
            assert str(job) in held, held
            assert held[-4:] == [str(64 << 20), "20", "90000", "100000"], held
            assert str(supervisor) in guest.run(f"cat {UNIT}/supervisor/cgroup.procs").split()
            number = str(len(cloud.events))
            cloud.send(f"fed-{number}", hungry(300), limits={"memory": "64M"})
            assert cloud.wait(f"fed-{number}", "finished")["outcome"] == "oom_killed"
    with report.check("a restart was told from a stop, by the bus, in the sandbox"):
        assert json.loads(last_stop(guest))["manner"] == "leave", last_stop(guest)
    with report.check("and ends with its exit code, its whole output and one finished event"):
        guest.run("touch /run/survivor-ends")
        ended = cloud.wait(run_id, "finished")
        assert (ended["outcome"], ended["exit_code"]) == ("failed", 7), ended
        assert unbroken(cloud.output(ended)), cloud.output(ended)[-300:]
        assert len(cloud.told(run_id, "finished")) == 1


def _ends(report: Report, guest: Guest, cloud: Cloud) -> None:
    stubborn = "trap 'echo told to stop; sleep 1; echo ready; exit 5' TERM; echo up; while :; do sleep 0.1; done"
    with report.check("the supervisor is killed: its jobs end with it, are told as lost, and run again"):
        run_id = cloud.send("orphan", "echo up; sleep 20; exit 4", limits={"memory": "64M"})
        job = cloud.wait(run_id, "started")["pid"]
        guest.run(f"systemctl kill -s KILL --kill-whom=main {SUPERVISOR}")
        guest.until(f"! kill -0 {job}", "the job is gone")
        guest.until(f"systemctl is-active {SUPERVISOR}", "the supervisor is back")
        assert cloud.wait(run_id, "finished")["outcome"] == "lost"
        again = cloud.wait(run_id, "finished", 2, within=120)
        assert (again["outcome"], again["exit_code"]) == ("failed", 4)
    with report.check("a stop of the supervisor: TERM, the job's grace, and the units start again"):
        run_id = cloud.send("asked", stubborn, limits={"memory": "64M", "pids": 20})
        cloud.wait(run_id, "started")
        time.sleep(1)
        guest.run(f"systemctl stop {SUPERVISOR}", timeout=120)
        assert guest.property(SUPERVISOR, "Result") == "success"
        guest.run(f"systemctl start {SUPERVISOR}")
        ended = cloud.wait(run_id, "finished")
        lines = [line for line in cloud.output(ended).splitlines() if "Terminated" not in line]
        assert lines[:3] == ["up", "told to stop", "ready"], lines  # its message came back, and it may run again
        cloud.sqs("PurgeQueue", QueueUrl=cloud.jobs)
        cloud.send("after", hungry(300), limits={"memory": "64M"})
        assert cloud.wait("after", "finished")["outcome"] == "oom_killed"
    with report.check(
        "a job that ignores its stop signal is killed at the end of its grace, and all that it has forked"
    ):
        run_id = cloud.send("deaf", "trap '' TERM; setsid sleep 300 & echo up; sleep 300", grace="2s", timeout="4s")
        cloud.wait(run_id, "started")
        ended = cloud.wait(run_id, "finished")
        assert ended["outcome"] == "timed_out", ended
        assert guest.run("pgrep -fx 'sleep 300' || true") == ""
