# Every target sets up what it needs: a virtual environment in .venv with both distributions, compiled.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(wildcard ext/*.pyx src/online/core/*.pxd) setup.py
, := ,
PROJECTS := pyproject.toml client/pyproject.toml

# What Python has compiled is kept: the tests start it hundreds of times.
unexport PYTHONDONTWRITEBYTECODE

PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Installs the packages of an extra, without building the distribution again.
extra = $(BIN)/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	print(*project['optional-dependencies']['$(1)'])" | xargs $(PIP) install

.PHONY: help run test check docs reference man dist audit check-short check-hard sanitize shake fuzz coverage ab instructions bench bench-quick clean

help:
	@echo "make run    a server on 127.0.0.1:8989 with a simulated site and its dashboard; PORT=... for another port"
	@echo "make test   every test; installs what the tests need"
	@echo "make check  ruff, mypy, pyright, stubtest and cython-lint"
	@echo "make docs   the documentation as a site, in build/site; every link is checked"
	@echo "make reference  docs/reference anew, from the tables of the code"
	@echo "make man    manual pages in build/man, from the options of the commands"
	@echo "make dist   source archives and wheels of both distributions, as they are published, in dist"
	@echo "make audit  whether a fault is known in a package that is installed with the server; needs the package index"
	@echo "make check-short  200 seeds of the simulation, packages, an image, sanitizers, fuzzers: what CI runs of check-hard"
	@echo "make check-hard  memory that fails, 10,000 seeds, 1,000 kills, sanitizers and each fuzzer for an hour; takes hours"
	@echo "make sanitize  the tests of what is compiled, over a core built with ASan and UBSan; TESTS=... for others"
	@echo "make fuzz   each fuzzer for a minute; SECONDS=... for longer, TARGET=... for one; needs clang-14"
	@echo "make shake  the fuzzers that need no clang, over the core of make sanitize; SECONDS=... and TARGET=... as above"
	@echo "make coverage  which lines and branches of the core its tests reach, in half an hour; MISSED=1 lists the rest"
	@echo "make ab     the hot paths, the working tree against HEAD, in half a minute; AB=COMMIT chooses another"
	@echo "make instructions  what each hot path takes, counted by valgrind (Debian package), in half a minute"
	@echo "make bench  the benchmarks, reported in bench/results; BENCH=... is handed to pytest, then in .benchmarks"
	@echo "make bench-quick  the same with smaller sizes, in three minutes, reported in .benchmarks"
	@echo "make clean  remove everything that was built"

# With --no-build-isolation these must be there: an older setuptools fails at project.license.
$(VENV)/installed: $(PROJECTS)
	@echo "Setting up $(VENV), which takes about a minute: a virtual environment, ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install "setuptools>=77" "cython>=3.1"
	@touch $(VENV)/installed

$(VENV)/built: $(VENV)/installed $(CORE)
	@echo "... a few packages and the compiled core (half a minute), ..."
	@$(PIP) install --no-build-isolation -e ./client -e .
	@echo "... done."
	@touch $(VENV)/built

# What tests and checks need beside that.
$(VENV)/tools: $(VENV)/built
	@echo "Installing what tests and checks need, in $(VENV): about half a minute."
	@$(call extra,dev)
	@touch $(VENV)/tools

run: $(VENV)/built
	@$(BIN)/online demo $(if $(PORT),--listen 127.0.0.1:$(PORT))

# Four at a time: much of a test's time is waiting, for a server's start or a client's patience.
test: $(VENV)/tools
	$(BIN)/python -m pytest -n 4 --dist loadgroup

check: $(VENV)/tools
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/stubtest online.core --concise --mypy-config-file pyproject.toml --ignore-missing-stub \
		--ignore-disjoint-bases --allowlist tests/stubtest.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint ext src/online/core bench/native tests/fuzz

$(VENV)/site: $(VENV)/installed
	@$(call extra,docs)
	@touch $(VENV)/site

docs: $(VENV)/site
	@rm -rf build/site
	@$(BIN)/sphinx-build -q -E -W --keep-going -c docs/site -d build/doctrees . build/site
	@cp build/site/README.html build/site/index.html
	@echo "Open build/site/index.html in a browser."

reference: $(VENV)/built
	$(BIN)/python -m docs.site.reference

man: $(VENV)/built
	$(BIN)/python -m docs.site.man

$(VENV)/release: $(VENV)/installed
	@$(call extra,release)
	@touch $(VENV)/release

# The archives have the same bytes whoever builds them. The wheel of the core is this machine's own; cibuildwheel makes
# those that are published (docs/releasing.md).
dist: $(VENV)/release $(VENV)/tools
	@rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) && export SOURCE_DATE_EPOCH && for project in client .; do \
		$(BIN)/python -m build --quiet --sdist --outdir dist $$project || exit 1; done && \
		$(BIN)/python deploy/reproducible.py dist/*.tar.gz && \
		for archive in dist/*.tar.gz; do $(PIP) wheel --no-deps --wheel-dir dist $$archive || exit 1; done
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist

audit: $(VENV)/release
	@$(BIN)/python deploy/audit.py

# Builds the core in build/$(1), with the flags $(2), by the compiler $(3); the working tree's own stays as it is.
built_as = mkdir -p build/$(1) && tar -c --exclude='*.so' --exclude='*.c' --exclude=build --exclude=__pycache__ --exclude='*.egg-info' \
	ext src client setup.py pyproject.toml README.md LICENSE | tar -x -C build/$(1) && cd build/$(1) && \
	PYTHONPATH=src CC=$(3) ONLINE_CFLAGS="-g -w $(2)" LDFLAGS="$(2)" $(CURDIR)/$(BIN)/python setup.py -q build_ext --inplace
# What runs Python with the core of build/$(1).
with = PYTHONPATH=$(CURDIR)/build/$(1)/src:$(CURDIR)/build/$(1)/client/src:$(CURDIR)

SANITIZERS := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZED := tests/core tests/serve tests/keep tests/logs tests/http tests/bus tests/fuzz

# Python is not built with ASan, so that its library is loaded first, and Python's own leaks are not looked for. Not
# run: what preloads another memory, builds the core in another way, or limits the address space, which ASan needs; and
# programs that cannot start with it, which tests/programs.py names.
sanitizing = $(call with,sanitized) LD_PRELOAD=$$(gcc -print-file-name=libasan.so) PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 $(BIN)/python

sanitize: $(VENV)/tools
	@$(call built_as,sanitized,$(SANITIZERS),gcc)
	$(sanitizing) -m pytest -n 2 --dist loadgroup -p no:cacheprovider \
		-k "not starved and not test_steps and not address_space" $(or $(TESTS),$(SANITIZED))

$(VENV)/fuzzers: $(VENV)/tools
	@$(PIP) install atheris
	@touch $(VENV)/fuzzers

COVERED := tests/core tests/serve tests/logs tests/keep tests/fuzz tests/bus tests/gateway tests/http tests/cli

# Which lines and branches of the core its tests reach, by gcov. In one process: workers of pytest-xdist that end late
# are killed before they tell. Not run: what builds the core in another way.
coverage: $(VENV)/tools
	@$(call built_as,covered,-O0 --coverage,gcc)
	@find build/covered -name "*.gcda" -delete
	$(call with,covered) $(BIN)/python -m pytest -q -p no:cacheprovider -k "not test_steps" \
		$(or $(TESTS),$(COVERED))
	@$(BIN)/python -m tests.coverage build/covered $(if $(MISSED),--missed)

FUZZED := resp_commands msgpack_requests http_requests http_gets states_of_names bus_entries log_lines usual_lines \
	syslog_datagrams journal_records snapshot_files history_files subscriptions

QUICK := resp_commands msgpack_requests http_gets usual_lines syslog_datagrams journal_records bus_entries values \
	states_of_names

FUZZER := -O1 -fsanitize=fuzzer-no-link$(,)address

# What runs tests.fuzz with the core that tells libFuzzer, which atheris brings, where it has been.
fuzzing = $(call with,fuzzed) QUICK_FUZZERS=build/fuzzed/quick CC=clang-14 ONLINE_CFLAGS="-g -w $(FUZZER)" \
	LDFLAGS="$(FUZZER)" LD_PRELOAD=$$($(BIN)/python -c "import atheris; print(atheris.path())")/asan_with_fuzzer.so \
	ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8:malloc_context_size=1 $(BIN)/python -m tests.fuzz
fuzzed_so_long = -max_total_time=$(or $(SECONDS),60) -max_len=2048 -print_final_stats=1 -artifact_prefix=build/fuzz/
shown = 2>&1 | grep -vE "^\#.*(NEW|REDUCE|pulse)"

# Each target runs for so many seconds; a quick one led by coverage, and again as fast as it can without.
fuzz: SHELL := /bin/bash
fuzz: .SHELLFLAGS := -o pipefail -c
fuzz: $(VENV)/fuzzers
	@$(call built_as,fuzzed,$(FUZZER),clang-14)
	@for target in $(filter $(or $(TARGET),$(FUZZED)),$(FUZZED)); do echo "$$target"; \
		$(fuzzing) $$target build/fuzz/$$target $(fuzzed_so_long) $(shown) || exit 1; done
	@for target in $(filter $(or $(TARGET),$(QUICK)),$(QUICK)); do echo "quick $$target"; \
		$(fuzzing) quick $$target build/fuzz/quick-$$target $(fuzzed_so_long) $(shown) || exit 1; \
		$(fuzzing) shaken $$target build/fuzz/quick-$$target $(or $(SECONDS),60) || exit 1; done

# Each quick fuzzer without guidance for so many seconds, two at a time, over the core of `make sanitize`.
shake: $(VENV)/tools
	@$(call built_as,sanitized,$(SANITIZERS),gcc)
	@export QUICK_FUZZERS=build/sanitized/quick CC=gcc ONLINE_CFLAGS="-g -w $(SANITIZERS)" LDFLAGS="$(SANITIZERS)" && \
		mkdir -p $$QUICK_FUZZERS && $(sanitizing) -c "from tests.fuzz.__main__ import built; built()" && \
		printf "%s\n" $(filter $(or $(TARGET),$(QUICK)),$(QUICK)) | xargs -P 2 -I {} env $(sanitizing) \
		-m tests.fuzz shaken {} build/shaken/{} $(or $(SECONDS),60)

# What of check-hard is done for every change, by CI: some ten minutes.
check-short: $(VENV)/tools
	ONLINE_SEEDS=200 $(BIN)/python -m pytest -n 2 tests/simulation
	ONLINE_PACKAGES=1 $(BIN)/python -m pytest tests/test_packages.py tests/test_container.py
	$(MAKE) sanitize TESTS="tests/core tests/serve/test_reactor.py tests/serve/test_slow_clients.py"
	$(MAKE) shake SECONDS=60

# Everything at length: memory that fails, seeds of the simulation, kills, sanitizers, fuzzers. Takes some hours.
check-hard: $(VENV)/tools
	ONLINE_STARVE_GROWTH=1 $(BIN)/python -m pytest tests/core/test_starved.py
	ONLINE_LINES=$(or $(N_LINES),1000000) $(BIN)/python -m pytest tests/logs/test_usual_lines.py
	ONLINE_SEEDS=$(or $(SEEDS),10000) $(BIN)/python -m pytest -n 2 tests/simulation
	ONLINE_KILL_CYCLES=$(or $(CYCLES),1000) $(BIN)/python -m pytest tests/keep/test_kill.py
	ONLINE_THREAD_ROUNDS=$(or $(ROUNDS),2000) $(BIN)/python -m pytest client/tests/test_threads.py
	ONLINE_BUS_KILL_SECONDS=$(or $(BUS_SECONDS),600) $(BIN)/python -m pytest tests/bus/test_kills.py
	ONLINE_PACKAGES=1 $(BIN)/python -m pytest tests/test_packages.py tests/test_container.py
	$(MAKE) sanitize
	$(MAKE) fuzz SECONDS=$(or $(SECONDS),3600)

ab: $(VENV)/built
	$(BIN)/python -m bench.ab $(AB)

$(VENV)/rivals: $(VENV)/tools
	@$(call extra,bench)
	@touch $(VENV)/rivals

# Runs the benchmarks, or those that BENCH names, with results in $(1) and further options $(2), and reports even when
# some have failed.
measured = @$(BIN)/python -m pytest $(if $(filter bench/%,$(BENCH)),,bench) --results $(1) $(2) $(BENCH); ended=$$?; \
	[ $$ended -gt 1 ] || $(BIN)/python -m bench.report $(1); exit $$ended

instructions: $(VENV)/built
	$(BIN)/python -m bench.instructions

bench: $(VENV)/rivals
	$(call measured,$(if $(BENCH),.benchmarks/chosen,bench/results),)

bench-quick: $(VENV)/rivals
	$(call measured,.benchmarks/quick,--quick)

clean:
	rm -rf $(VENV) build client/build dist src/*.egg-info client/src/*.egg-info src/online/core/*.so ext/*.c \
		bench/native/*.so bench/native/*.c bench/build .benchmarks
