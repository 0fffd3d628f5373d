# The commands of this repository. Each one is a tool that also runs by itself; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euc
VERSION ?= $(shell sed -n 's|^prefect_version: *"*\([0-9.]*\).*|\1|p' roles/common/defaults/main.yml)

# The virtual environment's tools come first, and shims of version managers not at all: ansible-test trips over them.
export PATH := $(CURDIR)/.venv/bin:$(shell tr : '\n' <<<"$$PATH" | grep -v '/shims$$' | paste -sd :)
# Ansible and molecule keep their own files here too, not in the home folder.
export ANSIBLE_HOME := $(CURDIR)/build/ansible-home
playbook := ansible-playbook -i inventories/lab
# A file's tests stay in one process, since they share what they start. In the order of the folders the longest begin first.
side_by_side := pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder
# A test that hangs prints where, and ends its process; the other one goes on.
side_by_side += --max-worker-restart=0 -o faulthandler_timeout=1200 -o faulthandler_exit_on_timeout=true

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: venv
venv: ## Make the virtual environment from pinned requirements
	@tools/venv

.PHONY: demo
demo: venv ## From a bare machine to a running, proven cluster at https://127.0.0.1:4200
	@python tools/demo.py demo

.PHONY: demo-ha
demo-ha: venv ## The same of the inventory that survives the loss of any host: eight hosts at https://172.28.30.100:4200
	@python tools/demo.py demo-ha

.PHONY: test
test: export PREFECT_TEST_RELEASES := $(CURDIR)/build/test-releases
test: venv ## Everything that CI runs
	@tools/need shellcheck systemd-analyze=systemd ip=iproute2 nft=nftables
	tools/host-image
	# Of this run alone.
	rm -rf "$$PREFECT_TEST_RELEASES"
	# Each is run whatever the one before said.
	failed=0; $(side_by_side) -m 'not containers' || failed=$$?
	# One process for each lane of tests/scenarios.
	pytest --numprocesses=3 --dist=loadgroup -m 'containers and not alone' || failed=$$?
	pytest -m 'containers and alone' || failed=$$?
	exit $$failed

.PHONY: test-full
test-full: export PREFECT_TEST_FULL := 1
test-full: test ## And the long scenarios: rollback, drills, monitoring, every alert from its cause to its end

.PHONY: test-matrix
test-matrix: export PREFECT_TEST_MATRIX := 1
test-matrix: venv ## The collection with each ansible-core of requirements/, on each Python of this machine
	@tools/need shellcheck systemd-analyze=systemd ip=iproute2 nft=nftables
	pytest tests/collection/test_ansible_versions.py

.PHONY: test-fast
test-fast: venv ## What needs no container and little time
	@tools/need shellcheck systemd-analyze=systemd ip=iproute2 nft=nftables
	$(side_by_side) -m 'not containers and not slow'

.PHONY: lint
lint: venv ## Only the linters
	@tools/need shellcheck systemd-analyze=systemd ip=iproute2 nft=nftables
	pytest tests/quality

.PHONY: docs
docs: venv ## Write the pages that are made from the argument specs
	@python tools/generate_docs.py

.PHONY: docs-site
docs-site: venv ## The documentation as a web site, in build/docs-site
	@python tools/docs_site/build.py

.PHONY: dashboards
dashboards: venv ## Write Grafana's dashboards from their sources
	@python tools/generate_dashboards.py

.PHONY: lock
lock: venv ## Lock another Prefect release: make lock VERSION=3.8.8
	@python tools/lock.py $(VERSION)

.PHONY: lock-dev
lock-dev: venv ## Bring requirements/dev.txt up to date with requirements/dev.in
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements/dev.in --output-file requirements/dev.txt

.PHONY: audit
audit: venv ## Check the lock files for packages with known advisories
	@python tools/audit.py

.PHONY: wheelhouse
wheelhouse: venv ## Everything a host without a network needs to install Prefect, in build/wheelhouse
	@ansible-playbook playbooks/wheelhouse.yml -e prefect_version=$(VERSION)

.PHONY: bench
bench: venv ## Deployment measured against a hand-written parallel shell script, and three upgrades under load
	@# The second is measured whatever the first said.
	@deployed=0; python tests/bench/bench.py || deployed=$$?; python tests/bench/rolls.py && exit $$deployed

.PHONY: bench-sizing
bench-sizing: venv ## What servers, instances, connections, nginx and PgBouncer do to requests a second: docs/sizing.md
	@tools/docker-engine
	@python tests/bench/sizing.py

.PHONY: bench-tls
bench-tls: venv ## What TLS on every connection costs: requests a second and their median, with it and without
	@tools/docker-engine
	@tools/host-image bookworm
	@python tests/bench/tls.py

.PHONY: bench-large
bench-large: venv ## An upgrade of a database of real size under load, and what depends on its size (an hour, 40 GB)
	@tools/docker-engine
	@tools/host-image bookworm
	@python tests/bench/large.py

.PHONY: lab-up
lab-up: venv ## Only the seven hosts, with nothing on them
	@tools/host-image bookworm
	$(playbook) molecule/shared/create.yml

.PHONY: lab-down
lab-down: venv ## Remove the seven hosts, and the eight of demo-ha
	@$(playbook) molecule/shared/destroy.yml
	ansible-playbook -i inventories/lab-ha molecule/shared/destroy.yml

.PHONY: clean
clean: ## Remove all of it: hosts, networks, images, virtual environment, and the engine if this started it
	@tools/clean
