#!/bin/sh
# Runs once, when the database is made: a role for Grafana's operators that reads every org and changes nothing. Org admins
# get a role each of their own, see `tollgate reader create`.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$GRAFANA_DB_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE grafana LOGIN BYPASSRLS CONNECTION LIMIT 20 PASSWORD :'password';
GRANT pg_read_all_data TO grafana;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
SQL
