"""AWS: the only rooms that import boto3 and botocore, and only once a client is needed.

Every method that reaches AWS is a coroutine, runs in a small pool of daemon threads with a client of its own
purpose, ends within a bound, and fails with `runner.errors.AwsUnavailable` and nothing else.
"""
