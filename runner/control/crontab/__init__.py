"""A crontab read as Debian's cron reads it, and said as a job file."""
