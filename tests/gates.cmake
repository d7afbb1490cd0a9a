# SPDX-License-Identifier: Apache-2.0
# Gates: properties of the tree and of what was built that no C test can see. Registered in plain
# builds only; under a sanitizer they would say the same thing twice.
function(gemmux_gate name)
    add_test(NAME gate_${name} COMMAND ${ARGN} COMMAND_EXPAND_LISTS
             WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(gate_${name} PROPERTIES LABELS gate TIMEOUT 300)
endfunction()

gemmux_gate(architecture bash scripts/check_architecture.sh)
gemmux_gate(catches bash tests/gates/catches.sh)
gemmux_gate(purity sh scripts/check_purity.sh $<TARGET_OBJECTS:gemmux_objects>)
gemmux_gate(symbols sh scripts/check_symbols.sh $<TARGET_FILE:gemmux> include/gemmux.h)
gemmux_gate(format sh scripts/check_format.sh)
if(TARGET gemmux_cli)
    gemmux_gate(docs bash scripts/check_docs.sh $<TARGET_FILE:gemmux_cli>)
    gemmux_gate(install bash tests/install/install.sh ${CMAKE_BINARY_DIR} ${CMAKE_COMMAND})
endif()
