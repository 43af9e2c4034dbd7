furnish() {
	account memcache 11211 /nonexistent
	ln -s usr/local/bin/docker-entrypoint.sh entrypoint.sh
}
config=(
	--config.entrypoint docker-entrypoint.sh --config.cmd memcached
	--config.env MEMCACHED_VERSION=1.6.18 --config.user memcache --config.exposedports 11211/tcp
)
