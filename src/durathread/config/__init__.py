"""What operators and projects say: environment variables (`settings`) and langgraph.json. Every other room takes typed
parts of it, and none reads a file or a variable by itself.
"""
