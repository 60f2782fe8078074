"""The life of a run outside of its workflow: how a request becomes one, how it is sent to its thread, how it is deleted."""
