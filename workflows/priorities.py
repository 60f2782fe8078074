"""Which tasks a worker takes first, when more wait than it has room for.

Those of a lower number; and of one number, those whose user has had the fewest. Temporal compares them only if it is set up to
(`fairness` in the README says how); otherwise it takes them as they come.
"""

from temporalio.common import Priority

from durathread.workflows.messages import RunRequest

# What is soon over, and what others wait for: admissions, settlements, sweeps.
SOON_OVER = Priority(priority_key=2)


def of_run(request: RunRequest) -> Priority:
    """Have a run that has begun come to its step before others begin: of many that arrive at once, the first are soon at work."""
    return Priority(priority_key=2, fairness_key=request.fairness or None)


def of_step(request: RunRequest) -> Priority:
    """Let a step wait for those of users who have had fewer. Steps come after what is soon over, which then never waits long."""
    return Priority(priority_key=3, fairness_key=request.fairness or None)
