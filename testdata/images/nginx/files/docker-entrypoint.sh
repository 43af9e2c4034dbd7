#!/bin/sh
# Runs what is in /docker-entrypoint.d, and becomes the server.
set -e
if [ "$1" = nginx ]; then
	for f in /docker-entrypoint.d/*.sh; do
		[ ! -x "$f" ] || "$f"
	done
fi
exec "$@"
