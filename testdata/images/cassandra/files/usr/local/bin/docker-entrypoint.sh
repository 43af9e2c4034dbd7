#!/bin/bash
# Gives the data to cassandra and drops to that user; puts what the environment
# says into the configuration, and becomes the server.
set -e
if [ "$#" = 0 ] || [ "${1#-}" != "$1" ]; then set -- cassandra -f "$@"; fi
if [ "$1" != cassandra ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
	find "$CASSANDRA_CONF" /var/lib/cassandra /var/log/cassandra \! -user cassandra -exec chown cassandra '{}' +
	exec gosu cassandra "${BASH_SOURCE[0]}" "$@"
fi

own_address() { ip address | awk '$1 == "inet" && $NF != "lo" { sub(/\/.*/, "", $2); print $2; exit }'; }

# set_key FILE REGEXP TEXT: without a rename, which a file that is mounted alone
# does not allow.
set_key() {
	local text
	text=$(sed -r "s|$2|$3|" "$1")
	printf '%s\n' "$text" >"$1"
}

: "${CASSANDRA_RPC_ADDRESS=0.0.0.0}"
if [ "${CASSANDRA_LISTEN_ADDRESS=auto}" = auto ]; then CASSANDRA_LISTEN_ADDRESS=$(own_address); fi
if [ "${CASSANDRA_BROADCAST_ADDRESS=$CASSANDRA_LISTEN_ADDRESS}" = auto ]; then CASSANDRA_BROADCAST_ADDRESS=$(own_address); fi
: "${CASSANDRA_BROADCAST_RPC_ADDRESS:=$CASSANDRA_BROADCAST_ADDRESS}" "${CASSANDRA_SEEDS:=$CASSANDRA_BROADCAST_ADDRESS}"

set_key "$CASSANDRA_CONF/cassandra.yaml" '(- seeds:).*' "\\1 \"$CASSANDRA_SEEDS\""
for key in broadcast_address broadcast_rpc_address cluster_name endpoint_snitch listen_address num_tokens rpc_address; do
	variable=CASSANDRA_${key^^}
	if [ -n "${!variable}" ]; then set_key "$CASSANDRA_CONF/cassandra.yaml" "^(# )?$key:.*" "$key: ${!variable}"; fi
done
for key in dc rack; do
	variable=CASSANDRA_${key^^}
	if [ -n "${!variable}" ]; then set_key "$CASSANDRA_CONF/cassandra-rackdc.properties" "^$key=.*" "$key=${!variable}"; fi
done
exec "$@"
