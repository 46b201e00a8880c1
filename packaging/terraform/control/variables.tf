variable "name" {
  description = "The name of the table and the beginning of the functions' names."
  type        = string
  default     = "cron-runner"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_-]{2,39}$", var.name))
    error_message = "name has 3 to 40 letters, digits, _ and -, the first a letter."
  }
}

variable "code" {
  description = "The path of the functions' code, a ZIP file that packaging/lambda/build makes."
  type        = string

  validation {
    condition     = can(regex("[.]zip$", var.code))
    error_message = "code is the path of a ZIP file."
  }
}

variable "log_retention_days" {
  description = "Days that CloudWatch Logs keeps the functions' logs."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days is one of the numbers that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "metrics" {
  description = "emf for CloudWatch metrics of runs by group and job, which CloudWatch bills; empty for none."
  type        = string
  default     = ""

  validation {
    condition     = contains(["", "emf"], var.metrics)
    error_message = "metrics is emf or empty."
  }
}

variable "notify_topics" {
  description = "ARNs of the SNS topics that jobs name in `notify`; empty for none."
  type        = list(string)
  default     = []
}

variable "notify_secrets" {
  description = "ARNs of the SSM parameters that jobs name in `notify` as $${ssm:/NAME}; empty for none."
  type        = list(string)
  default     = []
}

variable "alarm_topics" {
  description = "ARNs of SNS topics that are told of alarms and of their end; empty for alarms that tell nobody."
  type        = list(string)
  default     = []
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the table, which is the only place that knows the jobs and their history."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
}
