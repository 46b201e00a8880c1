# What `cron-runner check --iam-policy` prints for the configuration in the outputs, and not more.
data "aws_iam_policy_document" "host" {
  statement {
    sid    = "JobQueue"
    effect = "Allow"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:ChangeMessageVisibility",
      "sqs:GetQueueAttributes",
    ]
    resources = [aws_sqs_queue.jobs.arn]
  }

  statement {
    sid       = "Results"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.results.arn]
  }

  statement {
    sid       = "DeadLetters"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead_letters.arn]
  }

  statement {
    sid    = "Output"
    effect = "Allow"
    actions = [
      "logs:CreateLogGroup",
      "logs:CreateLogStream",
      "logs:PutLogEvents",
      "logs:PutRetentionPolicy",
    ]
    resources = [
      "${local.prefix}:logs:${local.here}:log-group:/cron-runner/${var.group}",
      "${local.prefix}:logs:${local.here}:log-group:/cron-runner/${var.group}:*",
    ]
  }
}

data "aws_iam_policy_document" "sender" {
  statement {
    sid       = "SendJobs"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.jobs.arn]
  }
}

resource "aws_iam_policy" "host" {
  name_prefix = "cron-runner-${var.group}-host-"
  description = "What a host of the cron-runner group ${var.group} may do."
  policy      = data.aws_iam_policy_document.host.json
  tags        = var.tags
}

resource "aws_iam_policy" "sender" {
  name_prefix = "cron-runner-${var.group}-sender-"
  description = "Who has it may send jobs to the cron-runner group ${var.group}."
  policy      = data.aws_iam_policy_document.sender.json
  tags        = var.tags
}

# By their position: names of roles that are made in the same run are not known when it is planned.
resource "aws_iam_role_policy_attachment" "host" {
  count      = length(var.host_roles)
  role       = var.host_roles[count.index]
  policy_arn = aws_iam_policy.host.arn
}

resource "aws_iam_role_policy_attachment" "sender" {
  count      = length(var.sender_roles)
  role       = var.sender_roles[count.index]
  policy_arn = aws_iam_policy.sender.arn
}
