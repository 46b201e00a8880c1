# A group of hosts with one schedule, an instance role, and somebody who is told.

provider "aws" {
  region = "eu-west-1"
}

resource "aws_sns_topic" "on_call" {
  name = "on-call"
}

resource "aws_iam_role" "web" {
  name = "web-hosts"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

module "web" {
  source = "../.."

  group        = "web"
  host_roles   = [aws_iam_role.web.name]
  alarm_topics = [aws_sns_topic.on_call.arn]

  schedules = {
    nightly = {
      schedule = "cron(0 3 * * ? *)"
      timezone = "Europe/Berlin"
      message = jsonencode({
        command = ["/srv/app/bin/nightly"]
        timeout = "2h"
        overlap = "skip"
      })
    }
    send-newsletter = {
      schedule = "rate(15 minutes)" # declared on the hosts: [jobs.send-newsletter]
    }
  }
}

output "config_toml" {
  value = module.web.config_toml
}
