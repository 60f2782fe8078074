"""What /openapi.json says that FastAPI cannot see by itself."""
