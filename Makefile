# Builds, checks and measures fastlmm_core.  From a fresh clone: make demo, make test.
# An active virtual environment is used as it is; otherwise one is made in .venv.

PYTHON ?= python3
VENV ?= $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),$(CURDIR)/.venv)
BIN := $(VENV)/bin
WHEEL := build/wheel-$(shell { $(BIN)/python -V || $(PYTHON) -V; } 2>/dev/null | tr -d ' ')
EXTRAS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
comma := ,
SOURCES := setup.py pyproject.toml MANIFEST.in \
	$(shell find fastlmm_core src_c -type f ! -name '*.so' ! -name '*.pyc' ! -path '*/docs/*' 2>/dev/null)
STAMPS := $(VENV)/.fastlmm_core

.PHONY: demo test docs lint sanitize tsan valgrind coverage fuzz bench wheel-test manylinux clean help
.DELETE_ON_ERROR:

help:
	@sed -n 's/^## //p' Makefile

## make demo        install, fit sleepstudy and InstEval, print both summaries
demo: $(STAMPS)/package
	@cd $(VENV) && bin/python -m fastlmm_core.demo

## make test        install with the test extra, run the suite on the installed package
test: $(STAMPS)/test
	$(BIN)/pytest $(PYTEST_ARGS)

## make docs        run the examples and build the site into build/site; a warning or an exception fails
docs: $(STAMPS)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

## make lint        ruff, cython-lint, mypy
lint: $(STAMPS)/lint
	$(BIN)/ruff check .
	PATH="$(BIN):$$PATH" cython-lint src_c/cython
	$(BIN)/mypy

## make sanitize    the kernels under AddressSanitizer and UndefinedBehaviorSanitizer, fast tests
sanitize: build/asan/stamp $(STAMPS)/test
	PYTHONPATH=$(CURDIR)/build/asan/site \
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc \
	OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -q -p no:faulthandler -m "not slow and not reference" $(SANITIZE_TESTS)
SANITIZE_TESTS ?= tests/crossprod tests/data tests/mme tests/factorization tests/criterion tests/optimize \
	tests/inference/test_bootstrap_sampler.py tests/stream --ignore tests/stream/test_cluster.py --ignore tests/stream/test_forecast.py

## make tsan        the parallel kernels under Clang's ThreadSanitizer, whose OpenMP tells it of its barriers
tsan: build/tsan/stamp $(STAMPS)/test
	$(CLANG) -std=c11 -O1 -g -fopenmp -fsanitize=thread tests/tsan/race.c -o build/tsan/race
	export OMP_TOOL_LIBRARIES="$$($(CLANG) -print-file-name=libarcher.so)" TSAN_OPTIONS=ignore_noninstrumented_modules=1; \
	setarch -R build/tsan/race barrier && ! setarch -R build/tsan/race race 2>/dev/null \
	|| { echo "this ThreadSanitizer does not tell a race from a barrier" >&2; exit 1; }
	LD_PRELOAD="$$($(CLANG) -print-file-name=libclang_rt.tsan-x86_64.so)" PYTHONPATH=$(CURDIR)/build/tsan/site \
	OMP_TOOL_LIBRARIES="$$($(CLANG) -print-file-name=libarcher.so)" OPENBLAS_NUM_THREADS=1 \
	TSAN_OPTIONS="ignore_noninstrumented_modules=1 report_signal_unsafe=0 exitcode=66" \
	setarch -R $(BIN)/python -X faulthandler $(BIN)/pytest -q --capture=sys -m "not slow and not reference" $(TSAN_TESTS)
CLANG ?= clang-19
TSAN_TESTS ?= tests/crossprod tests/mme tests/factorization tests/data/test_factors.py tests/data/test_hash_tables.py

## make coverage    lines that the suite runs, of the Python and of the C; below 90 percent of either fails
coverage: build/coverage/stamp
	find build/coverage -name '*.gcda' -delete
	PYTHONPATH=$(CURDIR)/build/coverage/site OPENBLAS_NUM_THREADS=1 COVERAGE_FILE=build/coverage/data \
	$(BIN)/pytest -q -m "not slow" --cov=build/coverage/site/fastlmm_core --cov-report= $(COVERAGE_TESTS)
	@$(BIN)/gcovr --root . --filter 'src_c/.*\.[ch]$$' --merge-mode-functions=merge-use-line-min \
	--txt build/coverage/c.txt --print-summary --fail-under-line 90 build/coverage/temp; c=$$?; \
	COVERAGE_FILE=build/coverage/data $(BIN)/coverage report --fail-under 90 > build/coverage/python.txt; python=$$?; \
	grep TOTAL build/coverage/python.txt; exit $$((c | python))
COVERAGE_TESTS ?= tests

## make fuzz        the formula parser and the loader of files on random inputs, FUZZ_SECONDS each
fuzz: $(STAMPS)/test
	$(BIN)/python tests/fuzz/run.py formula --seconds $(FUZZ_SECONDS)
	$(BIN)/python tests/fuzz/run.py loader --seconds $(FUZZ_SECONDS)
FUZZ_SECONDS ?= 60

## make valgrind    kernel tests under memcheck, some minutes; more by VALGRIND_TESTS
valgrind: $(STAMPS)/test
	PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 valgrind -q --error-exitcode=9 --undef-value-errors=no --suppressions=tests/valgrind.supp \
	$(BIN)/python $(BIN)/pytest -q -p no:faulthandler -m "not slow" $(VALGRIND_TESTS)
VALGRIND_TESTS ?= tests/crossprod/test_rows.py tests/crossprod/test_gram.py tests/mme/test_collapsed.py \
	tests/mme/test_tree.py tests/mme/test_crossed.py tests/factorization/test_cholesky.py \
	-k "not 16 and not large and not threads and not overwritten and not parallel and not touches_most"

## make bench       the benchmark grid, one CSV below bench/results; BENCH_ARGS are those of bench/run.py
bench: $(STAMPS)/bench
	$(BIN)/python bench/run.py $(BENCH_ARGS)

## make wheel-test  sdist, wheel from the sdist, and the suite on that wheel outside the checkout
wheel-test: $(STAMPS)/build
	rm -rf build/wheel-test && mkdir -p build/wheel-test/run
	$(BIN)/python -m build --outdir build/wheel-test/dist .
	$(PYTHON) -m venv build/wheel-test/venv
	build/wheel-test/venv/bin/python -m pip install -q "$$(echo build/wheel-test/dist/*.whl)[test]"
	cp -r tests pyproject.toml README.md build/wheel-test/run/
	cd build/wheel-test/run && FASTLMM_REFERENCE=$${FASTLMM_REFERENCE:-$(CURDIR)/../shared/reference} ../venv/bin/pytest $(PYTEST_ARGS)

## make manylinux   wheel with its libgomp inside; README and kernel tests on it, where there is no compiler
manylinux: $(STAMPS)/wheel
	rm -rf build/manylinux && mkdir -p build/manylinux/run
	$(BIN)/python -m build --outdir build/manylinux/dist .
	PATH="$(BIN):$$PATH" $(BIN)/auditwheel repair --strip -w build/manylinux/wheelhouse build/manylinux/dist/*.whl
	$(BIN)/auditwheel show build/manylinux/wheelhouse/*.whl
	$(PYTHON) -m venv build/manylinux/venv
	build/manylinux/venv/bin/python -m pip install -q --only-binary :all: build/manylinux/wheelhouse/*.whl pytest hypothesis
	cp -r tests pyproject.toml README.md .ci/import_time.py build/manylinux/run/
	cd build/manylinux/run && PATH=$(CURDIR)/build/manylinux/venv/bin && ! command -v cc gcc clang \
	&& python import_time.py && OPENBLAS_NUM_THREADS=1 pytest -q -m "not slow and not reference" $(WHEEL_TESTS)
WHEEL_TESTS ?= tests/test_readme.py tests/test_packaging.py tests/test_errors.py tests/formula tests/crossprod \
	tests/mme tests/factorization tests/criterion tests/optimize

## make clean       remove what the build made, and .venv
clean:
	rm -rf build dist *.egg-info .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find fastlmm_core -name '*.so' -delete -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	|| { echo "fastlmm_core needs Python 3.10 or newer; call make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments:" \
	"install the package python3-venv, or activate an environment of your own first" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

HAS_HEADERS := import os, sys, sysconfig; \
	sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))

# one wheel serves every environment; stale copies of removed modules must not get into it
$(WHEEL)/stamp: $(SOURCES) | $(BIN)/python
	@$(BIN)/python -c '$(HAS_HEADERS)' || { echo "no Python.h: install the headers of $(PYTHON)" \
	"(on Debian the package python3-dev)" >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "no C compiler: install gcc, or set CC" >&2; exit 1; }
	rm -rf $(WHEEL) build/lib* build/bdist*
	$(BIN)/python -m pip wheel -q --no-deps -w $(WHEEL) .
	@touch $@

$(STAMPS)/package: $(WHEEL)/stamp
	$(BIN)/python -m pip install -q "$$(echo $(WHEEL)/*.whl)$(if $(EXTRAS),[$(EXTRAS)])"
	$(BIN)/python -m pip install -q --force-reinstall --no-deps $(WHEEL)/*.whl
	@mkdir -p $(@D) && touch $@

$(STAMPS)/test $(STAMPS)/docs $(STAMPS)/lint $(STAMPS)/bench $(STAMPS)/coverage $(STAMPS)/wheel: $(STAMPS)/%: $(STAMPS)/package
	$(BIN)/python -m pip install -q "$$(echo $(WHEEL)/*.whl)[$*$(if $(EXTRAS),$(comma)$(EXTRAS))]"
	@mkdir -p $(@D) && touch $@

$(STAMPS)/build: | $(BIN)/python
	$(BIN)/python -m pip install -q 'build>=1.2'
	@mkdir -p $(@D) && touch $@

build/coverage/stamp: $(SOURCES) | $(STAMPS)/coverage
	rm -rf build/coverage
	FASTLMM_CORE_COVERAGE=1 $(BIN)/python setup.py -q build_py --build-lib build/coverage/site \
	build_ext --build-lib build/coverage/site --build-temp build/coverage/temp
	@touch $@

build/tsan/stamp: $(SOURCES) | $(STAMPS)/coverage
	@command -v $(CLANG) >/dev/null || { echo "no $(CLANG): install clang-19, libclang-rt-19-dev and libomp-19-dev," \
	"or name another Clang by CLANG=" >&2; exit 1; }
	rm -rf build/tsan
	CC=$(CLANG) FASTLMM_CORE_SANITIZE=thread $(BIN)/python setup.py -q build_py --build-lib build/tsan/site \
	build_ext --build-lib build/tsan/site --build-temp build/tsan/temp
	@touch $@

build/asan/stamp: $(SOURCES) | $(BIN)/python
	rm -rf build/asan build/lib* build/bdist*
	FASTLMM_CORE_SANITIZE=1 $(BIN)/python -m pip install -q --no-deps --target build/asan/site .
	@touch $@
