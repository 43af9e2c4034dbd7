furnish() {
	account nginx 101 /nonexistent
	mkdir -p var/log/nginx
	ln -s /dev/stdout var/log/nginx/access.log
	ln -s /dev/stderr var/log/nginx/error.log
}
config=(
	--config.entrypoint /docker-entrypoint.sh --config.cmd nginx --config.cmd -g --config.cmd 'daemon off;'
	--config.env NGINX_VERSION=1.22.1 --config.exposedports 80/tcp --config.stopsignal SIGQUIT
)
