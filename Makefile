# `make help` lists the targets; README.md explains them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
READY := $(VENV)/.ready
WORKFLOWS := $(wildcard .github/workflows/*.yml)
# Third-party programs that load and convert models; only test-clients and bench need them.
CLIENTS := .venv-clients
CLIENTS_READY := $(CLIENTS)/.ready
# Older TensorFlow versions, each in its own environment; .venv-clients has the newest.
OLDER := 2.16 2.18
OLDER_READY := $(OLDER:%=.venv-tensorflow-%/.ready)

# A directory, an http://, https:// or gs:// address, or `synthetic`; empty: upstream.
WEIGHTS ?=
# Globs over handles, for example ONLY='*_224_* *_160_*'; empty: all.
ONLY ?=
RELEASE ?= dist
# Destinations of models.yaml besides the release directory, for example TO='bucket kaggle'; '*': all.
TO ?=
# What to verify: an archive, a handle, or the address of one; empty: the whole release.
WHAT ?=
# A folder of release directories that were built elsewhere, to publish those; empty: build.
PARTS ?=
# How `make sign` signs, for example SIGN='--key key.pem'; empty: as the workflow that runs.
SIGN ?=
# For `make review`: the output of `make pages` without the change.
BEFORE ?=
# For `make reproduce`: the variant, as a number; count up from one call to the next.
NUMBER ?= 0
BUILD ?= build
SITE ?= $(BUILD)/site
FLAGS ?=

globs = $(foreach glob,$(ONLY),'$(glob)')
to = $(foreach name,$(TO),--to '$(name)')
built = $(if $(PARTS),--built '$(PARTS)')
work = --build-dir '$(BUILD)' $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(FLAGS)

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Create the target's virtual environment with the packages that the first prerequisite pins, for
# one of these Pythons: $(call environment,3.11 3.12).
define environment
@case ' $(1) ' in *" $$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') "*) ;; *) \
  echo "error: $(PYTHON) is none of Python $(1); name one: make PYTHON=python3.12 ..." >&2; exit 2;; esac
$(PYTHON) -m venv --clear $(@D)
$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
endef

# Install the project itself in that environment.
define project
$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endef

$(READY): requirements.lock pyproject.toml
	$(call environment,3.11 3.12 3.13)
	$(project)
	@touch $@

$(CLIENTS_READY): requirements-clients.lock pyproject.toml
	$(call environment,3.11 3.12 3.13)
	$(project)
	@touch $@

$(OLDER_READY): .venv-tensorflow-%/.ready: requirements-tensorflow-%.lock
	$(call environment,3.11 3.12)
	@touch $@

.PHONY: install
install: $(READY) ## Create .venv with the packages that requirements.lock pins.

.PHONY: publish-all
publish-all: $(READY) ## Build and publish all variants (WEIGHTS=, ONLY=, RELEASE=, TO=, BUILD=, PARTS=, FLAGS=).
	@$(RUN) publisher publish $(work) --release '$(RELEASE)' $(built) $(to) $(globs)

.PHONY: plan
plan: $(READY) ## Show what publish-all would do; the same variables.
	@$(RUN) publisher plan $(work) --release '$(RELEASE)' $(to) $(globs)

.PHONY: publish-small
publish-small: $(READY) ## Build all variants with small stand-ins of their networks, into build/small.
	@$(RUN) publisher ci stand-ins --output '$(BUILD)/small'
	@$(RUN) publisher publish --registry '$(BUILD)/small/models.yaml' --weights synthetic \
	  --build-dir '$(BUILD)/small/build' --release '$(BUILD)/small/dist' $(FLAGS) $(globs)

.PHONY: pull
pull: $(READY) ## Copy the release of the first of TO= here, to continue from it (RELEASE=, PARTS=).
	@$(RUN) publisher ci pull --build-dir '$(BUILD)' --release '$(RELEASE)' $(built) \
	  $(foreach name,$(TO),--from '$(name)')

.PHONY: sign
sign: $(READY) ## Sign the release (RELEASE=, SIGN=).
	@$(RUN) publisher sign $(or $(SIGN),--sigstore) --release '$(RELEASE)'

.PHONY: pages
pages: $(READY) ## Render the release's pages again, with these templates (RELEASE=, BUILD=).
	@$(RUN) publisher ci pages --release '$(RELEASE)' --output '$(BUILD)/pages'

.PHONY: review
review: $(READY) ## Describe in Markdown what publishing would change (RELEASE=, BEFORE=, TO=, FLAGS=).
	@$(RUN) publisher ci review $(FLAGS) --build-dir '$(BUILD)' --release '$(RELEASE)' \
	  $(if $(BEFORE),--before '$(BEFORE)') $(to) $(globs)

.PHONY: reproduce
reproduce: $(READY) ## Build one published variant again and compare all bytes (RELEASE=, NUMBER=).
	@handle=$$($(RUN) publisher ci next-to-rebuild --release '$(RELEASE)' '$(NUMBER)') \
	  && $(RUN) publisher verify $(FLAGS) --rebuild --release '$(RELEASE)' "$$handle"

.PHONY: rehearse-release
rehearse-release: $(READY) ## Run the release workflow here, without GitHub (WEIGHTS=, ONLY=, TO=, FLAGS=).
	@$(RUN) publisher ci rehearse --work '$(BUILD)/rehearsal' $(if $(WEIGHTS),--weights '$(WEIGHTS)') \
	  $(to) $(FLAGS) $(globs)

.PHONY: list
list: $(READY) ## List the variants of models.yaml.
	@$(RUN) publisher list $(globs)

.PHONY: serve
serve: $(READY) ## Serve the release to browsers and hub.load (RELEASE=, FLAGS='--port 8080').
	@$(RUN) publisher serve $(FLAGS) --release '$(RELEASE)'

.PHONY: site
site: $(READY) ## Write the release's pages as files for any web host (RELEASE=, SITE=, FLAGS=).
	@$(RUN) publisher site $(FLAGS) --release '$(RELEASE)' --output '$(SITE)'

.PHONY: verify
verify: $(READY) ## Prove what can be proved about a download (WHAT=, RELEASE=, FLAGS=--rebuild).
	@$(RUN) publisher verify $(FLAGS) --release '$(RELEASE)' $(if $(WHAT),'$(WHAT)')

# One pytest process per core, but no more than four: with TensorFlow, each may need 3 GB. pytest
# caches its rewritten tests even if the shell forbids compiled files; rewriting takes seconds.
SPREAD := --numprocesses=logical --maxprocesses=4 --dist=worksteal
test test-quick test-all: export PYTHONDONTWRITEBYTECODE :=

# Tests that need neither TensorFlow nor a built model.
QUICK := $(addprefix tests/,util documents registry weights pages release families/test_families.py \
  families/bit/test_layout.py families/bit/test_reference.py build/test_build.py \
  build/test_engine.py build/test_records.py)

.PHONY: test
test: $(READY) ## Run every test that needs only .venv.
	@echo 'Every test that needs only .venv: 5 to 15 minutes on two cores, depending on their speed.'
	@$(RUN) pytest $(SPREAD)

.PHONY: test-quick
test-quick: $(READY) ## Run the tests that need no TensorFlow.
	@echo 'The tests that need no TensorFlow: about a minute on two cores.'
	@$(RUN) pytest $(SPREAD) --without-tensorflow $(QUICK)

.PHONY: test-all
test-all: $(READY) ## Run every test.
	@echo 'Every test, with every case, in three environments: far longer than make test.'
	@$(RUN) pytest $(SPREAD) -m 'not browser and not clients'
	@$(MAKE) test-clients
	@$(MAKE) test-browser

.PHONY: test-clients
test-clients: $(CLIENTS_READY) $(OLDER_READY) ## Test models with every client, in .venv-clients.
	@echo 'Models in other programs, and in older versions of TensorFlow: longer than make test.'
	@$(CLIENTS)/bin/python -m pytest -m '' tests/clients tests/families/bit/test_jax_form.py \
	  tests/verify/test_cross_check.py tests/benchmarks/test_runtimes.py

chromium = command -v chromium >/dev/null && command -v chromedriver >/dev/null

.PHONY: test-browser
test-browser: $(READY) ## Test the hub's pages with Chromium and axe-core.
	@echo "The hub's pages in Chromium: about 2 minutes on two cores."
	@$(chromium) || { echo "error: Debian's chromium and chromium-driver are missing; install them as root: make browser" >&2; exit 2; }
	@$(RUN) pytest -m browser tests/browser

.PHONY: browser
browser: ## Install Debian's Chromium for test-browser (as root).
	@$(chromium) || { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends chromium chromium-driver fonts-liberation; }

.PHONY: lint
lint: $(READY) ## Check format, lint, types, layers and workflows.
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/actionlint $(WORKFLOWS)
	@$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows $(WORKFLOWS)
	@$(VENV)/bin/zizmor --offline --quiet $(WORKFLOWS)

.PHONY: format
format: $(READY) ## Format the code and fix lint errors.
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

.PHONY: bench
bench: $(READY) $(CLIENTS_READY) ## Measure against the notebook's route (FLAGS=--quick: fewer repetitions).
	@$(RUN) benchmarks $(FLAGS)

.PHONY: bench-serving
bench-serving: $(READY) ## Measure the hub under load (FLAGS=--quick: a first look).
	@$(RUN) benchmarks.serving $(FLAGS)

.PHONY: schema
schema: $(READY) ## Regenerate models.schema.json and docs/schemas.
	@$(RUN) publisher.registry.schema
	@$(RUN) publisher.documents.schema

.PHONY: clean
clean: ## Remove build/, but no release and no environment.
	rm -rf '$(BUILD)'
