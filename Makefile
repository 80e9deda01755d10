.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
WEED   ?=

.PHONY: help venv test lint proto pyz demo e2e bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

venv: $(BIN)/.ready ## the environment in .venv (made once, remade when the pins change)
$(BIN)/.ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

test: venv ## every tier but the real one; the real one too where WEED=/path/to/weed
	$(BIN)/python -m pytest

lint: venv ## ruff, mypy --strict, the import arrows, generated code up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

proto: venv ## generate proto_gen/ from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=proto_gen --grpc_python_out=proto_gen --pyi_out=proto_gen proto/*.proto
	sed -i -E 's/^import ([a-z_]+_pb2) as/from proto_gen import \1 as/' proto_gen/*.py proto_gen/*.pyi

pyz: venv ## build dist/weed_worker.pyz
	PYTHON=$(BIN)/python ./build_zipapp.sh

clean: ## remove what was built
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
