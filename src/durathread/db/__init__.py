"""Everything that is SQL: rows, migrations, LangGraph's checkpointer and store. Functions take a connection, and the caller
owns the transaction.
"""
