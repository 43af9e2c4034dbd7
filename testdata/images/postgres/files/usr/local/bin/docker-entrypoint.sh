#!/usr/bin/env bash
# Gives the data to postgres and drops to that user. At the first start it makes
# the cluster, with POSTGRES_USER, POSTGRES_PASSWORD (or that in the file
# POSTGRES_PASSWORD_FILE) and POSTGRES_DB, runs what is in
# /docker-entrypoint-initdb.d, and then becomes the server.
set -eo pipefail
if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
if [ "$1" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA" /var/run/postgresql
	chmod 700 "$PGDATA"
	chmod 3777 /var/run/postgresql
	find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
	exec gosu postgres "$BASH_SOURCE" "$@"
fi

initialise() {
	local user=${POSTGRES_USER:-postgres} password=${POSTGRES_PASSWORD:-}
	local db=${POSTGRES_DB:-$user} method=${POSTGRES_HOST_AUTH_METHOD:-}
	[ -z "${POSTGRES_PASSWORD_FILE:-}" ] || password=$(<"$POSTGRES_PASSWORD_FILE")
	if [ -z "$password" ] && [ "$method" != trust ]; then
		echo 'Error: Database is uninitialized and superuser password is not specified: set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD to trust.' >&2
		exit 1
	fi
	# shellcheck disable=SC2086 # options, as a shell would have them
	initdb --username="$user" --pwfile=<(printf '%s\n' "${password:-unused}") ${POSTGRES_INITDB_ARGS:-}
	printf '\nhost all all all %s\n' "${method:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
	pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
	local psql=(psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$user")
	[ "$db" = postgres ] || "${psql[@]}" --dbname postgres --set db="$db" <<<'CREATE DATABASE :"db";'
	for f in /docker-entrypoint-initdb.d/*; do
		case "$f" in
		*.sh) . "$f" ;;
		*.sql) "${psql[@]}" --dbname "$db" --file "$f" ;;
		esac
	done
	pg_ctl -D "$PGDATA" -m fast -w stop
	printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}
if [ ! -s "$PGDATA/PG_VERSION" ]; then initialise; fi
exec "$@"
