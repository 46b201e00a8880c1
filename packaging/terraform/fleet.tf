# The group's part in a fleet: its hosts use the table, its results go to the recorder. Both are made by ./control.

# Locks, claims and directives, of this group alone: every key begins with the group.
data "aws_iam_policy_document" "host_table" {
  statement {
    sid       = "FleetTable"
    effect    = "Allow"
    actions   = ["dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:BatchWriteItem"]
    resources = ["${local.prefix}:dynamodb:${local.here}:table/${var.table}"]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["${var.group}#*"]
    }
  }
}

resource "aws_iam_policy" "host_table" {
  count       = var.table != "" ? 1 : 0
  name_prefix = "cron-runner-${var.group}-host-table-"
  description = "What a host of the cron-runner group ${var.group} may do in the fleet's table."
  policy      = data.aws_iam_policy_document.host_table.json
  tags        = var.tags
}

resource "aws_iam_role_policy_attachment" "host_table" {
  count      = var.table != "" ? length(var.host_roles) : 0
  role       = var.host_roles[count.index]
  policy_arn = aws_iam_policy.host_table[0].arn
}

# `secrets` of jobs: read by path, and decrypted by what the store says that it is, whichever key it has.
data "aws_iam_policy_document" "host_secrets" {
  statement {
    sid       = "Parameters"
    effect    = "Allow"
    actions   = ["ssm:GetParameters"]
    resources = ["${local.prefix}:ssm:${local.here}:parameter/${var.secrets_path}/*"]
  }

  statement {
    sid       = "ParametersKeys"
    effect    = "Allow"
    actions   = ["kms:Decrypt"]
    resources = ["${local.prefix}:kms:${local.here}:key/*"]

    condition {
      test     = "StringLike"
      variable = "kms:ViaService"
      values   = ["ssm.${data.aws_region.here.id}.amazonaws.com"]
    }

    condition {
      test     = "StringLike"
      variable = "kms:EncryptionContext:PARAMETER_ARN"
      values   = ["${local.prefix}:ssm:${local.here}:parameter/${var.secrets_path}/*"]
    }
  }

  statement {
    sid       = "Secrets"
    effect    = "Allow"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = ["${local.prefix}:secretsmanager:${local.here}:secret:${var.secrets_path}/*"]
  }

  statement {
    sid       = "SecretsKeys"
    effect    = "Allow"
    actions   = ["kms:Decrypt"]
    resources = ["${local.prefix}:kms:${local.here}:key/*"]

    condition {
      test     = "StringLike"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${data.aws_region.here.id}.amazonaws.com"]
    }

    condition {
      test     = "StringLike"
      variable = "kms:EncryptionContext:SecretARN"
      values   = ["${local.prefix}:secretsmanager:${local.here}:secret:${var.secrets_path}/*"]
    }
  }
}

resource "aws_iam_policy" "host_secrets" {
  count       = var.secrets_path != "" ? 1 : 0
  name_prefix = "cron-runner-${var.group}-host-secrets-"
  description = "What a host of the cron-runner group ${var.group} may read of its jobs' secrets."
  policy      = data.aws_iam_policy_document.host_secrets.json
  tags        = var.tags
}

resource "aws_iam_role_policy_attachment" "host_secrets" {
  count      = var.secrets_path != "" ? length(var.host_roles) : 0
  role       = var.host_roles[count.index]
  policy_arn = aws_iam_policy.host_secrets[0].arn
}

# `[fleet] lifecycle_hook`: Auto Scaling is held while a host drains, and told when it has.
data "aws_iam_policy_document" "host_scaling" {
  statement {
    sid       = "LifecycleHook"
    effect    = "Allow"
    actions   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
    resources = ["${local.prefix}:autoscaling:${local.here}:autoScalingGroup:*:autoScalingGroupName/${var.auto_scaling_group}"]
  }
}

resource "aws_iam_policy" "host_scaling" {
  count       = var.auto_scaling_group != "" ? 1 : 0
  name_prefix = "cron-runner-${var.group}-host-scaling-"
  description = "What a host of the cron-runner group ${var.group} may do with its Auto Scaling group."
  policy      = data.aws_iam_policy_document.host_scaling.json
  tags        = var.tags
}

resource "aws_iam_role_policy_attachment" "host_scaling" {
  count      = var.auto_scaling_group != "" ? length(var.host_roles) : 0
  role       = var.host_roles[count.index]
  policy_arn = aws_iam_policy.host_scaling[0].arn
}

resource "aws_lambda_event_source_mapping" "recorder_source" {
  count                              = var.recorder != "" ? 1 : 0
  function_name                      = var.recorder
  event_source_arn                   = aws_sqs_queue.results.arn
  batch_size                         = 100
  maximum_batching_window_in_seconds = 2
  function_response_types            = ["ReportBatchItemFailures"]
  tags                               = var.tags

  scaling_config {
    maximum_concurrency = 5
  }
}
