# SPDX-License-Identifier: MIT
# The two commands that a newcomer needs: make demo, make test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# The tests start hundreds of processes: each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint lint-core lint-page lint-compose types unit long integration fuzz fuzz-messages sanitize compilers crashes power-cuts chaos accuracy bench pages deb install-paths clean

demo: $(VENV)/engine
	$(BIN)/htmengine demo $(ARGS)

test: $(VENV)/tests
	$(MAKE) check

# The same as `make test` without the set-up.
check: lint types unit long integration

lint: lint-core lint-page lint-compose
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# A tool that is missing is a visible skip on a user's machine and a failure in CI.
missing = { echo "skipped: $(1)" >&2; test -z "$$HTMENGINE_CI"; }
CORES := htmengine/htm/core htmengine/evidence/core
CORE_SOURCES := $(wildcard htmengine/*/core/*.?pp tests/fuzz/*.cpp tests/support/*.cpp)
WARNINGS := -std=c++17 -fsyntax-only -Wall -Wextra -Wshadow -Wconversion -Werror

lint-core:
	@command -v clang-format >/dev/null || $(call missing,the core's format (Debian: apt install clang-format)); \
	  ! command -v clang-format >/dev/null || clang-format --dry-run -Werror $(CORE_SOURCES)
	@includes=$$($(BIN)/python -c "import pybind11, sysconfig; print('-isystem', pybind11.get_include(), '-isystem', sysconfig.get_path('include'))"); \
	for core in $(CORES); do \
	  $${CXX:-c++} $(WARNINGS) $$includes -I$$core -Ihtmengine/htm/core $$core/bindings.cpp || exit 1; \
	  command -v clang-tidy >/dev/null || { $(call missing,clang-tidy (Debian: apt install clang-tidy)) && continue || exit 1; }; \
	  clang-tidy --quiet $$core/bindings.cpp -- -std=c++17 $$includes -I$$core -Ihtmengine/htm/core 2>/dev/null || exit 1; \
	done

JAVASCRIPT := tests/javascript
JAVASCRIPT_TOOLS := $(JAVASCRIPT)/node_modules/.bin
lint-page:
	@if command -v npm >/dev/null && node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)'; then \
	  { test -x $(JAVASCRIPT_TOOLS)/tsc -a -d $(JAVASCRIPT)/node_modules/hot-shots || (cd $(JAVASCRIPT) && npm ci --silent --no-audit --no-fund); } && \
	  $(JAVASCRIPT_TOOLS)/eslint -c $(JAVASCRIPT)/eslint.config.js htmengine/web/static/js $(JAVASCRIPT)/*.js && \
	  $(JAVASCRIPT_TOOLS)/tsc -p $(JAVASCRIPT) && node --test $(JAVASCRIPT)/; \
	else $(call missing,the page (needs Node.js 20 and npm)); fi

# The file as the program that reads it understands it: podman-compose, or Docker's.
COMPOSE = $(if $(shell command -v podman-compose),podman-compose,docker compose)
lint-compose:
	@if $(COMPOSE) version >/dev/null 2>&1; then \
	  env $(foreach each,DATABASE_PASSWORD BROKER_PASSWORD READ_TOKEN WRITE_TOKEN,HTMENGINE_$(each)=any) \
	    $(COMPOSE) -f compose.yaml config >/dev/null; \
	else echo "skipped: compose.yaml (pip install podman-compose)" >&2; fi

types:
	$(BIN)/mypy

# The unit tests are trial's TestCases, and pytest runs them all; a few modules show that trial runs them as well:
# it finds tests by itself, makes its own folders and reads no conftest.
TRIAL_TESTS := tests.unit.test_tasks tests.unit.test_metric_listener tests.unit.test_results

unit:
	$(BIN)/python -m pytest -q -m 'not long' --doctest-modules tests/unit companions/htmengine-nupic/tests htmengine tools --ignore=htmengine/repository/migrations/env.py
	$(BIN)/trial --temp-directory=$(VENV)/trial $(TRIAL_TESTS)

# Unit tests compute; integration tests wait half of their time, for timers and for processes that start.
CPUS := $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell expr 2 \* $(CPUS))

# The unit tests that take many rows, models or metrics through the code.
long:
	$(BIN)/python -m pytest -q -n $(CPUS) -m long tests/unit

# A module's tests share its servers and its engine.
integration:
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/integration

# --- the compiled core, made in other ways

CORE_TESTS := tests/unit/test_model.py $(wildcard tests/unit/test_core_*.py tests/*/test_evidence_*.py)
FUZZ_SECONDS ?= 60
SANITIZED := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined

# Every compiler must give the same bytes: the tests compare them with the same digests.
compilers: $(VENV)/tests
	@command -v clang++ >/dev/null || { echo "make compilers needs g++ and clang++ (Debian: apt install clang)" >&2; exit 1; }
	for cxx in g++ clang++; do \
	  CC=$$cxx CXX=$$cxx $(BIN)/python setup.py -q build_ext --build-temp build/$$cxx/objects --build-lib build/$$cxx && \
	  $(BIN)/python -m tests.support.other_core build/$$cxx $(CORE_TESTS) || exit 1; \
	done

# Python itself is not sanitized, so the run-time libraries come first, and its own leaks do not count.
sanitize: $(VENV)/tests
	CC=g++ CXX=g++ CFLAGS="$(SANITIZED)" LDSHARED="g++ -shared $(SANITIZED)" $(BIN)/python setup.py -q build_ext \
	  --build-temp build/sanitized/objects --build-lib build/sanitized
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
	  $(BIN)/python -m tests.support.other_core build/sanitized $(CORE_TESTS)

fuzz: $(VENV)/tests
	@echo 'int main() {}' | clang++ -fsanitize=address -x c++ - -o /dev/null || \
	  { echo "make fuzz needs clang with its run-time libraries (Debian 12: apt install clang libclang-rt-14-dev)" >&2; exit 1; }
	$(BIN)/python -m tests.fuzz.seeds build/fuzz/seeds
	for part in restore evidence; do \
	  mkdir -p build/fuzz/corpus/$$part && \
	  clang++ -std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -ffp-contract=off \
	    -Ihtmengine/htm/core -Ihtmengine/evidence/core tests/fuzz/$$part.cpp -o build/fuzz/$$part && \
	  build/fuzz/$$part -max_total_time=$(FUZZ_SECONDS) -max_len=65536 build/fuzz/corpus/$$part build/fuzz/seeds/$$part \
	  || exit 1; \
	done

# Mutated messages of every queue, through the readers and the services.
MUTATIONS ?= 10000000
fuzz-messages: $(VENV)/tests
	$(BIN)/python -m tests.fuzz.messages --mutations $(MUTATIONS) $(ARGS)

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "HTM Engine needs Python 3.11 or newer; choose one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "HTM Engine needs Python's venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo "HTM Engine needs a C++17 compiler (Debian: apt install g++)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

# -e: the demo and the tests run on the checkout itself.  The core is compiled again when its sources change.
ENGINE_SOURCES := setup.py pyproject.toml $(wildcard htmengine/*/core/*)

$(VENV)/engine: $(VENV)/python $(ENGINE_SOURCES)
	$(BIN)/python -m pip install --quiet -e .
	touch $@

# Not after the engine: that would compile the core twice.
$(VENV)/tests: $(VENV)/python $(ENGINE_SOURCES)
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $(VENV)/engine $@

# Both benchmarks of accuracy: make accuracy NAB=NAB/data WINDOWS=NAB/labels/combined_windows.json FLEET=folder
# The report with pictures is REPORT.
REPORT ?= build/accuracy.html
accuracy: $(VENV)/engine
	$(BIN)/htmengine nab $(NAB) --windows $(WINDOWS) --jobs 2 --bootstrap
	mkdir -p $(dir $(REPORT))
	$(BIN)/python benchmarks/fleet.py $(FLEET) --report $(REPORT)

# Engines are killed at seeded points and moments; what is left is compared with an undisturbed run.
SEEDS ?= 100
crashes: $(VENV)/tests
	$(BIN)/python -m tests.support.crashes --seeds $(SEEDS) $(ARGS)

# Engines' files come back older than they were, each to another moment; no row gets the score of another.
power-cuts: $(VENV)/tests
	$(BIN)/python -m tests.support.power_cuts --seeds $(SEEDS) $(ARGS)

# Engines are disturbed in every way that we know; twenty metrics must not notice.  ARGS=--distributed: on RabbitMQ and MariaDB.
CHAOS_SECONDS ?= 3600
chaos: $(VENV)/tests
	$(BIN)/python -m tests.support.chaos --seconds $(CHAOS_SECONDS) $(ARGS)

# build/htmengine_VERSION_ARCHITECTURE.deb, for this Debian and its Python.
deb: $(VENV)/python
	rm -rf build/wheel && $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	PIP_PYTHON=$(abspath $(BIN))/python packaging/build_deb.sh build/wheel/*.whl build

# All ways to install the engine, each from nothing to a first score; ARGS='"Debian package"': that one.
install-paths: $(VENV)/tests
	$(BIN)/python -m tests.support.install_paths $(ARGS)

# What is made from the code: pages of commands and options, schemas of messages, pictures of states and of imports,
# the index of decisions, the manual page, the shells' completion, and what --help lists.
# Tests hold them to it.
pages: $(VENV)/engine
	$(BIN)/python -m tools.commands_page > docs/commands.md
	$(BIN)/python -m tools.command_summaries
	$(BIN)/python -m tools.config_pages
	$(BIN)/python -m tools.message_schemas
	$(BIN)/python -m tools.states_page
	$(BIN)/python -m tools.import_picture
	$(BIN)/python -m tools.decisions_index
	$(BIN)/python -m tools.shared_files

clean:
	rm -rf $(VENV) build dist *.egg-info htmengine/*/*.so

# What a row costs on each kind of series, what grows with rules, event streams and metrics, what storing costs on each database,
# the Graphite port beside carbon's, each wire beside its peer's receiver, and the whole pipeline beside the models alone;
# tables go into docs/benchmarks.md and docs/benchmarks-scale.md.
# BASE=commit is built: its models are measured in turns with these, what grows before this.  CPU_METRIC: a series of
# the Numenta Anomaly Benchmark.  QUICK=1 shows in some minutes that all of it works; its figures are worth nothing.
PAGE = --page docs/benchmarks.md
GROWTH = $(abspath $(BIN))/python -m benchmarks.growth rules events broadcasts lists $(if $(QUICK),--rounds 2)
bench: $(VENV)/tests
	$(if $(BASE),git worktree remove --force build/base 2>/dev/null; git worktree add --force --detach build/base $(BASE))
	$(if $(BASE),cd build/base && $(abspath $(BIN))/python setup.py -q build_ext --build-lib lib && cp -r lib/. .)
	$(BIN)/python -m benchmarks.core $(PAGE) $(if $(BASE),--base build/base/lib) $(if $(CPU_METRIC),--cpu-metric $(CPU_METRIC)) $(if $(QUICK),--age 500)
	$(if $(BASE),echo at $(BASE): && cd build/base && $(GROWTH))
	$(GROWTH) $(PAGE)
	$(BIN)/python -m benchmarks.storing $(PAGE) $(if $(QUICK),--metrics 100 --rounds 3)
	$(BIN)/python -m benchmarks.history $(PAGE) $(if $(QUICK),--metrics 50 --minutes 10 --series 2 --rows 500)
	$(BIN)/python -m benchmarks.listener $(PAGE) $(if $(QUICK),--lines 20000 --rounds 1)
	$(BIN)/python -m benchmarks.receivers --page docs/benchmarks-scale.md $(if $(QUICK),--samples 5000)
	$(BIN)/python -m benchmarks.pipeline $(PAGE) $(if $(QUICK),--metrics 50 --age 500 --rows 5 --samples 5 --busy-seconds 5)
