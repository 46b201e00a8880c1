data "aws_iam_policy_document" "lambda" {
  statement {
    sid     = "Lambda"
    effect  = "Allow"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    sid    = "Table"
    effect = "Allow"
    actions = [
      "dynamodb:BatchGetItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:UpdateItem",
    ]
    resources = [aws_dynamodb_table.table.arn]
  }

  statement {
    sid       = "Index"
    effect    = "Allow"
    actions   = ["dynamodb:Query"]
    resources = ["${aws_dynamodb_table.table.arn}/index/by-state"]
  }

  # The job queues of the groups' module, which have their names from it.
  statement {
    sid       = "Jobs"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = ["${local.sqs}:cron-runner-*-jobs", "${local.sqs}:cron-runner-*-jobs.fifo"]
  }

  statement {
    sid       = "Log"
    effect    = "Allow"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.scheduler_log.arn}:*"]
  }
}

resource "aws_iam_role" "scheduler_role" {
  name_prefix        = "${var.name}-scheduler-"
  description        = "What cron-runner's scheduler may do."
  assume_role_policy = data.aws_iam_policy_document.lambda.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "scheduler_role" {
  name   = "schedule"
  role   = aws_iam_role.scheduler_role.id
  policy = data.aws_iam_policy_document.scheduler.json
}

data "aws_iam_policy_document" "scheduler_topics" {
  statement {
    sid       = "Topics"
    effect    = "Allow"
    actions   = ["sns:Publish"]
    resources = var.notify_topics
  }
}

resource "aws_iam_role_policy" "scheduler_topics" {
  count  = length(var.notify_topics) > 0 ? 1 : 0
  name   = "topics"
  role   = aws_iam_role.scheduler_role.id
  policy = data.aws_iam_policy_document.scheduler_topics.json
}

data "aws_iam_policy_document" "scheduler_secrets" {
  statement {
    sid       = "Secrets"
    effect    = "Allow"
    actions   = ["ssm:GetParameter"]
    resources = var.notify_secrets
  }
}

resource "aws_iam_role_policy" "scheduler_secrets" {
  count  = length(var.notify_secrets) > 0 ? 1 : 0
  name   = "secrets"
  role   = aws_iam_role.scheduler_role.id
  policy = data.aws_iam_policy_document.scheduler_secrets.json
}

data "aws_iam_policy_document" "recorder" {
  statement {
    sid    = "Table"
    effect = "Allow"
    actions = [
      "dynamodb:BatchGetItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:UpdateItem",
    ]
    resources = [aws_dynamodb_table.table.arn]
  }

  # What runs after others, once they have ended.
  statement {
    sid       = "Jobs"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = ["${local.sqs}:cron-runner-*-jobs", "${local.sqs}:cron-runner-*-jobs.fifo"]
  }

  # The results queues of the groups' module, which have their names from it.
  statement {
    sid       = "Results"
    effect    = "Allow"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    resources = ["${local.sqs}:cron-runner-*-results"]
  }

  statement {
    sid       = "Log"
    effect    = "Allow"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.recorder_log.arn}:*"]
  }
}

resource "aws_iam_role" "recorder_role" {
  name_prefix        = "${var.name}-recorder-"
  description        = "What cron-runner's recorder may do."
  assume_role_policy = data.aws_iam_policy_document.lambda.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "recorder_role" {
  name   = "record"
  role   = aws_iam_role.recorder_role.id
  policy = data.aws_iam_policy_document.recorder.json
}
