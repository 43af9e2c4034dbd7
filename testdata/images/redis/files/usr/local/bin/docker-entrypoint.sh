#!/bin/bash
# Gives the data to redis, drops to that user with no capability left, and
# becomes the server.
set -e
case "$1" in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
	find . \! -user redis -exec chown redis '{}' +
	exec setpriv --reuid redis --regid redis --clear-groups \
		--nnp --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$0" "$@"
fi
if [ "$1" = redis-server ]; then
	umask 0077
	# Whoever publishes the port wants it to be reached.
	set -- "$@" --protected-mode no
fi
exec "$@"
