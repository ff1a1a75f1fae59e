# Holdfast. Long recipes are in scripts/. `make` alone lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# runtime/secret wipes keys from memory; it works on linux/amd64 and linux/arm64 and
# compiles to plain calls elsewhere.
export GOEXPERIMENT := runtimesecret

# Lint tool, pinned: v0.7.0 is release 2026.1.
export STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

FUZZTIME ?= 1m
DEMO_DIR ?= demo-out

.PHONY: help build check test test-long demo bench fuzz clean

## help       list the targets
help:
	@sed -n 's/^## /  make /p' $(MAKEFILE_LIST)

## build      cross-compile every program for every system into dist/<os>-<arch>/
build:
	@scripts/build.sh all

## check      gofmt, vet, staticcheck, import rules, go test -race; for any laptop
check:
	@scripts/test.sh check

## test       install what is missing, then everything, also under qemu as arm64 and arm
test:
	@scripts/test.sh test

## test-long  the long batteries (HOLDFAST_LONG=1); takes hours
test-long:
	@HOLDFAST_LONG=1 scripts/test.sh long

## demo       a whole flight, from keys to opened records, in DEMO_DIR (default demo-out)
demo:
	@scripts/demo.sh "$(DEMO_DIR)"

## bench      Go benchmarks, then the whole program against its goals
bench:
	@go test -run '^$$' -bench . -benchmem ./mavlink/... ./crypto/seal/... ./storage/...
	@if [ -e scripts/bench.sh ]; then bash scripts/bench.sh; else echo "scripts/bench.sh is not there: whole-program figures left out"; fi

## fuzz       every fuzz target for FUZZTIME each (default 1m)
fuzz:
	@scripts/fuzz.sh "$(FUZZTIME)"

## clean      remove dist/
clean:
	@rm -rf dist
