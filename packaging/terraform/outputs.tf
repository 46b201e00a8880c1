locals {
  config_alone = <<-EOT
    group = "${var.group}"

    [queue]
    url = "${aws_sqs_queue.jobs.url}"
    dead_letter_url = "${aws_sqs_queue.dead_letters.url}"

    [results]
    url = "${aws_sqs_queue.results.url}"

    [output.cloudwatch]
    log_group = "/cron-runner/${var.group}"
    retention_days = ${var.log_retention_days}
  EOT

  config_of_a_fleet = <<-EOT
    group = "${var.group}"

    [queue]
    url = "${aws_sqs_queue.jobs.url}"
    dead_letter_url = "${aws_sqs_queue.dead_letters.url}"

    [results]
    url = "${aws_sqs_queue.results.url}"
    heartbeat = "1m"

    [output.cloudwatch]
    log_group = "/cron-runner/${var.group}"
    retention_days = ${var.log_retention_days}

    [fleet]
    table = "${var.table}"
  EOT
}

output "config_toml" {
  description = "The hosts' /etc/cron-runner/config.toml, ready to be used and to be added to."
  value       = var.table != "" ? local.config_of_a_fleet : local.config_alone
}

output "jobs_url" {
  description = "The URL of the job queue."
  value       = aws_sqs_queue.jobs.url
}

output "jobs_arn" {
  description = "The ARN of the job queue."
  value       = aws_sqs_queue.jobs.arn
}

output "results_url" {
  description = "The URL of the results queue."
  value       = aws_sqs_queue.results.url
}

output "results_arn" {
  description = "The ARN of the results queue."
  value       = aws_sqs_queue.results.arn
}

output "dead_letters_url" {
  description = "The URL of the dead-letter queue."
  value       = aws_sqs_queue.dead_letters.url
}

output "dead_letters_arn" {
  description = "The ARN of the dead-letter queue."
  value       = aws_sqs_queue.dead_letters.arn
}

output "log_group" {
  description = "The log group of the jobs' output."
  value       = "/cron-runner/${var.group}"
}

output "host_policy_arn" {
  description = "The policy for the hosts' role."
  value       = aws_iam_policy.host.arn
}

output "host_table_policy_arn" {
  description = "The policy for the hosts' role in the fleet's table."
  value       = one(aws_iam_policy.host_table[*].arn)
}

output "host_secrets_policy_arn" {
  description = "The policy for the hosts' role with the secrets of their jobs."
  value       = one(aws_iam_policy.host_secrets[*].arn)
}

output "host_scaling_policy_arn" {
  description = "The policy for the hosts' role with their Auto Scaling group."
  value       = one(aws_iam_policy.host_scaling[*].arn)
}

output "sender_policy_arn" {
  description = "The policy for those who send jobs."
  value       = aws_iam_policy.sender.arn
}
