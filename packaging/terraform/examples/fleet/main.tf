# A fleet of two groups, and what may be told to whom.

provider "aws" {
  region = "eu-west-1"
}

resource "aws_sns_topic" "on_call" {
  name = "on-call"
}

# A job says notify = "${ssm:/cron-runner/slack}"; the webhook itself stands nowhere else.
resource "aws_ssm_parameter" "slack" {
  name  = "/cron-runner/slack"
  type  = "SecureString"
  value = var.slack_webhook
}

variable "slack_webhook" {
  description = "The webhook of the channel that is told."
  type        = string
  sensitive   = true
}

module "fleet" {
  source = "../../control"

  code           = "../../../../dist/cron-runner-control.zip"
  notify_topics  = [aws_sns_topic.on_call.arn]
  notify_secrets = [aws_ssm_parameter.slack.arn]
  alarm_topics   = [aws_sns_topic.on_call.arn]
}

module "group" {
  source   = "../.."
  for_each = toset(["web", "batch"])

  group        = each.key
  table        = module.fleet.table_name
  recorder     = module.fleet.recorder_arn
  alarm_topics = [aws_sns_topic.on_call.arn]
}

output "config_toml" {
  value = { for name, group in module.group : name => group.config_toml }
}
