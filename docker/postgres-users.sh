#!/bin/sh
# Creates a user of Postgres for the server and one for Temporal, each with what is its own. Changes passwords, else nothing.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
  --set durathread="$DURATHREAD_PASSWORD" --set temporal="$TEMPORAL_PASSWORD" postgres <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', name) FROM (VALUES ('durathread'), ('temporal')) AS wanted (name)
WHERE name NOT IN (SELECT rolname FROM pg_roles) \gexec
ALTER ROLE durathread LOGIN PASSWORD :'durathread';
-- Its own tool creates its databases.
ALTER ROLE temporal LOGIN CREATEDB PASSWORD :'temporal';
SELECT 'CREATE DATABASE durathread OWNER durathread'
WHERE 'durathread' NOT IN (SELECT datname FROM pg_database) \gexec
ALTER DATABASE durathread OWNER TO durathread;
REVOKE CONNECT ON DATABASE durathread FROM PUBLIC;
SQL

# Only a superuser may add what can read files; this cannot, but not every version says so.
psql --no-psqlrc --quiet durathread --command 'CREATE EXTENSION IF NOT EXISTS vector' ||
  echo "There is no pgvector: items cannot be searched by what they mean." >&2
