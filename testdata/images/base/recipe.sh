# The layer that the others share: what is of debian:12-slim that they need,
# with gosu, which official images add one by one.
furnish() {
	mkdir -p etc/alternatives usr/bin
	ln -s /usr/bin/mawk etc/alternatives/awk
	ln -s /etc/alternatives/awk usr/bin/awk
	cp "$base/usr/share/base-passwd/passwd.master" etc/passwd
	cp "$base/usr/share/base-passwd/group.master" etc/group
}
config=(--config.cmd bash --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
