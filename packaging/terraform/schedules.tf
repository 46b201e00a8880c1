# EventBridge Scheduler sends jobs by itself, straight to the queue. Nothing here exists without `schedules`.

resource "aws_scheduler_schedule_group" "schedules" {
  count = length(var.schedules) > 0 ? 1 : 0
  name  = "cron-runner-${var.group}"
  tags  = var.tags
}

resource "aws_sqs_queue" "schedule_dead_letters" {
  count = length(var.schedules) > 0 ? 1 : 0
  # EventBridge Scheduler takes no FIFO queue here.
  name                      = "cron-runner-${var.group}-schedule-dead-letters"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}

data "aws_iam_policy_document" "schedule_dead_letters" {
  count = length(var.schedules) > 0 ? 1 : 0

  statement {
    sid       = "OnlyOverTls"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.schedule_dead_letters[0].arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "schedule_dead_letters" {
  count     = length(var.schedules) > 0 ? 1 : 0
  queue_url = aws_sqs_queue.schedule_dead_letters[0].url
  policy    = data.aws_iam_policy_document.schedule_dead_letters[0].json
}

data "aws_iam_policy_document" "scheduler_trust" {
  count = length(var.schedules) > 0 ? 1 : 0

  statement {
    sid     = "SchedulesOfThisGroup"
    effect  = "Allow"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [aws_scheduler_schedule_group.schedules[0].arn]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  count = length(var.schedules) > 0 ? 1 : 0

  statement {
    sid       = "SendJobs"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.jobs.arn, aws_sqs_queue.schedule_dead_letters[0].arn]
  }
}

resource "aws_iam_role" "scheduler" {
  count              = length(var.schedules) > 0 ? 1 : 0
  name_prefix        = "cron-runner-scheduler-"
  description        = "EventBridge Scheduler sends jobs to the cron-runner group ${var.group}."
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust[0].json
  tags               = var.tags
}

resource "aws_iam_role_policy" "scheduler" {
  count  = length(var.schedules) > 0 ? 1 : 0
  name   = "send-jobs"
  role   = aws_iam_role.scheduler[0].id
  policy = data.aws_iam_policy_document.scheduler[0].json
}

resource "aws_scheduler_schedule" "job" {
  for_each = var.schedules

  name                         = each.key
  group_name                   = aws_scheduler_schedule_group.schedules[0].name
  description                  = "Sends the cron-runner job ${each.key}."
  schedule_expression          = each.value.schedule
  schedule_expression_timezone = each.value.timezone
  state                        = each.value.enabled ? "ENABLED" : "DISABLED"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_sqs_queue.jobs.arn
    role_arn = aws_iam_role.scheduler[0].arn

    # The scheduler fires at least once: the run id names the time, so that two firings are one run.
    # jsonencode writes < and > as escapes, in which the scheduler would not see its own placeholders.
    input = replace(replace(jsonencode(merge(jsondecode(each.value.message), {
      job          = each.key
      run_id       = "${each.key}-<aws.scheduler.scheduled-time>"
      scheduled_at = "<aws.scheduler.scheduled-time>"
    })), "\\u003c", "<"), "\\u003e", ">")

    dead_letter_config {
      arn = aws_sqs_queue.schedule_dead_letters[0].arn
    }

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 185
    }

    dynamic "sqs_parameters" {
      for_each = var.fifo ? [true] : []

      content {
        message_group_id = each.key
      }
    }
  }

  depends_on = [aws_iam_role_policy.scheduler]
}
