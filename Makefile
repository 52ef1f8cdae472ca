# SPDX-License-Identifier: Apache-2.0

# The version that generated files are made with; another one gives another object.
CLANG := 19
VERSION := $(shell git -c safe.directory='$(CURDIR)' describe --tags --always --dirty 2>/dev/null || echo devel)
MULTIARCH := $(shell gcc -print-multiarch 2>/dev/null)

# Where scripts/go.sh puts Go, and where Go installs itself: sudo has a path of its own.
export PATH := $(CURDIR)/.cache/go/bin:$(PATH):/usr/local/go/bin

# Without this, git refuses to serve root in the tree of another user, as in a container
# with the repository mounted; and go, which asks git for the commit, refuses to build.
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)

.DEFAULT_GOAL := build
.PHONY: help go build man demo pictures test test-unit test-root test-fuzz test-cri test-runtimes test-machines test-killers test-pods test-systemd test-power test-survival test-matrix vm-test generate check-generate check-fuzz btf lint setup clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-15s %s\n", $$1, $$2}' Makefile

build: go ## bin/oomtrace; needs nothing but Go, which is fetched if there is none
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/oomtrace ./cmd/oomtrace

man: build ## man pages, in bin/man1
	bin/oomtrace man bin/man1

demo: build ## provoke a real OOM in a scratch cgroup, and explain it (root)
	bin/oomtrace demo

go: # fetch Go if there is none that is new enough
	@scripts/go.sh

setup: go ## install what the tests need (Debian, root)
	scripts/setup.sh
	scripts/trace-processor.sh

test: setup lint check-generate test-unit test-root test-runtimes test-cri test-machines ## all tests (root); installs what they need
	$(MAKE) --no-print-directory -j2 -k test-fuzz vm-test # emulators wait a lot; fuzzing takes what is left

# What needs this machine's kernel, and root; one after the other: each counts kills.
ROOT := ./internal/probe ./internal/host ./internal/tracer ./internal/record ./cmd/oomtrace

test-unit: go ## tests that need neither root nor more than Go; as root, test-root has the rest
	go vet ./...
	go test $(if $(filter 0,$(shell id -u)),$$(go list ./... | grep -v -E '($(subst $() ,|,$(ROOT:./%=/%)))$$'),./...)

test-root: build ## tests on this machine's kernel (root)
	CI=true go test -p 1 -count=1 $(ROOT)
	bin/oomtrace demo > /dev/null
	bin/oomtrace demo -o json > /dev/null

# Target:package of what reads foreign bytes. The kernel's and the runtimes' have longer.
FUZZ := Decode:probe ParsePath:resolve Read:kernellog Prefix:kernellog
FUZZ_SHORT := Spec:resolve/source Diagnose:diagnose Reader:record Parse:timearg Lines:report Files:host Line:kubelet Flags:kubelet Sanitize:phrase Text:view Causes:view ParseStat:sigkill EscapeText:events Identify:program Maps:program ELF:program
FUZZTIME := 30s
FUZZTIME_SHORT := 6s
fuzz = nice go test -run '^$$' -fuzz '^Fuzz$(firstword $(subst :, ,$(1)))$$' -fuzztime $(2) -fuzzminimizetime 20x ./internal/$(lastword $(subst :, ,$(1)))
test-fuzz: go check-fuzz ## fuzz what reads foreign bytes
	$(foreach target,$(FUZZ),$(call fuzz,$(target),$(FUZZTIME)) &&) true
	$(foreach target,$(FUZZ_SHORT),$(call fuzz,$(target),$(FUZZTIME_SHORT)) &&) true

# Without this check a new fuzz test would never run, and a misspelt one would pass: go test
# succeeds where -fuzz matches nothing.
FUZZ_FOUND = $(shell grep -r --include='*_test.go' '^func Fuzz' * | sed -E 's|^internal/(.*)/[^/]*:func Fuzz(\w+).*|\2:\1|; s/ /-/g')
check-fuzz:
	@new="$(filter-out $(FUZZ) $(FUZZ_SHORT),$(FUZZ_FOUND))"; [ -z "$$new" ] || { echo "neither FUZZ nor FUZZ_SHORT lists $$new"; exit 1; }
	@gone="$(filter-out $(FUZZ_FOUND),$(FUZZ) $(FUZZ_SHORT))"; [ -z "$$gone" ] || { echo "FUZZ and FUZZ_SHORT list what no package has: $$gone"; exit 1; }

test-runtimes: build ## real runtimes and a database as victims: advice names their settings (root, Debian)
	OOMTRACE_LAB=1 go test -C test/runtimes -count=1 -timeout 5m .

test-cri: build ## pods on real containerds, old and new (root, Debian, cgroup v1)
	scripts/containerd.sh
	OOMTRACE_LAB=1 go test -C test/node -count=1 -timeout 60m -run '^TestContainerd$$'

# Two run side by side, so each builds in a directory of its own.
test-machines: ## test-killers, test-pods, test-power, test-survival, two machines at a time
	scripts/machine.sh
	$(MAKE) --no-print-directory -j2 -k test-killers test-pods test-power test-survival

test-killers: ## everybody who kills on a node, in a whole Debian: systemd-oomd, earlyoom, sudo, cron
	scripts/machine-test.sh --patience 20m

test-power: ## power cuts of a machine that records
	scripts/vm-test.sh --arch amd64 --kernel 6.12 --power-cuts 5 --work .cache/lab/power

test-survival: ## small machines that run out of memory while tracers watch
	scripts/vm-test.sh --survival --work .cache/lab/survival

test-pods: ## pods on a real containerd in a whole Debian: cgroup v2, memory.oom.group
	scripts/machine-test.sh --pods=cgroupfs --patience 20m

test-systemd: ## the same with systemd as the cgroup driver: slices and scopes; not part of test
	scripts/machine-test.sh --pods=systemd --patience 20m

vm-test: ## real kernels, every case, every tier; three of them once more beside noise
	scripts/vm-test.sh
	scripts/vm-test.sh --noise --arch amd64 --kernel '(6.12|7.3|5.10-v1)'

test-matrix: vm-test ## the same: all kernels run in full

generate: go ## make the generated files again: BPF objects, Go types, the schema
	BPF2GO_CC=clang-$(CLANG) BPF2GO_STRIP=llvm-strip-$(CLANG) \
	BPF2GO_CFLAGS="-O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -mcpu=v3 -fdebug-prefix-map=$(CURDIR)=. -I/usr/include/$(MULTIARCH)" \
		go generate ./bpf ./internal/events

check-generate: generate ## fail if generated files are not those that are committed
	git diff --exit-code -- bpf docs/events.schema.json docs/events.md

btf: ## make the small BTFs of the relocation test anew
	scripts/kernels.sh
	for dir in .cache/kernels/*; do \
		name=$$(basename $$dir); \
		case $$name in arm64-*) object=arm64;; *) object=x86;; esac; \
		bpftool gen min_core_btf $$dir/btf internal/probe/testdata/btf/$$name.btf bpf/oomtrace_$${object}_bpfel.o bpf/stalls_$${object}_bpfel.o || exit; \
	done

pictures: go ## make the pictures in docs/ anew, of the HTML report and of top (Chromium, pngquant)
	go test ./internal/report -count=1 -run '^TestScreenshots$$' -update

# Blank lines between the steps of a function: wsl without its two strictest rules.
WSL := github.com/bombsimon/wsl/v5/cmd/wsl@v5.9.0
lint: go check-fuzz ## formatting: gofmt, width, paragraphs; that test-fuzz has every fuzz test
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change: $$out"; exit 1; }
	@git ls-files '*.go' '*.[ch]' '*.sh' .ci/run | grep -v -E '_bpfel\.go$$|^bpf/wire\.go$$|/testdata/' | LC_ALL=C xargs awk -f scripts/long-lines.awk
	go run $(WSL) -disable decl,assign ./...

clean: ## remove what was built, not what was downloaded
	rm -rf bin .cache/lab
