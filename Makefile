# The few commands that a contributor runs. Each installs what it needs on
# Debian and Ubuntu, and names it elsewhere.

GO      ?= go
ARCH    := amd64
GUEST   := guest/build/guest-$(ARCH)
INIT    := guest/build/init-$(ARCH)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

# What is needed: to build the guest, to run, for the demo, and to test.
APT_GUEST := linux-source-6.12 build-essential flex bison bc libelf-dev libssl-dev zstd xz-utils cpio kmod rsync
APT_RUN   := qemu-system-x86
APT_DEMO  := redis-tools
APT_TEST  := qemu-utils qemu-system-common gdisk erofs-utils umoci e2fsprogs skopeo fakeroot maven redis-tools redis-server memcached postgresql-client openjdk-17-jdk-headless python3 procps bash-completion ovmf mtools dosfstools podman runc python3-pip

.PHONY: all guest demo test test-images lint bench soak clean apt-guest apt-run apt-demo apt-test FORCE

# The CLI with the guest embedded: one static binary.
all: guest
	CGO_ENABLED=0 $(GO) build -trimpath -tags embedguest -ldflags '$(LDFLAGS)' -o bin/capstan ./cmd/capstan

# Kernel and PID 1. Nothing is done where no input has changed.
guest: apt-guest $(INIT)
	INIT=$(INIT) guest/kernel/build.sh

$(INIT): FORCE
	@mkdir -p $(@D)
	GOOS=linux GOARCH=$(ARCH) CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o $@ ./guest/init

demo: all apt-run apt-demo
	scripts/demo.sh

test: all lint apt-run apt-test
	guest/kernel/check.sh
	$(GO) test -tags e2e -timeout 40m -p 1 ./...
	$(MAKE) test-images

# Container images from a registry, as old Capstan's users know them, Apache
# Cassandra among them: minutes under TCG, so a step of its own. It tells how
# long each took to pull, to compose, to boot and to answer.
test-images: all apt-run apt-test
	$(GO) test -tags e2e,images -timeout 40m -count 1 -v -run '^(TestContainerImages|TestCassandra)$$' ./test/e2e

# The tests' own programs, whose dependencies the product shall not have; with the
# tags that they are built with.
MODULES := $(patsubst %/go.mod,%,$(wildcard test/*/go.mod))
TAGS    := containers_image_openpgp,containers_image_storage_stub,containers_image_docker_daemon_stub

lint:
	@test -z "$$(gofmt -l .)" || { echo "gofmt these:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e,images ./...
	for module in $(MODULES); do (cd $$module && $(GO) vet -tags $(TAGS) ./...) || exit 1; done
	for os in darwin windows; do for arch in amd64 arm64; do \
		GOOS=$$os GOARCH=$$arch CGO_ENABLED=0 $(GO) vet ./... && \
		GOOS=$$os GOARCH=$$arch CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/capstan || exit 1; \
	done; done

bench: all apt-guest apt-run apt-test
	$(GO) test -run '^$$' -bench Boot -benchtime 15x ./test/bench
	$(GO) test -run '^$$' -bench . -benchtime 1x ./internal/image/erofs ./internal/image ./internal/cloud/ec2 ./internal/cloud/gce
	$(GO) test -run '^$$' -bench 'Pull|Rebuild|Export' -benchtime 3x -timeout 30m ./test/bench

# Longer than the tests: a crowd at once, again and again for a while, and kills
# at random moments, of pushes, too. A failure's seed, which is printed, repeats
# its choices.
SOAK_CROWD ?= 50
SOAK_TIME  ?= 10m
SOAK_KILLS ?= 200
SOAK_ENDS  ?= 50
SOAK_PUSHES ?= 100
soak: all apt-run
	SOAK_CROWD=$(SOAK_CROWD) SOAK_TIME=$(SOAK_TIME) SOAK_KILLS=$(SOAK_KILLS) SOAK_ENDS=$(SOAK_ENDS) SOAK_PUSHES=$(SOAK_PUSHES) SOAK_SEED=$(SOAK_SEED) \
		$(GO) test -tags e2e -timeout 0 -count 1 -v -run '^(TestCrowd|TestKills|TestCloudsWithoutUs|TestKilledPushes)$$' ./test/e2e

apt-guest apt-run apt-demo apt-test: apt-%:
	@scripts/need.sh $(APT_$(shell echo $* | tr a-z A-Z))

clean:
	rm -rf bin guest/build
