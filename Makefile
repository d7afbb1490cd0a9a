# SPDX-License-Identifier: Apache-2.0
# A thin front door; CMakeLists.txt is the build. On a machine without make: ./make run, ./make test.
.PHONY: run test bench package install build clean
.DEFAULT_GOAL := build

# The main job: route, prepare, verify and time a real transformer block here.
# make run ARGS="model.safetensors" takes any other checkpoint.
run: build
	build/gemmux run $(ARGS)

# Everything that CI checks; the last line counts what passed and failed.
test:
	@sh scripts/setup.sh test
	bash scripts/test.sh

# The figures of bench/README.md, measured on this machine.
bench: build
	cmake --build build --target bench_overhead
	sh bench/run.sh

# build-package/gemmux_VERSION_ARCH.deb and gemmux-VERSION-Linux.tar.gz
package:
	@sh scripts/setup.sh package
	cmake --preset package
	cmake --build --preset package
	cd build-package && cpack

install: build
	cmake --build build
	cmake --install build

build:
	@sh scripts/setup.sh build
	@cmake --preset default --log-level=NOTICE
	@cmake --build build --target gemmux_cli

clean:
	rm -rf build build-asan build-tsan build-clang build-fuzz build-package
