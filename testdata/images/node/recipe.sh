furnish() {
	account node 1000 /home/node
	sed -i '/^node:/s,/usr/sbin/nologin,/bin/bash,' etc/passwd
	install -d -o 1000 -g 1000 home/node
}
config=(--config.entrypoint docker-entrypoint.sh --config.cmd node --config.env NODE_VERSION=18.20.4)
