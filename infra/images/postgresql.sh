#!/bin/sh
# Creates the database in PGDATA at the first start, from POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, and serves it: `postgres OPTION...`.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # The rename makes the creation atomic: after an interrupted start the next one begins again.
    rm -rf "$PGDATA.new"
    printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata "$PGDATA.new" --username "$POSTGRES_USER" --pwfile /tmp/password --auth scram-sha-256 --encoding UTF8 --locale C.UTF-8
    rm /tmp/password
    printf 'host all all all scram-sha-256\n' >> "$PGDATA.new/pg_hba.conf"
    printf 'CREATE DATABASE "%s"' "$POSTGRES_DB" | postgres --single -D "$PGDATA.new" postgres
    mv "$PGDATA.new" "$PGDATA"
fi
if [ "${1:-}" = postgres ]; then shift; fi
exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
