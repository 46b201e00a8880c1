"""The supervisor: the small process that owns a host's job processes and outlives the agent.

It starts, limits, times, stops and reaps; it decides nothing about queues or outcomes. Standard library only, no
network, one thread, one loop.
"""
