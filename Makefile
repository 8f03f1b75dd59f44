# Everything here works with Go and make alone. `make run` and `make test` use the Postgres that DATABASE_URL names; when
# it is not set they start a private one: see internal/localpg.

SHELL := /bin/sh
.DEFAULT_GOAL := help

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
SQLC          := github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1
CYCLONEDX     := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

# TESTFLAGS are flags for go test, PACKAGES what it tests, ARGS arguments for make run.
TESTFLAGS ?=
PACKAGES  ?= ./...
ARGS      ?=

# What --version and daybook_build_info say. Go itself does not ask git: it fails when git distrusts the owner of the checkout, and without git it would
# make other bytes of the same commit.
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION   ?= $(shell git rev-parse HEAD 2>/dev/null)$(if $(filter %-dirty,$(VERSION)),-dirty)
BUILD_INFO  = -X daybook/internal/build.version=$(VERSION) -X daybook/internal/build.revision=$(REVISION)

# Only the race detector needs a C compiler. The tools build without one too, and faster.
export CGO_ENABLED = 0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The built program takes the place of the shell, so a Ctrl-C reaches it and make reports what it says.
.PHONY: run
run: ## run everything against demo data
	@go build -buildvcs=false -o bin/demo ./internal/cmd/demo && exec bin/demo $(ARGS)

.PHONY: test
test: bin/withpg ## run the tests with the race detector (TESTFLAGS, PACKAGES)
	@compiles() { echo '#include <stdlib.h>' | $$(CGO_ENABLED=1 go env CC) -E - >/dev/null 2>&1; }; \
	if ! compiles && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'The race detector needs a C compiler: installing gcc and libc6-dev.'; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get -q update >/dev/null && \
		apt-get -q install -y --no-install-recommends gcc libc6-dev </dev/null >/dev/null || \
		echo 'The installation failed.'; \
	fi; \
	if compiles; then \
		export CGO_ENABLED=1; exec bin/withpg -- go test -race $(TESTFLAGS) $(PACKAGES); \
	fi; \
	bin/withpg -- go test $(TESTFLAGS) $(PACKAGES); code=$$?; \
	echo; \
	echo '*** The tests ran WITHOUT the race detector, because there is no C compiler.'; \
	echo '*** Install one (on Debian: apt-get install gcc libc6-dev) and run make test again.'; \
	exit $$code

# They make clusters of their own, so they need server binaries on this machine, which DATABASE_URL cannot give.
.PHONY: test-cluster
test-cluster: ## run the tests with several servers: a hot standby
	@go test -tags cluster -run '^TestStandby' ./internal/httpapi

# It runs programs of Prometheus of its own; where they are not installed, Debian's packages are unpacked and not installed.
.PHONY: test-ops
test-ops: build ## run the tests of rules, alerts, dashboard and runbook, with a real Prometheus
	@PATH=$$PATH:$$PWD/bin/prometheus/usr/bin; \
	if ! command -v promtool >/dev/null || ! command -v prometheus >/dev/null || ! command -v amtool >/dev/null; then \
		echo "Tests need Prometheus and Alertmanager; unpacking Debian's packages."; \
		mkdir -p bin/prometheus && cd bin/prometheus && \
		{ apt-get -q download prometheus prometheus-alertmanager >/dev/null 2>&1 || \
			{ apt-get -q update >/dev/null && apt-get -q download prometheus prometheus-alertmanager >/dev/null; }; } && \
		for package in *.deb; do dpkg -x "$$package" . || exit 1; done && cd ../.. || exit 1; \
	fi; \
	go test -tags ops -count 1 -timeout 15m ./internal/ops

.PHONY: check-deploy
check-deploy: ## parse the files of deploy/ with the code of Kubernetes, Compose and BuildKit, and with systemd-analyze
	@deploy/check.sh

# The fault suite makes clusters of its own too. CHAOSFLAGS are flags of go test and of the suite: see docs/reliability.md.
.PHONY: chaos
chaos: build ## run the fault suite; about an hour, with CHAOSFLAGS=-short some minutes
	@missing=; \
	ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing=libfaketime; \
	PATH=$$PATH:/usr/sbin command -v pgbouncer >/dev/null || missing="$$missing pgbouncer"; \
	if [ "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Tests need what is not there; installing $$missing."; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get -q update >/dev/null && apt-get -q install -y --no-install-recommends $$missing </dev/null >/dev/null || \
		echo 'The installation failed.'; \
	fi
	@go test -tags chaos -count 1 -timeout 0 -v ./internal/chaos $(CHAOSFLAGS)

# BENCHFLAGS are flags for the bench: see bin/bench --help.
.PHONY: bench
bench: bin/withpg build ## measure Daybook beside what it is compared with; some twenty minutes (BENCHFLAGS)
	@go build -buildvcs=false -o bin/bench ./internal/cmd/bench && exec bin/withpg --durable -- bin/bench $(BENCHFLAGS)

.PHONY: bench-api
bench-api: ## measure each endpoint of the api beside pgbench with the same SQL: the part read of bench (BENCHFLAGS)
	@$(MAKE) --no-print-directory bench BENCHFLAGS='--only read $(BENCHFLAGS)'

.PHONY: bench-docs
bench-docs: ## measure, and write what was measured into docs/performance.md with a picture (BENCHFLAGS)
	@$(MAKE) --no-print-directory bench BENCHFLAGS='--write docs/performance.md $(BENCHFLAGS)'

# The same commit makes the same bytes: nothing in an archive depends on when and where it is made. Files have the time of the commit, or
# SOURCE_DATE_EPOCH where there is no repository. An SBOM is that of the binary of its platform, with the standard library; the time at which
# it was made is taken out. It names the program that made it by checksum, so SBOMs are the same only on one kind of machine.
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

.PHONY: release
release: ## build archives for all platforms in dist/, with checksums and SBOMs (VERSION, PLATFORMS, SOURCE_DATE_EPOCH)
	@set -e; \
	epoch=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || true)}; \
	if [ -z "$$epoch" ]; then \
		echo 'There is no commit to take the time from: set SOURCE_DATE_EPOCH, in seconds since 1970.' >&2; exit 1; \
	fi; \
	rm -rf dist; mkdir -p dist bin; \
	go build -buildvcs=false -o bin/archive ./internal/cmd/archive; \
	GOBIN=$$PWD/bin go install $(CYCLONEDX); \
	for platform in $(PLATFORMS); do \
		export GOOS=$${platform%/*} GOARCH=$${platform#*/}; \
		name=daybook_$(VERSION)_$${GOOS}_$$GOARCH; \
		mkdir dist/$$name; \
		go build -trimpath -buildvcs=false -ldflags '-s -w $(BUILD_INFO)' -o dist/$$name ./cmd/worker ./cmd/api; \
		{ git ls-files README.md LICENSE CHANGELOG.md docs deploy 2>/dev/null || \
			find README.md LICENSE CHANGELOG.md docs deploy -path deploy/compose/secrets -prune -o -type f ! -name .env -print; } >dist/files; \
		grep -v '\.go$$\|^deploy/check' dist/files | while read -r file; do \
			mkdir -p "dist/$$name/$$(dirname "$$file")" && cp "$$file" "dist/$$name/$$file" || exit 1; \
		done; \
		bin/archive --time="$$epoch" dist/$$name; \
		for main in worker api; do \
			bin/cyclonedx-gomod bin -json -licenses -std -noserial -version $(VERSION) -output dist/bom dist/$$name/$$main 2>dist/log || { cat dist/log >&2; exit 1; }; \
			sed '/^ *"timestamp": /d' dist/bom >dist/$${name}_$$main.cdx.json; \
		done; \
		rm -r dist/$$name; \
		echo dist/$$name.tar.gz; \
	done; \
	rm dist/bom dist/files dist/log; cd dist; \
	if command -v sha256sum >/dev/null; then sha256sum *.tar.gz *.cdx.json; else shasum -a 256 *.tar.gz *.cdx.json; fi >checksums.txt

.PHONY: lint
lint: ## check the code with golangci-lint
	@go run $(GOLANGCI_LINT) run

.PHONY: generate
generate: ## write the Go code of the queries
	@go run $(SQLC) generate

.PHONY: check-generated
check-generated: ## fail when the Go code of the queries is not current
	@go run $(SQLC) diff

.PHONY: build
build: ## build bin/worker and bin/api
	go build -trimpath -buildvcs=false -ldflags '$(BUILD_INFO)' -o bin/ ./cmd/worker ./cmd/api

.PHONY: clean
clean: bin/withpg ## remove the private Postgres with its data, and what was built
	@bin/withpg --remove .
	@rm -rf bin dist .daybook coverage.*

# Go knows what is out of date.
.PHONY: bin/withpg
bin/withpg:
	@go build -buildvcs=false -o $@ ./internal/cmd/withpg
