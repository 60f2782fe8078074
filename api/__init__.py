"""HTTP: the application, and what its parts depend on."""
