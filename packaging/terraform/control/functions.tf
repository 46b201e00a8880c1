resource "aws_cloudwatch_log_group" "scheduler_log" {
  name              = "/aws/lambda/${var.name}-scheduler"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

resource "aws_lambda_function" "scheduler" {
  function_name    = "${var.name}-scheduler"
  description      = "Enqueues the jobs that are due, looks for what did not happen, and tells people."
  runtime          = "python3.13"
  architectures    = ["arm64"]
  handler          = "runner.control.functions.scheduler"
  filename         = var.code
  source_code_hash = filebase64sha256(var.code)
  role             = aws_iam_role.scheduler_role.arn
  memory_size      = 1024
  timeout = 120
  tags    = var.tags

  environment {
    variables = {
      CRON_RUNNER_FLEET__TABLE   = aws_dynamodb_table.table.name
      CRON_RUNNER_AGENT__METRICS = var.metrics
    }
  }

  # Its log group is there before it makes one without an end.
  depends_on = [aws_cloudwatch_log_group.scheduler_log]
}

resource "aws_cloudwatch_log_group" "recorder_log" {
  name              = "/aws/lambda/${var.name}-recorder"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

resource "aws_lambda_function" "recorder" {
  function_name    = "${var.name}-recorder"
  description      = "Writes the results of all groups into the table."
  runtime          = "python3.13"
  architectures    = ["arm64"]
  handler          = "runner.control.functions.recorder"
  filename         = var.code
  source_code_hash = filebase64sha256(var.code)
  role             = aws_iam_role.recorder_role.arn
  memory_size      = 512
  # A sixth of the results queues' visibility, as AWS wants it.
  timeout = 30
  tags    = var.tags

  environment {
    variables = {
      CRON_RUNNER_FLEET__TABLE   = aws_dynamodb_table.table.name
      CRON_RUNNER_AGENT__METRICS = var.metrics
    }
  }

  # Its log group is there before it makes one without an end.
  depends_on = [aws_cloudwatch_log_group.recorder_log]
}

resource "aws_cloudwatch_event_rule" "every_minute" {
  name                = "${var.name}-every-minute"
  description         = "The minute of cron-runner's scheduler."
  schedule_expression = "rate(1 minute)"
  state               = "ENABLED"
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "every_minute" {
  rule      = aws_cloudwatch_event_rule.every_minute.name
  target_id = "scheduler"
  arn       = aws_lambda_function.scheduler.arn
}

resource "aws_lambda_permission" "every_minute_permission" {
  function_name = aws_lambda_function.scheduler.function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.every_minute.arn
}

# The next minute catches up; a second try of this one would only stand in its way.
resource "aws_lambda_function_event_invoke_config" "scheduler_tries" {
  function_name                = aws_lambda_function.scheduler.function_name
  qualifier                    = "$LATEST"
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 60
}
