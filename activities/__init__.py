"""The activities: all effects of our workflows, a file a kind of effect."""
