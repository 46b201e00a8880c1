output "table_name" {
  description = "The table's name, for the groups and for `[fleet] table` of a configuration."
  value       = aws_dynamodb_table.table.name
}

output "table_arn" {
  description = "The table's ARN, for people's policies."
  value       = aws_dynamodb_table.table.arn
}

output "recorder_arn" {
  description = "The recorder's ARN, for the groups."
  value       = aws_lambda_function.recorder.arn
}

output "scheduler_arn" {
  description = "The scheduler's ARN."
  value       = aws_lambda_function.scheduler.arn
}
