"""cron-runner: the task runner of a serverless distributed cron on AWS."""

__version__ = "0.1.0"
# Of the version, and not of the build, so that the same source always makes the same pages.
__date__ = "2026-11-29"
