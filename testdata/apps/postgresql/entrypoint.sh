#!/bin/sh
# Makes the database cluster at the first start, then becomes the server.
set -eu
for bin in /usr/lib/postgresql/*/bin; do PATH=$bin:$PATH; done
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	mkdir -p "$PGDATA"
	chmod 700 "$PGDATA"
	initdb --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync
	echo 'host all all 0.0.0.0/0 trust' >>"$PGDATA/pg_hba.conf"
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off "$@"
