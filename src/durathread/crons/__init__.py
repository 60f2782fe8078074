"""When a cron is due, and the Temporal Schedules that fire it. What a firing starts is in `runs`."""
