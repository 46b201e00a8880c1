variable "group" {
  description = "The group's name, `group` in the hosts' configuration."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$", var.group))
    error_message = "group has up to 40 letters, digits, _ and -, the first a letter or a digit."
  }
}

variable "fifo" {
  description = "A FIFO job queue; with the job's name as message group one run of a job at a time, over all hosts."
  type        = bool
  default     = false
}

variable "max_receive_count" {
  description = "Receives after which SQS gives a message up to the dead-letter queue. A host that has no room hands a message back, and that counts: 5 is the least, 10 fits groups whose hosts differ in size."
  type        = number
  default     = 10

  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000
    error_message = "max_receive_count is 5 to 1000."
  }
}

variable "visibility" {
  description = "Seconds. The queue's own default lease; the agents name theirs (`[queue] visibility`) at each receive."
  type        = number
  default     = 120

  validation {
    condition     = var.visibility >= 10 && var.visibility <= 43200
    error_message = "visibility is 10 to 43200 seconds."
  }
}

variable "message_retention" {
  description = "Seconds that a job which no host takes stays on the queue; at most 13 days. Dead letters and results stay 14 days, SQS's most, and dead letters are counted from when they were first sent."
  type        = number
  default     = 604800

  validation {
    condition     = var.message_retention >= 3600 && var.message_retention <= 1123200
    error_message = "message_retention is 3600 to 1123200 seconds (13 days)."
  }
}

variable "log_retention_days" {
  description = "Days that CloudWatch Logs keeps the jobs' output, in a log group that is made new."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days is one of the numbers that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "make_log_group" {
  description = "Make the log group of the jobs' output here, to be deleted with the rest; that fails where there is such a group already. Otherwise `cron-runner check` or the first job makes it, with the same retention, and leaves one that is there as it is."
  type        = bool
  default     = false
}

variable "sender_principals" {
  description = "ARNs of IAM roles, users or accounts (arn:aws:iam::123456789012:root) that may send jobs although no policy of their own allows it: for other accounts. Who may send may run commands on the hosts."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.sender_principals : can(regex("^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:.+$", arn))])
    error_message = "sender_principals are ARNs of IAM; a * would let the world run commands on the hosts."
  }
}

variable "sender_organization" {
  description = "The AWS organization (o-…) that all of the principals have to belong to; empty for no such condition."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(|o-[a-z0-9]{10,32})$", var.sender_organization))
    error_message = "sender_organization is the id of an organization (o-…), or empty."
  }
}

variable "sender_topics" {
  description = "ARNs of SNS topics that may send jobs."
  type        = list(string)
  default     = []
}

variable "sender_rules" {
  description = "ARNs of EventBridge rules that may send jobs."
  type        = list(string)
  default     = []
}

variable "host_roles" {
  description = "Names of the IAM roles of the hosts, which get the host policy; empty to attach it by other means."
  type        = list(string)
  default     = []
}

variable "sender_roles" {
  description = "Names of IAM roles that get the sender policy; empty to attach it by other means."
  type        = list(string)
  default     = []
}

variable "table" {
  description = "The name of the fleet's table, which the hosts then use; empty for a group by itself."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(|[A-Za-z0-9_.-]{3,255})$", var.table))
    error_message = "table is the name of a DynamoDB table, or empty."
  }
}

variable "secrets_path" {
  description = "Where the secrets of jobs are: parameters below this path of the Parameter Store, and secrets of Secrets Manager whose names begin with it and a slash; such as prod/web, empty where the hosts read none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(|[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)$", var.secrets_path))
    error_message = "secrets_path is a path such as prod/web, without a slash at its ends, or empty."
  }
}

variable "auto_scaling_group" {
  description = "The name of the hosts' Auto Scaling group whose life-cycle hook they complete; empty where they complete none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[^:*?]{0,255}$", var.auto_scaling_group))
    error_message = "auto_scaling_group is the name of an Auto Scaling group, or empty."
  }
}

variable "recorder" {
  description = "The ARN of the fleet's recorder, which then reads the results queue; empty where something else does."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(|arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:.+)$", var.recorder))
    error_message = "recorder is the ARN of a function, or empty."
  }
}

variable "alarm_topics" {
  description = "ARNs of SNS topics that are told of alarms and of their end; empty for alarms that tell nobody."
  type        = list(string)
  default     = []
}

variable "max_queue_age" {
  description = "Seconds. Alarm when jobs wait and the oldest message, waiting or running, is older. Choose longer than the longest job and its wait for room take."
  type        = number
  default     = 3600

  validation {
    condition     = var.max_queue_age >= 60 && var.max_queue_age <= 1209600
    error_message = "max_queue_age is 60 to 1209600 seconds."
  }
}

variable "max_results_age" {
  description = "Seconds. Alarm when a result waits longer for whoever reads the results queue; 0 where nobody does."
  type        = number
  default     = 0

  validation {
    condition     = var.max_results_age >= 0 && var.max_results_age <= 1209600
    error_message = "max_results_age is 0 to 1209600 seconds."
  }
}

variable "schedules" {
  description = "Jobs that EventBridge Scheduler sends by itself, by the job's name. `schedule` is rate(…), cron(…) with six fields or at(…); `message` more fields of the job message as JSON, {} where the hosts declare the job."
  type = map(object({
    schedule = string
    timezone = optional(string, "UTC")
    enabled  = optional(bool, true)
    message  = optional(string, "{}")
  }))
  default = {}

  validation {
    condition     = alltrue([for job in keys(var.schedules) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", job))])
    error_message = "A job's name has up to 64 letters, digits, ., _ and -, the first a letter or a digit."
  }

  validation {
    condition     = alltrue([for job in values(var.schedules) : can(regex("^(rate|cron|at)\\(.+\\)$", job.schedule))])
    error_message = "schedule is rate(15 minutes), cron(0 3 * * ? *) or at(2030-01-01T03:00:00)."
  }

  validation {
    condition     = alltrue([for job in values(var.schedules) : can(keys(jsondecode(job.message)))])
    error_message = "message is a JSON object: jsonencode({ command = [\"/srv/app/bin/nightly\"] })."
  }
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
}
