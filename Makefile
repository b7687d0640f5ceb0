# What a developer does with this checkout. `make help` lists it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHON := .venv/bin/python
# Images and unpacked trees are large; /tmp may be memory.
export TMPDIR ?= /var/tmp
# Tests at once. More than the processors there are makes time limits of tests fail.
JOBS ?= 2
# Everything random in the tests starts from this number; give it again to see a failure again.
ifndef SEED
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
# More arguments for pytest, such as ARGS="-k revert".
ARGS ?=
SHELL_SCRIPTS := .ci/run $(wildcard tools/*.sh)
# What runs on a client under busybox.
CLIENT_SCRIPTS := $(wildcard src/ltsp/initrd/client/*)

# Of the caller's environment tests see what is named here alone: a PYTHONUNBUFFERED or a locale would hide faults.
# Proxies, certificates and pip's index are for those that install packages.
KEPT := HOME USER LOGNAME SHELL TERM TMPDIR http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY \
    SSL_CERT_FILE REQUESTS_CA_BUNDLE PIP_CERT PIP_CONFIG_FILE PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_PROXY
CLEAN := env -i $(foreach name,$(KEPT),$${$(name)+"$(name)=$$$(name)"}) LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PYTEST = $(CLEAN) $(MORE) LTSP_SEED=$(SEED) $(PYTHON) -m pytest --hypothesis-seed=$(SEED)
# Without root there are no mounts, devices or owners to test with.
GATE := not torture and not slow
ifneq ($(shell id -u),0)
GATE := $(GATE) and not root
endif
# A machine that boots has the processors to itself.
BOOTS = $(PYTEST) --timeout=1200
# With ARGS="-k revert" there may be no boot among the tests.
NONE_CHOSEN = || [ $$? -eq 5 -a -n "$(ARGS)" ]

.PHONY: help setup root demo test test-all boot slow bench bench-boot bench-sources torture lint format lock man clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## install packages and the virtual environment; all other targets begin with it
	@tools/setup.sh

root: setup ## make a small Debian or Ubuntu root in build/ for tests and benchmarks
	@$(PYTHON) -m tools.debian_root

demo: setup ## from an empty folder to a published image that a machine boots
	@PYTHONPATH=tests $(PYTHON) -m tools.demo

test: lint root ## the gate: lint, types, and every test but the long ones
	@echo "test: seed $(SEED)$(if $(findstring not root,$(GATE)),; not root: what needs root is left out)"
	@$(PYTEST) -n $(JOBS) --dist worksteal -m "$(GATE) and not boot" $(ARGS) $(NONE_CHOSEN)
	@echo "test: booting machines, one after the other"
	@$(BOOTS) -m "$(GATE) and boot" $(ARGS) $(NONE_CHOSEN)

test-all: test slow torture ## the gate, the other boots, and the torture tests at their full numbers

boot: root ## all tests that boot a machine, one after the other
	@echo "boot: seed $(SEED)"
	@$(BOOTS) -m "boot and not torture" $(ARGS)

slow: root ## machines that the gate does not boot: other firmware, initrds, servers and menus
	@echo "slow: seed $(SEED)"
	@$(BOOTS) -m "slow and not torture" $(ARGS)

torture: MORE := LTSP_TORTURE=1
torture: root ## each promise of docs/reliability.md at its full number; takes hours
	@echo "torture: seed $(SEED)"
	@$(PYTEST) -n $(JOBS) --dist worksteal -m torture --timeout=14400 $(ARGS)

bench: root ## time, size and memory, compared with the installed mksquashfs
	@PYTHONPATH=tests $(PYTHON) -m bench $(ARGS)

bench-sources: root ## what a build costs from disks and archives, compared with a directory
	@PYTHONPATH=tests $(PYTHON) -m bench.sources $(ARGS)

bench-boot: root ## seconds and bytes from power-on to login, by each transport
	@PYTHONPATH=tests $(PYTHON) -m bench.boots $(ARGS)

lint: setup ## ruff, mypy and shellcheck
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check --quiet
	@.venv/bin/mypy
	@shellcheck $(SHELL_SCRIPTS)
	@shellcheck --shell=sh $(CLIENT_SCRIPTS)

format: setup ## let ruff format the code and fix what it can
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

lock: setup ## resolve requirements/*.txt again from pyproject.toml
	@$(PYTHON) -m tools.lock

man: setup ## write manual pages and completions to build/share
	@$(PYTHON) -m tools.share build/share

clean: ## remove what these targets made, except the root file systems in demo/ and build/
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	@find . -name __pycache__ -prune -exec rm -rf {} +
