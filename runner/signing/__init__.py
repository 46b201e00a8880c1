"""Who may sign which jobs, and keys. Needs `cryptography`, and only where a key is used: loaded there."""
