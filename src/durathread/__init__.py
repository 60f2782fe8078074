"""A durable, open agent server: LangGraph graphs served over HTTP and executed on Temporal."""
