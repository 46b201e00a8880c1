"""cron-runner: the task runner of a serverless distributed cron on AWS."""

__version__ = "0.1.0"
