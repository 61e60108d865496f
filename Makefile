# Every target sets up what it needs: a virtual environment in .venv with both distributions, compiled.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(wildcard ext/*.pyx src/online/core/*.pxd) setup.py
PROJECTS := pyproject.toml client/pyproject.toml
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Installs the packages of an extra, without building the distribution again.
extra = $(BIN)/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	print(*project['optional-dependencies']['$(1)'])" | xargs $(PIP) install

.PHONY: help run test check check-hard ab instructions bench bench-quick clean

help:
	@echo "make run    a server on 127.0.0.1:8989 with a simulated site and its dashboard; PORT=... for another port"
	@echo "make test   every test; installs what the tests need"
	@echo "make check  ruff, mypy and cython-lint"
	@echo "make check-hard  1,000 cycles of kill -9 and restart, in about 20 minutes; CYCLES=... for another number"
	@echo "make ab     the hot paths, the working tree against HEAD, in half a minute; AB=COMMIT chooses another"
	@echo "make instructions  what each hot path takes, counted by valgrind (Debian package), in half a minute"
	@echo "make bench  the benchmarks, reported in bench/results; BENCH=... is handed to pytest, then in .benchmarks"
	@echo "make bench-quick  the same with smaller sizes, in three minutes, reported in .benchmarks"
	@echo "make clean  remove everything that was built"

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
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint ext src/online/core bench/native

check-hard: $(VENV)/built
	ONLINE_KILL_CYCLES=$(or $(CYCLES),1000) $(BIN)/python -m pytest tests/keep/test_kill.py

ab: $(VENV)/built
	$(BIN)/python -m bench.ab $(AB)

$(VENV)/rivals: $(VENV)/tools
	@$(call extra,bench)
	@touch $(VENV)/rivals

# Runs the benchmarks with results in $(1) and further options $(2), and reports even when some have failed.
measured = @$(BIN)/python -m pytest bench --results $(1) $(2) $(BENCH); ended=$$?; \
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
