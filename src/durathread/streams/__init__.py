"""Valkey: the streams of runs and threads, how they are written, followed and closed. Nothing that is kept only here
matters once a run has ended.
"""
