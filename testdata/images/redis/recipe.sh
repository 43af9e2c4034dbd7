furnish() {
	account redis 999 /home/redis
	install -d -o 999 -g 999 data
}
config=(
	--config.entrypoint docker-entrypoint.sh --config.cmd redis-server
	--config.env REDIS_VERSION=7.0.15
	--config.workingdir /data --config.volume /data --config.exposedports 6379/tcp
)
