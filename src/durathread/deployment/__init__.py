"""Whose a Temporal task queue is: workers of one database never take up what another deployment has started."""
