# Apache's binary distribution is not in Maven Central, but all of its Java is:
# cassandra-all with what it needs. Its configuration and bin/cassandra are of
# this directory's making.
payload() {
	mvn -B -q -f "$recipe/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/opt/cassandra/lib" ||
		die "Maven did not fetch Cassandra"
	# Programs of other systems.
	rm -f "$1"/opt/cassandra/lib/*-{osx,windows}-*.jar "$1"/opt/cassandra/lib/*-linux-{aarch_64,riscv64}.jar
}
furnish() {
	account cassandra 999 /home/cassandra
	mkdir -p usr/local/lib etc/cassandra/triggers
	ln -s /usr/lib/x86_64-linux-gnu/libjemalloc.so.2 usr/local/lib/libjemalloc.so
	install -d -o 999 -g 999 -m 1777 var/lib/cassandra var/log/cassandra
	chown -R 999:999 etc/cassandra
	chmod 1777 etc/cassandra
	chmod -R a+rwX etc/cassandra
	ln -s /etc/cassandra opt/cassandra/conf
	ln -s /var/lib/cassandra opt/cassandra/data
	ln -s /var/log/cassandra opt/cassandra/logs
}
config=(
	--config.entrypoint docker-entrypoint.sh --config.cmd cassandra --config.cmd -f
	--config.env PATH=/opt/cassandra/bin:/usr/lib/jvm/java-17-openjdk-amd64/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	--config.env JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64
	--config.env CASSANDRA_HOME=/opt/cassandra --config.env CASSANDRA_CONF=/etc/cassandra
	--config.env CASSANDRA_VERSION=5.0.5
	--config.volume /var/lib/cassandra
	--config.exposedports 7000/tcp --config.exposedports 7001/tcp --config.exposedports 7199/tcp
	--config.exposedports 9042/tcp --config.exposedports 9160/tcp
)
