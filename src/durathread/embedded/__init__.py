"""`durathread dev`: Postgres, Valkey and Temporal from wheels, and the roles of the server, started and watched on one
machine. Nothing else imports it but the command line and tests.
"""
