# FerretDB with its SQLite back end, for MongoDB's protocol. As the official one
# it has nothing but the program: no shell, no library.
payload() {
	local said dir
	said=$(go mod download -json github.com/FerretDB/FerretDB@v1.24.0)
	grep -q '"Sum": "h1:7WJmezL48Bj9bYWnhT/bEJgX5gjT5s7LFdHTqkN25rA="' <<<"$said" || die "this is another FerretDB v1.24.0: $said"
	dir=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$said")
	cp -r "$dir" "$new.tmp/source"
	chmod -R u+w "$new.tmp/source"
	echo v1.24.0 >"$new.tmp/source/build/version/version.txt" # what a checkout generates
	(cd "$new.tmp/source" && CGO_ENABLED=0 GOFLAGS= go build -trimpath -ldflags '-s -w' -o "$1/ferretdb" ./cmd/ferretdb)
}
furnish() {
	install -d -o 1000 -g 1000 state
}
config=(
	--config.entrypoint /ferretdb --config.user ferretdb:ferretdb --config.workingdir /
	--config.env FERRETDB_LISTEN_ADDR=:27017 --config.env FERRETDB_DEBUG_ADDR=:8088
	--config.env FERRETDB_STATE_DIR=/state --config.env FERRETDB_SQLITE_URL=file:/state/
	--config.volume /state
	--config.exposedports 27017/tcp --config.exposedports 27018/tcp --config.exposedports 8088/tcp
)
