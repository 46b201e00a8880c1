"""Jobs that run after others: who is after whom, what a parent's end makes of a child, and its message on the queue."""
