"""The example file, made from the table of keys so that it cannot drift from it.

``python -m runner.config.example > config.example.toml`` after a change of keys, defaults or help.
"""

from __future__ import annotations

import json
import sys
import textwrap
from inspect import getdoc
from typing import TYPE_CHECKING

from runner.config.keys import KEYS, SECTIONS
from runner.config.model import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

# What has no default must have some value for the example to load as it is.
EXAMPLE_VALUES = {
    "group": "web",
    "queue.url": "https://sqs.eu-west-1.amazonaws.com/123456789012/cron-web",
}

NOTES = """\
Only group and the job queue must be set; everything else stands here with its default.

An environment variable overrides its key: CRON_RUNNER_QUEUE__URL, CRON_RUNNER_OUTPUT__CLOUDWATCH__FLUSH,
CRON_RUNNER__GROUP. Lists are given as JSON or with commas between, tables as JSON.

Durations: a number of seconds, or "90s", "15m", "1h30m", "2d". Sizes: bytes, or "512M", "1G", "1.5GiB".

AWS region, credentials and endpoint come from the ordinary AWS settings (AWS_REGION, profiles, the
instance's role).

"systemctl reload cron-runner" takes over changes. Keys marked (restart) need "systemctl restart cron-runner",
which leaves running jobs alone."""
_HEAD = f"The configuration of cron-runner: /etc/cron-runner/config.toml\n\n{NOTES}"

JOBS = """\
Jobs that are declared here, so that a message only needs to name them: the same fields as in a message.
A message for one may add args where allow_args is true, and the environment variables named in allow_env.
One file for each job works too: jobs.d/NAME.toml beside this file, with the fields at its top.
The user must be in allowed_users of [run].
A parameter is what `jobs trigger` and the page ask for and this host checks. Its type is string, date, integer or
choice (of choices); its pattern is RE2's, of all of the value; to is "env", here $DAY, or "arg": a word behind the
command's own. Without a default it has to be given.

[jobs.send-newsletter]
command = ["/srv/app/bin/newsletter"]
allow_args = true
allow_env = ["EDITION"]
secrets = { DB_PASSWORD = "ssm:/prod/db" }
user = "app"

[jobs.send-newsletter.params.day]
type = "date"
default = "2030-01-31"
pattern = "20.*"
"""

KEYS_OF_SIGNERS = """\
A key that may sign; several are several tables. `cron-runner keys new` makes one, `cron-runner keys show` its public
half. In place of the line keys = [] above:

[[signing.keys]]
file = "/etc/cron-runner/keys/ops.pem"
jobs = ["web-*", "backup"]       # what it may sign; all where it is left out
users = ["app"]                  # as whom that may run, of those that [run] allows
until = "2031-01-01"             # RFC 3339; for ever where it is left out"""


def render() -> str:
    """The text of config.example.toml."""
    lines = list(_lines())
    return "\n".join(lines) + "\n"


def _lines() -> Iterator[str]:
    yield from _comment(_HEAD)
    for section in SECTIONS:
        if section:
            yield from ("", "", *_wrapped(purpose(section)), f"[{section}]")
        for key in KEYS.values():
            if key.section != section:
                continue
            value = EXAMPLE_VALUES.get(key.path, key.setting.text)
            mark = " (restart)" if key.setting.fixed else ""
            yield from ("", *_wrapped(key.setting.help + mark), f"{key.name} = {_toml(value)}")
        if section == "signing":
            yield from ("", "", *_comment(KEYS_OF_SIGNERS))
        if section == "run":
            yield from ("", "", *_comment(JOBS.rstrip()))


def purpose(section: str) -> str:
    """What the docstring of the section's class says."""
    found: object = Config()
    for name in section.split("."):
        found = getattr(found, name)
    return getdoc(type(found)) or ""


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 108, break_on_hyphens=False, break_long_words=False)]


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in text.splitlines()]


def _toml(value: object) -> str:
    # Texts, numbers and lists of them are written the same in JSON and TOML; the only tables are empty ones.
    return json.dumps(value) if value != {} else "{}"


if __name__ == "__main__":
    sys.stdout.write(render())
