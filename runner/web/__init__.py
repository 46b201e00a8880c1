"""The page and the HTTP API: a process of its own, which asks the agent of this host or the table of the fleet.

It holds nothing that the next one would miss. The daemon imports none of it.
"""
