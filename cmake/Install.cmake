# SPDX-License-Identifier: Apache-2.0
# cmake --install and cpack: library (shared and static), header, pkg-config and CMake package
# files, command, man page, completions, the model that `gemmux run` takes by default.
include(CMakePackageConfigHelpers)

install(TARGETS gemmux gemmux_static EXPORT gemmuxTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES include/gemmux.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
# It finds the library beside which it was installed, wherever that is moved.
file(RELATIVE_PATH to_library /${CMAKE_INSTALL_LIBEXECDIR}/gemmux /${CMAKE_INSTALL_LIBDIR})
set_target_properties(gemmux_prove PROPERTIES INSTALL_RPATH "\$ORIGIN/${to_library}")
install(TARGETS gemmux_prove DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/gemmux)
if(TARGET gemmux_cli)
    install(TARGETS gemmux_cli DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gemmux)
install(EXPORT gemmuxTargets NAMESPACE gemmux:: DESTINATION ${package_dir})
configure_package_config_file(cmake/gemmuxConfig.cmake.in gemmuxConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(gemmuxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/gemmuxConfig.cmake ${CMAKE_BINARY_DIR}/gemmuxConfigVersion.cmake
        DESTINATION ${package_dir})

# Relative to the .pc file, so that an install tree can be moved.
file(RELATIVE_PATH pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
configure_file(cmake/gemmux.pc.in gemmux.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/gemmux.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(FILES docs/gemmux.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES completions/gemmux.bash RENAME gemmux
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES completions/gemmux.zsh RENAME _gemmux
        DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
install(FILES completions/gemmux.fish
        DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(EXISTS ${CMAKE_SOURCE_DIR}/models)
    install(DIRECTORY models DESTINATION ${CMAKE_INSTALL_DATADIR}/gemmux
            PATTERN "*.py" EXCLUDE)
endif()

set(CPACK_GENERATOR DEB TGZ)
set(CPACK_PACKAGE_NAME gemmux)
set(CPACK_PACKAGE_CONTACT "the gemmux authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Routes matrix products to the kernel that truly works here")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
# Opened at run time when they are there.
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "libdnnl2, libopenblas0")
include(CPack)
