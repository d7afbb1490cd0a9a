#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# ./make run, ./make test ...: the Makefile for a machine that may not have make yet. Installs what
# is missing (scripts/setup.sh), then hands over to make.
set -eu
cd "$(dirname "$0")"
case " $* " in
*" clean "*) ;;
*" test "*) sh scripts/setup.sh test ;;
*" package "*) sh scripts/setup.sh package ;;
*) sh scripts/setup.sh build ;;
esac
exec make "$@"
