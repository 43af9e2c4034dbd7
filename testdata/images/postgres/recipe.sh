furnish() {
	account postgres 999 /var/lib/postgresql
	sed -i '/^postgres:/s,/usr/sbin/nologin,/bin/bash,' etc/passwd
	install -d -o 999 -g 999 -m 1777 var/lib/postgresql/data
	install -d docker-entrypoint-initdb.d
}
config=(
	--config.entrypoint docker-entrypoint.sh --config.cmd postgres
	--config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin
	--config.env PG_MAJOR=15 --config.env PGDATA=/var/lib/postgresql/data
	--config.volume /var/lib/postgresql/data --config.exposedports 5432/tcp --config.stopsignal SIGINT
)
