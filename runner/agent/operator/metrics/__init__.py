"""What the agent tells of itself in numbers: to Prometheus, and to CloudWatch."""
