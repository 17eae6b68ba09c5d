# The front door. CMake does the work; `make help` lists what there is.
BUILD ?= build
JOBS ?= $(shell nproc)
MINUTES ?= 10
PREFIX ?= /usr/local

.PHONY: help deps test-deps build install docs quickstart quickstart-images check check-long check-interop bench bench-peers format format-check asan ubsan tsan clean

help:
	@echo "make build        build $(BUILD)/tilth"
	@echo "make install      program, library, headers, manual pages and completion under PREFIX ($(PREFIX)); DESTDIR works"
	@echo "make quickstart   corpus, pretraining, fine-tuning, report on this machine (MINUTES=$(MINUTES) of pretraining)"
	@echo "make quickstart-images  the same on pictures: Fashion-MNIST, self-supervised (MINUTES=8)"
	@echo "make check        build, tests, sanitizers on the unit tests (under 25 minutes on 2 cores)"
	@echo "make check-long   longer fault, fuzz and training tests"
	@echo "make check-interop  against transformers, gguf, llama.cpp, tensorboard (installs them into $(BUILD)/interop-venv)"
	@echo "make bench        speed and memory beside other programs (make bench-peers installs them)"
	@echo "make docs         write again the pages that come from tables (keys, operators, commands)"
	@echo "make format       clang-format all sources"

deps:
	@scripts/install-deps.sh

test-deps:
	@scripts/install-deps.sh tests

build: deps
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release > $(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log
	@cmake --build $(BUILD) -j $(JOBS)

install: build
	@DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)"

# The pages that are written from tables.
docs: build
	@$(BUILD)/tilth config --docs > docs/config.md
	@$(BUILD)/tilth selftest --docs > docs/operators.md
	@$(BUILD)/tilth docs commands > docs/commands.md

quickstart: build
	@TILTH=$(BUILD)/tilth MINUTES=$(MINUTES) scripts/quickstart.sh

quickstart-images: build
	@TILTH=$(BUILD)/tilth MINUTES=$(if $(filter file,$(origin MINUTES)),8,$(MINUTES)) scripts/quickstart-images.sh

check: test-deps build
	@BUILD=$(BUILD) JOBS=$(JOBS) scripts/check.sh

check-long: test-deps build
	@BUILD=$(BUILD) JOBS=$(JOBS) TILTH_LONG=1 scripts/check.sh

check-interop: build
	@BUILD=$(BUILD) scripts/check-interop.sh

bench: build
	@TILTH=$(BUILD)/tilth python3 bench/compare.py $(BENCH)

bench-peers:
	@bench/setup-peers.sh

asan ubsan tsan: deps
	@cmake -S . -B build-$@ -G Ninja -DCMAKE_BUILD_TYPE=Debug -DTILTH_SANITIZE=$(if $(filter asan,$@),address,$(if $(filter ubsan,$@),undefined,thread)) > /dev/null
	@cmake --build build-$@ -j $(JOBS)

format:
	@find include src tests bench examples -name '*.[ch]' -o -name '*.cc' -o -name '*.inl' | xargs clang-format -i

format-check:
	@find include src tests bench examples -name '*.[ch]' -o -name '*.cc' -o -name '*.inl' | xargs clang-format --dry-run --Werror

clean:
	@rm -rf $(BUILD) build-asan build-ubsan build-tsan
