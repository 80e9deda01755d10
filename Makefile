.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
WEED   ?=

# Writes the list of a release's parts; only `make release` needs it, so it has an environment of its own.
CYCLONEDX = 7.5.0

.PHONY: help venv test every lint proto pins pyz release demo e2e bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

venv: $(BIN)/.ready ## the environment in .venv (made once, remade when the pins change)
$(BIN)/.ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

test: venv ## every tier but the real one; the real one too where WEED=/path/to/weed
	$(BIN)/python -m tests

every: venv ## as test, with each kill and each failure played instead of a part of them
	WEED_EVERY_BOUNDARY=1 $(BIN)/python -m tests

lint: venv ## ruff, mypy --strict, the import arrows, generated code up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/pure/test_import_arrows.py
	rm -rf build/proto_gen
	$(call generate,build/proto_gen)
	diff -r -x __init__.py -x __pycache__ proto_gen build/proto_gen || (echo 'proto_gen is stale: run make proto' >&2; false)

define generate
	mkdir -p $(1)
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(1) --grpc_python_out=$(1) --pyi_out=$(1) proto/*.proto
	sed -i -E 's/^import ([a-z_]+_pb2) as/from proto_gen import \1 as/' $(1)/*.py $(1)/*.pyi
endef

proto: venv ## generate proto_gen/ from proto/
	$(call generate,proto_gen)

pins: venv ## write the hashes of the versions in requirements*.txt
	$(BIN)/python pyz/pin.py

pyz: venv ## build dist/weed_worker.pyz
	PYTHON=$(BIN)/python ./build_zipapp.sh

release: venv ## the files of a release in dist/: the .pyz of both architectures, their parts (SBOM), checksums
	PYTHON=$(BIN)/python ./build_zipapp.sh x86_64 dist/weed_worker.pyz
	PYTHON=$(BIN)/python ./build_zipapp.sh aarch64 dist/weed_worker-aarch64.pyz
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom==$(CYCLONEDX)
	build/sbom/bin/cyclonedx-py requirements --output-reproducible --of JSON -o dist/weed_worker.cdx.json requirements.txt
	cp LICENSE CHANGELOG.md dist/
	cd dist && sha256sum weed_worker*.pyz weed_worker.cdx.json LICENSE CHANGELOG.md > SHA256SUMS

demo: venv pyz ## put a small cluster right with the built .pyz, and check every file (WEED=/path/to/weed: the real one)
	$(BIN)/python -m tests.demo dist/weed_worker.pyz

e2e: venv pyz ## the tests that need real SeaweedFS: WEED=/path/to/weed[:/path/to/another]
	@test -n "$(WEED)" || (echo 'e2e needs real SeaweedFS: make e2e WEED=/path/to/weed' >&2; exit 2)
	WEED=$(WEED) $(BIN)/python -m tests -m real

bench: venv pyz ## ratios against other ways and the Go worker (WEED=/path/to/weed), in one run
	$(BIN)/python bench/ec.py
	$(BIN)/python bench/ec_repair.py
	$(BIN)/python bench/vacuum.py
	$(BIN)/python bench/encoder.py
	$(BIN)/python bench/detect.py
	$(BIN)/python bench/balance.py
	$(BIN)/python bench/scrub.py
	$(BIN)/python bench/agent.py
	$(BIN)/python bench/start.py

clean: ## remove what was built
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
