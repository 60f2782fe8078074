#!/bin/sh
# Creates Temporal's two databases, or brings them up to date. Changes nothing when they are.
set -eu
export SQL_PLUGIN="$DB" SQL_HOST="$POSTGRES_SEEDS" SQL_PORT="$DB_PORT"
export SQL_USER="$POSTGRES_USER" SQL_PASSWORD="$POSTGRES_PWD"

# The schema is that of the tool itself.
prepare() {
  temporal-sql-tool --db "$1" create-database
  temporal-sql-tool --db "$1" setup-schema --version 0.0
  temporal-sql-tool --db "$1" update-schema --schema-name "postgresql/v12/$2"
}

prepare temporal temporal
prepare temporal_visibility visibility
