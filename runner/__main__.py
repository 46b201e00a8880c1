"""``python -m runner`` is ``cron-runner``."""

from runner.cli.start import entry

if __name__ == "__main__":
    entry()
