"""What `cron-runner check` looks at: each check is a small function that returns findings, one line each.

Judgements are functions of values (`timing`, `redrive`…), apart from the calls and looks that bring the values.
No check changes what jobs or a running agent would notice; where a call leaves something behind its docstring says so.
"""
