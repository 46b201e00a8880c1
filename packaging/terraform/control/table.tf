data "aws_partition" "here" {}

data "aws_region" "here" {}

data "aws_caller_identity" "here" {}

locals {
  sqs = "arn:${data.aws_partition.here.partition}:sqs:${data.aws_region.here.id}:${data.aws_caller_identity.here.account_id}"
}

# Every key begins with the group, so that a policy can hold somebody to one group or one job.
resource "aws_dynamodb_table" "table" {
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  deletion_protection_enabled = var.deletion_protection
  hash_key                    = "pk"
  range_key                   = "sk"
  tags                        = var.tags

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  attribute {
    name = "job_key"
    type = "S"
  }

  attribute {
    name = "at"
    type = "S"
  }

  attribute {
    name = "state_key"
    type = "S"
  }

  attribute {
    name = "state_at"
    type = "S"
  }

  global_secondary_index {
    name            = "by-job"
    hash_key        = "job_key"
    range_key       = "at"
    projection_type = "ALL"
  }

  global_secondary_index {
    name            = "by-state"
    hash_key        = "state_key"
    range_key       = "state_at"
    projection_type = "ALL"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }
}
