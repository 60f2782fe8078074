"""How Temporal is reached, what a namespace must have, and how workflows are named."""
