# obo-relay: `make` alone lists the targets.

GO        ?= go
GOFLAGS   ?=
BIN       := bin
VERSION   ?= 0.1.0
LDFLAGS   := -s -w -X github.com/obo-relay/obo-relay/relay/version.linked=v$(VERSION)
RELEASE   := -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TOOL      := $(GO) tool -modfile=deploy/tools/go.mod
COMMANDS  := ./publisher/cmd/obo-publisher ./worker/cmd/obo-worker ./deploy/cmd/obo-broker ./deploy/cmd/obo-doctor ./deploy/cmd/obo
FUZZTIME  ?= 20s
FUZZED    := relay publisher worker
BENCHTIME ?= 9x

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## static binaries in bin/
	CGO_ENABLED=0 $(GO) build $(RELEASE) -o $(BIN)/ $(COMMANDS)
	@ls -l $(BIN)/obo* | awk '{ printf "  %-18s %5.1f MB\n", $$NF, $$5 / 1e6 }'

.PHONY: demo
demo: ## the whole story on this machine, checked line by line, in a few seconds
	@$(GO) run ./deploy/cmd/obo demo

.PHONY: up
up: ## the same, staying, with a page to click through
	@$(GO) run ./deploy/cmd/obo up

.PHONY: test
test: ## every test; many wait more than they work, so twice as many packages at once as there are processors
	$(GO) test -p "$$((2 * $$(getconf _NPROCESSORS_ONLN)))" ./...

.PHONY: race
race: ## every test under the race detector (needs a C compiler)
	$(GO) test -race ./...

# A run that ends in "context deadline exceeded" and no failing input met go.dev/issue/75804, which Go 1.27 mends.
.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (20s), one a processor
	@mkdir -p .cache/fuzz
	@for p in $(FUZZED); do $(GO) test -c -vet=off -fuzz=. -o .cache/fuzz/$$p.test ./$$p || exit 1; done
	@grep -o '^func Fuzz[A-Za-z0-9]*' $(FUZZED:%=%/*_test.go) | sed 's|/.*:func | |' | xargs -P "$$(getconf _NPROCESSORS_ONLN)" -n 2 sh -c '\
	  cd $$0 && if out=$$(../.cache/fuzz/$$0.test -test.run "^$$" -test.fuzz "^$$1$$" -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 1s -test.parallel 1 \
	    -test.fuzzcachedir "$(CURDIR)/.cache/fuzz/corpus/$$0" 2>&1) || { echo "$$out" | grep -q "^ *context deadline exceeded" && ! echo "$$out" | grep -q "Failing input"; }; \
	  then printf "%-10s%-24s%s\n" $$0 $$1 "$$(echo "$$out" | grep -o "execs: [0-9]*" | tail -1)"; else echo "$$0 $$1"; echo "$$out"; exit 1; fi'

.PHONY: vectors
vectors: ## a second implementation's reader, in Python from PROTOCOL.md, through all vectors (needs Python and a package index)
	@test -x .cache/vectors/bin/python || python3 -m venv .cache/vectors || { echo "make vectors: needs python3 with venv (Debian: apt install python3-venv)"; exit 1; }
	@.cache/vectors/bin/python -m pip install --quiet --disable-pip-version-check -r relay/testdata/python/requirements.txt
	@.cache/vectors/bin/python -B relay/testdata/python/vectors.py

.PHONY: bench
bench: build ## the relay beside what it replaces, in one run, as ratios; draws deploy/assets/bench.svg
	$(GO) test ./deploy/bench -run '^$$' -bench Library -benchtime $(BENCHTIME)
	OBO_BIN="$(CURDIR)/$(BIN)" OBO_BENCH_SVG="$(CURDIR)/deploy/assets/bench.svg" $(GO) test ./deploy/bench -run '^$$' -bench 'FullPath|Around|Start' -benchtime 3x

.PHONY: verify
verify: reproducible vulnerabilities ## formatting, vet, staticcheck, tidiness, what may import what, dependencies, licences, and the two below
	@test -z "$$(gofmt -l .)" || { echo "gofmt -l:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) test -count=1 ./deploy/verify/...

MUTANTS   ?=

.PHONY: mutants
mutants: ## every promise's defences taken out, one at a time: does a test notice? (MUTANTS=REGEX for some; not part of CI)
	@$(GO) run ./deploy/verify/mutants '$(MUTANTS)'

.PHONY: reproducible
reproducible: ## the same sources in two places give the same binaries, byte for byte
	@rm -rf .cache/twice && mkdir -p .cache/twice/one .cache/twice/another/place
	@for d in one another/place; do git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -xf - -C .cache/twice/$$d; \
	  (cd .cache/twice/$$d && CGO_ENABLED=0 GOFLAGS= $(GO) build $(RELEASE) -o bin/ $(COMMANDS)); done
	@cd .cache/twice && for b in one/bin/*; do cmp $$b another/place/bin/$${b##*/} || { echo "$${b##*/} is not the same when it is built elsewhere"; exit 1; }; done; \
	  echo "built twice, in different folders, the same:"; cd one/bin && sha256sum * 2>/dev/null || shasum -a 256 *
	@rm -rf .cache/twice

.PHONY: vulnerabilities
vulnerabilities: ## what is known against the dependencies, where the database can be asked
	@out=$$($(TOOL) govulncheck ./... 2>&1); status=$$?; case $$status in \
	  0) echo "$$out" | tail -3;; \
	  3) echo "$$out"; exit 1;; \
	  *) if echo "$$out" | grep -q 'fetching vulnerabilities'; \
	     then echo "NOT CHECKED for known vulnerabilities: the database cannot be reached"; echo "$$out" | tail -3; \
	     else echo "$$out"; exit 1; fi;; esac

PLATFORM  ?=
PACK      = $(GO) run ./deploy/wheels --version $(VERSION) --out $(BIN)/dist $(addprefix --platform ,$(PLATFORM))

.PHONY: wheels
wheels: ## Python wheels in bin/dist/, of VERSION (0.1.0) and for PLATFORM (all; for apps linux/amd64 will do)
	@$(PACK)

.PHONY: dist
dist: ## tarballs with all commands, beside them
	@$(PACK) --tarballs

PYTHON    := .cache/python/bin/python

.PHONY: python
python: ## the Python module: types, and tests with the real frameworks (needs Python and a package index)
	@test -x $(PYTHON) || python3 -m venv .cache/python
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement deploy/python/requirements.txt
	cd deploy/python && "$(CURDIR)/$(PYTHON)" -m mypy --strict --cache-dir "$(CURDIR)/.cache/mypy" obo_relay
	cd deploy/python && "$(CURDIR)/$(PYTHON)" -B -W ignore -m unittest test_obo_relay test_frameworks

.PHONY: e2e
e2e: PLATFORM := $(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH)
e2e: wheels ## the real Streamlit and FastAPI apps in real browsers (installs what it needs; Python and a package index)
	@mkdir -p .cache/e2e
	OBO_E2E_DIR="$(CURDIR)/.cache/e2e" OBO_WHEELS="$(CURDIR)/$(BIN)/dist" $(GO) test -vet=off ./deploy/apps -count=1 -run TestE2E -v

.PHONY: browser
browser: ## a page in a real Chromium attacks a real sidecar (as root, apt-get installs Chromium where it is missing)
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
	  { echo "make browser: there is no chromium here, and installing it needs root and apt-get"; exit 1; }
	OBO_CHROMIUM="$$(command -v chromium)" $(GO) test ./deploy/browser -count=1 -v

.PHONY: memory
memory: ## what stays of tokens in the processes' memory, measured over six minutes (Linux, as root)
	OBO_MEMORY=1 $(GO) test ./deploy/memory -count=1 -v -timeout 20m
