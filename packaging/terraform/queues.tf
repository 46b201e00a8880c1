data "aws_partition" "here" {}

data "aws_region" "here" {}

data "aws_caller_identity" "here" {}

locals {
  prefix    = "arn:${data.aws_partition.here.partition}"
  here      = "${data.aws_region.here.id}:${data.aws_caller_identity.here.account_id}"
  jobs_name = var.fifo ? "cron-runner-${var.group}-jobs.fifo" : "cron-runner-${var.group}-jobs"
}

resource "aws_sqs_queue" "jobs" {
  name       = local.jobs_name
  fifo_queue = var.fifo ? true : null
  # EventBridge Scheduler gives no deduplication id; its run ids make two firings two contents.
  content_based_deduplication = var.fifo ? true : null
  visibility_timeout_seconds  = var.visibility
  message_retention_seconds   = var.message_retention
  receive_wait_time_seconds   = 20
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = var.max_receive_count
  })
  sqs_managed_sse_enabled = true
  tags                    = var.tags
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = var.fifo ? "cron-runner-${var.group}-dead-letters.fifo" : "cron-runner-${var.group}-dead-letters"
  fifo_queue                = var.fifo ? true : null
  message_retention_seconds = 1209600
  # By its name, since the job queue already refers to this one.
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = ["${local.prefix}:sqs:${local.here}:${local.jobs_name}"]
  })
  sqs_managed_sse_enabled = true
  tags                    = var.tags
}

resource "aws_sqs_queue" "results" {
  name                       = "cron-runner-${var.group}-results"
  visibility_timeout_seconds = 180
  message_retention_seconds  = 1209600
  receive_wait_time_seconds  = 20
  # Hours of a reader in trouble wear no event out; one that no reader will ever take gets out of the way.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.results_dead_letters.arn
    maxReceiveCount     = 100
  })
  sqs_managed_sse_enabled = true
  tags                    = var.tags
}

resource "aws_sqs_queue" "results_dead_letters" {
  name                      = "cron-runner-${var.group}-results-dead-letters"
  message_retention_seconds = 1209600
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = ["${local.prefix}:sqs:${local.here}:cron-runner-${var.group}-results"]
  })
  sqs_managed_sse_enabled = true
  tags                    = var.tags
}

data "aws_iam_policy_document" "jobs" {
  statement {
    sid       = "OnlyOverTls"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.jobs.arn]

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

  dynamic "statement" {
    for_each = length(var.sender_principals) > 0 ? [true] : []

    content {
      sid       = "SenderPrincipals"
      effect    = "Allow"
      actions   = ["sqs:SendMessage"]
      resources = [aws_sqs_queue.jobs.arn]

      principals {
        type        = "AWS"
        identifiers = var.sender_principals
      }

      dynamic "condition" {
        for_each = var.sender_organization != "" ? [true] : []

        content {
          test     = "StringEquals"
          variable = "aws:PrincipalOrgID"
          values   = [var.sender_organization]
        }
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.sender_topics) > 0 ? [true] : []

    content {
      sid       = "SenderTopics"
      effect    = "Allow"
      actions   = ["sqs:SendMessage"]
      resources = [aws_sqs_queue.jobs.arn]

      principals {
        type        = "Service"
        identifiers = ["sns.amazonaws.com"]
      }

      condition {
        test     = "ArnEquals"
        variable = "aws:SourceArn"
        values   = var.sender_topics
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.sender_rules) > 0 ? [true] : []

    content {
      sid       = "SenderRules"
      effect    = "Allow"
      actions   = ["sqs:SendMessage"]
      resources = [aws_sqs_queue.jobs.arn]

      principals {
        type        = "Service"
        identifiers = ["events.amazonaws.com"]
      }

      condition {
        test     = "ArnEquals"
        variable = "aws:SourceArn"
        values   = var.sender_rules
      }
    }
  }
}

data "aws_iam_policy_document" "dead_letters" {
  statement {
    sid       = "OnlyOverTls"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.dead_letters.arn]

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

data "aws_iam_policy_document" "results" {
  statement {
    sid       = "OnlyOverTls"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.results.arn]

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

data "aws_iam_policy_document" "results_dead_letters" {
  statement {
    sid       = "OnlyOverTls"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.results_dead_letters.arn]

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

resource "aws_sqs_queue_policy" "jobs" {
  queue_url = aws_sqs_queue.jobs.url
  policy    = data.aws_iam_policy_document.jobs.json
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.url
  policy    = data.aws_iam_policy_document.dead_letters.json
}

resource "aws_sqs_queue_policy" "results" {
  queue_url = aws_sqs_queue.results.url
  policy    = data.aws_iam_policy_document.results.json
}

resource "aws_sqs_queue_policy" "results_dead_letters" {
  queue_url = aws_sqs_queue.results_dead_letters.url
  policy    = data.aws_iam_policy_document.results_dead_letters.json
}

resource "aws_cloudwatch_log_group" "output" {
  count = var.make_log_group ? 1 : 0

  name              = "/cron-runner/${var.group}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}
