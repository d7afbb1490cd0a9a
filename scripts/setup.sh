#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# setup.sh build|test|package: installs the Debian packages that this part of gemmux needs. As root
# it calls apt-get once, and only when something is missing; otherwise it prints the line to run.
set -eu

# make only starts things; libdnnl2 and libopenblas are opened at run time when they are there.
build="make cmake ninja-build gcc libc6-dev pkg-config libjansson-dev libpcre2-dev
       libpthreadpool-dev libcmocka-dev libdnnl2 libopenblas0-pthread"
# One clang for -Werror, sanitizers, fuzzing, formatting and tidying; mandoc reads the man page;
# g++ compiles GPU kernels for tests/emulator. The Arm kernels are cross-built and emulated.
test="$build g++ clang libclang-rt-14-dev clang-format clang-tidy mandoc git bash
      gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

# dpkg-shlibdeps finds what the package depends on.
package="$build dpkg-dev file"

case "${1:-build}" in
build) wanted=$build ;;
package) wanted=$package ;;
test) wanted=$test ;;
*)
    echo "usage: scripts/setup.sh build|test|package" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "setup: not a Debian system; these are the packages that Debian 12 needs:" $wanted >&2
    exit 0 # cmake says what is missing here
fi

installed() {
    case "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" in
    installed) return 0 ;;
    *) return 1 ;;
    esac
}

missing=""
for package in $wanted; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "setup: these packages are missing; install them as root, then run this again:" >&2
    echo "    apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# The package lists of a fresh machine are empty: then, and only then, fetch them.
# shellcheck disable=SC2086
apt-get install -s --no-install-recommends $missing >/dev/null 2>&1 || apt-get update -q
# shellcheck disable=SC2086
echo "setup: apt-get install -y --no-install-recommends$missing"
apt-get install -y -q --no-install-recommends $missing
