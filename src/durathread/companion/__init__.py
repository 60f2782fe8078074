"""A small process beside each worker. It sends the heartbeats of the worker's steps while the worker is busy, and gives
Temporal the steps of a worker that died back at once.
"""
