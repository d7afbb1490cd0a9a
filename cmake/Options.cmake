# SPDX-License-Identifier: Apache-2.0
# How a build may differ from the plain one; CMakePresets.json names the useful combinations.
set(GEMMUX_SANITIZE "" CACHE STRING "Sanitizers for everything: address,undefined or thread")
if(GEMMUX_SANITIZE)
    add_compile_options(-fsanitize=${GEMMUX_SANITIZE} -fno-sanitize-recover=all
                        -fno-omit-frame-pointer -O1)
    add_link_options(-fsanitize=${GEMMUX_SANITIZE})
    if(CMAKE_C_COMPILER_ID STREQUAL GNU) # instrumentation hides the bounds that these reason about
        add_compile_options(-Wno-format-truncation -Wno-maybe-uninitialized -Wno-stringop-overflow
                            -Wno-array-bounds -Wno-nonnull)
    endif()
endif()

set(GEMMUX_TESTS "." CACHE STRING "Build only tests/test_*.c whose name matches this expression")

option(GEMMUX_FUZZ "Build tests/fuzz with libFuzzer and fuzz for $GEMMUX_FUZZ_SECONDS each (clang)" OFF)
if(GEMMUX_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link)
    add_link_options(-fsanitize=fuzzer-no-link)
endif()
