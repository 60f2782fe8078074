"""What every process of ours has, whatever its role: an event loop, logs, health checks, and an owner of its background
parts.
"""
