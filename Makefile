# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What this needs: make and Python 3.11 or newer. Everything else is fetched into venvs in a cache outside the checkout
# ($RHPDS_LITEMAAS_CACHE, else ~/.cache/rhpds-litemaas), once for every set of pinned requirements.

SHELL := /bin/sh
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:

# A system's python3 may be older than a python3.x beside it.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
ifeq ($(strip $(PYTHON)),)
$(error No Python 3.11 or newer on PATH; set PYTHON=/path/to/python3)
endif

STACK_DIR ?= $(CURDIR)/.stack
# Where "make install" puts the collection, and where it builds it: others for runs beside each other.
COLLECTIONS ?= $(CURDIR)/.stack/collections
BUILD ?= $(CURDIR)/.cache/build
MOLECULE_HOME := $(CURDIR)/.cache/molecule/$(notdir $(STACK_DIR))
VERSION := $(shell sed -n 's/^version: *//p' galaxy.yml)
# Passed on to pytest, ansible-test or molecule: make units ARGS='-k plan'
ARGS ?=

export STACK_DIR
export MAKE
export ANSIBLE_COLLECTIONS_PATH = $(CURDIR)/.cache/tree
# The caller's own settings would make runs differ from one machine to the next.
unexport PYTHONPATH

say = @printf '\n==> %s\n' '$(1)'
use = venv=$$($(PYTHON) tests/tools/venvs.py $(1)); PATH="$$venv/bin:$$PATH"; export PATH
tree = $(PYTHON) tests/tools/collection_tree.py >/dev/null
stack_env = test -f "$(STACK_DIR)/env" || { echo 'No stack runs: make stack-up'; exit 1; }; . "$(STACK_DIR)/env"

.PHONY: help
help: ## Show this
	@echo 'rhpds.litemaas $(VERSION): make TARGET'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

.PHONY: demo
demo: install stack-up ## Set everything up and show the collection at work on a real LiteLLM proxy and PostgreSQL
	$(call say,demo)
	@$(stack_env); ANSIBLE_COLLECTIONS_PATH=$(COLLECTIONS) .venv/bin/python tests/demo/demo.py

.PHONY: test
test: ## Everything but benchmarks, on both LiteLLM versions; what CI runs
	@$(PYTHON) tests/tools/run_all.py

.PHONY: stack-up
stack-up: ## Start PostgreSQL, Redis, a LiteLLM proxy, an upstream and a cluster (LITELLM_VERSION=1.106.0 for the newer one)
	$(call say,stack-up: $(STACK_DIR))
	@$(PYTHON) tests/stack/stack.py up

.PHONY: stack-down
stack-down: ## Stop them
	$(call say,stack-down: $(STACK_DIR))
	@$(PYTHON) tests/stack/stack.py down

.PHONY: prepare
prepare: ## Build or fetch what the stack's cluster needs, ahead of its first start
	$(call say,prepare)
	@$(PYTHON) tests/stack/stack.py prepare

.PHONY: install
install: ## Build the collection and install it for .venv/bin/ansible-playbook, run from this folder
	$(call say,install: the collection in .stack/collections and its programs in .venv)
	@$(call use,main); \
	if [ -d .venv ] && [ ! -L .venv ]; then echo '.venv is not a link made by this target: move it away'; exit 1; fi; \
	[ "$$(readlink .venv)" = "$$venv" ] || ln -sfn "$$venv" .venv; \
	export ANSIBLE_COLLECTIONS_PATH=$(COLLECTIONS); \
	mkdir -p $(BUILD) $(COLLECTIONS); \
	ansible-galaxy collection build --force --output-path $(BUILD) .; \
	$(PYTHON) tests/tools/dependencies.py $(COLLECTIONS); \
	ansible-galaxy collection install --force --offline --collections-path $(COLLECTIONS) \
		$(BUILD)/rhpds-litemaas-$(VERSION).tar.gz

.PHONY: lint
# Tests put fakes where types say a client: running them is their check. Their harness and all tools are typed.
lint: ## Style, types and documentation, quickly: ruff, mypy, ansible-lint, antsibull
	@$(tree)
	@$(call use,lint); \
	for command in \
		'ruff check .' \
		'ruff format --check .' \
		'mypy -p ansible_collections.rhpds.litemaas.plugins' \
		"mypy --exclude /test_[^/]*.py\$$ $(wildcard tests benchmarks)" \
		'antsibull-changelog lint' \
		'antsibull-docs lint-collection-docs --plugin-docs .' \
		'ansible-lint --profile production'; \
	do \
		printf '\n==> %s\n' "$$command"; \
		$$command; \
	done

.PHONY: sanity
sanity: ## ansible-test sanity, no ignore entries (ARGS='--test validate-modules')
	$(call say,sanity)
	@$(PYTHON) tests/tools/sanity.py $(ARGS)

.PHONY: units
units: ## Unit tests on ansible-core 2.16, 2.19 and the newest that installs here (ARGS='-k plan')
	$(call say,units)
	@$(PYTHON) tests/tools/units.py $(ARGS)

.PHONY: integration
# Two proxies on one database: what a replica takes up, and when, is part of what is tested.
integration: export STACK_REPLICAS ?= 2
integration: install stack-up ## Modules, playbooks and the stack itself on the real servers (ARGS='-k keys')
	$(call say,integration)
	@$(tree)
	@$(call use,main); export ANSIBLE_COLLECTIONS_PATH=$(COLLECTIONS); python -m pytest $(or $(ARGS),tests/integration tests/stack)

.PHONY: molecule
# They need no LiteLLM and mostly wait for a cluster: side by side, while the others have the proxy to themselves.
ASIDE = $(sort $(patsubst extensions/molecule/%/molecule.yml,%,$(wildcard extensions/molecule/deploy*/molecule.yml)))
molecule: install stack-up ## Role scenarios, with idempotence, against the same stack (ARGS='--scenario-name models')
	$(call say,molecule)
	@if [ -z '$(wildcard extensions/molecule/*/molecule.yml)' ]; then \
		echo 'NOT RUN: extensions/molecule has no scenario yet'; exit $(if $(wildcard roles/*),1,0); \
	fi; \
	$(call use,main); $(stack_env); \
	[ -t 1 ] || export NO_COLOR=1 ANSIBLE_NOCOLOR=1 PY_COLORS=0; \
	export ANSIBLE_COLLECTIONS_PATH=$(COLLECTIONS) MOLECULE_COMMAND_BORDERS=false ANSIBLE_HOME=$(MOLECULE_HOME); \
	: 'What it remembers of an earlier run, such as that it has prepared, is of another stack.'; \
	rm -rf "$(MOLECULE_HOME)"; \
	if [ -n '$(ARGS)' ]; then exec molecule test $(ARGS); fi; \
	mkdir -p "$(MOLECULE_HOME)"; \
	aside='$(ASIDE)'; others='$(addprefix --exclude ,$(ASIDE))'; \
	grep -q KUBECONFIG "$(STACK_DIR)/env" || { \
		echo "NOT RUN: $$aside vertex: the stack has no cluster"; aside=; others="$$others --exclude vertex"; \
	}; \
	for name in $$aside; do \
		{ molecule test --scenario-name $$name || touch "$(MOLECULE_HOME)/$$name.failed"; } >"$(MOLECULE_HOME)/$$name.log" 2>&1 & \
	done; \
	failed=; \
	molecule test --all $$others || failed=others; \
	wait; \
	for name in $$aside; do \
		cat "$(MOLECULE_HOME)/$$name.log"; \
		[ ! -e "$(MOLECULE_HOME)/$$name.failed" ] || failed="$$failed $$name"; \
	done; \
	[ -z "$$failed" ] || { echo "Scenarios that failed: $$failed"; exit 1; }

.PHONY: bench
bench: install ## Timings side by side with bare clients
	$(call say,bench)
	@ANSIBLE_COLLECTIONS_PATH=$(COLLECTIONS) .venv/bin/python benchmarks/run.py $(ARGS)

# References to pages of the Ansible project cannot be followed offline (ref.ref); "make lint" checks our own.
.PHONY: docs
docs: ## The module and role reference, as HTML in docs/reference/html
	$(call say,docs)
	@$(tree)
	@$(call use,lint); \
	rm -rf docs/reference; mkdir -p docs/reference/rst; \
	antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --dest-dir docs/reference/rst rhpds.litemaas; \
	sphinx-build -q -E -C -D project=rhpds.litemaas -D extensions=sphinx_antsibull_ext -D html_theme=alabaster \
		-D html_show_copyright=0 \
		-D suppress_warnings=ref.ref -d .cache/doctrees docs/reference/rst docs/reference/html; \
	echo "docs/reference/html/index.html"

.PHONY: clean
clean: ## Stop the stack and remove everything generated in the checkout (the cache stays)
	$(call say,clean)
	@for folder in "$(STACK_DIR)" .stack-*; do \
		if [ -d "$$folder" ]; then STACK_DIR="$$folder" $(PYTHON) tests/stack/stack.py down; fi; \
	done
	@rm -rf .stack .stack-* .cache .ansible .mypy_cache .ruff_cache .pytest_cache .hypothesis docs/reference tests/output
	@rm -f .venv
	@find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
