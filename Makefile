# Every target works in $(VENV), which the first one that needs it makes. The sources that are
# compiled are watched; Python files are used where they stand.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard fastfuse/core/*.pyx fastfuse/core/*.pxd fastfuse/core/*.h)
INSTALL := $(BIN)/python -m pip install --quiet

# What gcc's sanitizers look at: all tests of the core for errors of memory, a storm of everything at once for races.
# Their libraries must be loaded before Python. setarch -R: ThreadSanitizer wants no random addresses.
CORE_TESTS := tests/test_engine.py tests/test_stress.py tests/test_session.py tests/test_operations.py
sanitized = FASTFUSE_SANITIZE=$(1) $(INSTALL) --no-build-isolation --no-deps --upgrade --target build/sanitize . && \
	LD_PRELOAD="$(foreach library,$(2),$(shell cc -print-file-name=$(library)))" \
	PYTHONPATH=$(CURDIR)/build/sanitize PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	TSAN_OPTIONS=history_size=7:suppressions=$(CURDIR)/tools/tsan-suppressions \
	setarch -R $(BIN)/pytest --capture=sys $(3) $(ARGS)
comma := ,

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo build test lint bench sanitize clean
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name what; do \
		printf 'make %-9s %s\n' "$$name" "$$what"; done

demo: $(VENV)/.demo ## mount xkcd's comics on ./mnt, without the network; Ctrl-C ends it
	@# mkdir fails on the dead mount of a run that was killed; xkcdfs cleans that up itself.
	@# The shell outlives Ctrl-C, so that make sees the end of a demo and not an error.
	@mkdir -p mnt 2>/dev/null; trap : INT; $(BIN)/python -m xkcdfs mnt -f --demo || test $$? -eq 130

build: $(VENV)/.test ## compile what changed

test: $(VENV)/.test ## run the tests (ARGS="-k name" for some)
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/.test ## ruff, mypy --strict, and the .pyi files against the compiled modules
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/stubtest --ignore-disjoint-bases --allowlist tools/stubtest-allowlist \
		--ignore-unused-allowlist fastfuse.core

bench: $(VENV)/.bench ## measure, against the file systems of other libraries too
	$(BIN)/pytest benchmarks -s $(ARGS)

sanitize: $(VENV)/.test ## run the core's tests with gcc's sanitizers: memory, undefined behaviour, races
	$(call sanitized,address$(comma)undefined,libasan.so libubsan.so,$(CORE_TESTS))
	$(call sanitized,thread,libtsan.so,tests/test_stress.py)

clean: ## remove all that was made here
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f fastfuse/core/*.so
	find . -name __pycache__ -prune -exec rm -r {} +

$(VENV)/.made:
	tools/setup build
	$(PYTHON) -m venv --clear $(VENV)
	sed -n 's/^requires = \[\(.*\)\]$$/\1/p' pyproject.toml | tr -d , | xargs $(INSTALL)
	@touch $@

# Without build isolation: Cython's own files keep their dates, so that only changes are compiled.
$(VENV)/.demo: $(SOURCES) | $(VENV)/.made
	$(INSTALL) --no-build-isolation -e .
	@touch $@

$(VENV)/.test $(VENV)/.bench: $(VENV)/.%: $(SOURCES) | $(VENV)/.made
	tools/setup $*
	$(INSTALL) --no-build-isolation -e '.[$*]'
	@touch $@
