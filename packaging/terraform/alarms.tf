resource "aws_cloudwatch_metric_alarm" "jobs_wait_too_long" {
  alarm_name          = "cron-runner-${var.group}-jobs-wait-too-long"
  alarm_description   = "Jobs of the group ${var.group} wait, and the oldest message is too old: no host polls, or none has room. `cron-runner status` on a host says which."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.max_queue_age
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags

  # A long job's own message ages too, but then nothing waits behind it.
  metric_query {
    id          = "late"
    expression  = "IF(waiting > 0, age, 0)"
    label       = "Age of the oldest job while jobs wait"
    return_data = true
  }

  metric_query {
    id          = "waiting"
    return_data = false

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.jobs.name }
      period      = 300
      stat        = "Minimum"
    }
  }

  metric_query {
    id          = "age"
    return_data = false

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateAgeOfOldestMessage"
      dimensions  = { QueueName = aws_sqs_queue.jobs.name }
      period      = 300
      stat        = "Maximum"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "dead_letters_arrived" {
  alarm_name          = "cron-runner-${var.group}-dead-letters"
  alarm_description   = "The dead-letter queue of the group ${var.group} holds messages: rejected ones, whose rejected event says why, or ones whose hosts died under them."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "results_not_taken" {
  alarm_name          = "cron-runner-${var.group}-results-not-taken"
  alarm_description   = "No reader took some results of the group ${var.group}; they are on their dead-letter queue."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.results_dead_letters.name }
  statistic           = "Maximum"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "results_wait_too_long" {
  count               = var.max_results_age > 0 ? 1 : 0
  alarm_name          = "cron-runner-${var.group}-results-wait-too-long"
  alarm_description   = "Nobody reads the results of the group ${var.group}, or not fast enough."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.results.name }
  statistic           = "Maximum"
  period              = 300
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.max_results_age
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "schedules_failed" {
  count               = length(var.schedules) > 0 ? 1 : 0
  alarm_name          = "cron-runner-${var.group}-schedules-failed"
  alarm_description   = "EventBridge Scheduler could not send jobs to the group ${var.group}."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.schedule_dead_letters[0].name }
  statistic           = "Maximum"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}
