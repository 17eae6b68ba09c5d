# The shared library, and what `make install` puts in place.

# --- the shared library: it exports what the public headers declare, and nothing else -----------
file(GLOB PUBLIC_HEADERS CONFIGURE_DEPENDS include/tilth/*.h include/tilth/*.def)
set(EXPORT_MAP ${CMAKE_BINARY_DIR}/libtilth.map)
set(ABI ${PROJECT_VERSION_MAJOR}) # raised when a program built against the older library would break
add_custom_command(
  OUTPUT ${EXPORT_MAP}
  COMMAND ${CMAKE_COMMAND} -DHEADERS=${CMAKE_SOURCE_DIR}/include/tilth -DNODE=TILTH_${ABI}
          -DOUT=${EXPORT_MAP} -P ${CMAKE_SOURCE_DIR}/cmake/export_map.cmake
  DEPENDS ${PUBLIC_HEADERS} ${CMAKE_SOURCE_DIR}/cmake/export_map.cmake
  VERBATIM)
add_custom_target(tilth_export_map DEPENDS ${EXPORT_MAP})

add_library(tilth_shared SHARED $<TARGET_OBJECTS:tilth_objects>)
add_dependencies(tilth_shared tilth_export_map)
set_target_properties(tilth_shared PROPERTIES OUTPUT_NAME tilth EXPORT_NAME tilth
                      VERSION ${PROJECT_VERSION} SOVERSION ${ABI} LINK_DEPENDS ${EXPORT_MAP})
# A function that a header declares and no source defines stops the link.
target_link_options(tilth_shared PRIVATE LINKER:--version-script=${EXPORT_MAP}
                    LINKER:--no-undefined-version LINKER:-z,defs LINKER:-Bsymbolic-functions)
target_link_libraries(tilth_shared PRIVATE PkgConfig::DEPS Threads::Threads m)
target_include_directories(tilth_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(tilth PROPERTIES EXPORT_NAME static)

# --- libraries, headers, program ------------------------------------------------------------------
install(TARGETS tilth_shared EXPORT tilth-targets DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS tilth EXPORT tilth-static-targets DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS tilth_cli DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${PUBLIC_HEADERS} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tilth)

# --- pkg-config: all paths follow from the file's own place, so that the tree can be moved --------
set(PC_DIR ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH PC_PREFIX /prefix/${PC_DIR} /prefix)
set(PC_PRIVATE "")
foreach(lib ${DEPS_LIBRARIES})
  string(APPEND PC_PRIVATE "-l${lib} ")
endforeach()
configure_file(cmake/tilth.pc.in tilth.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/tilth.pc DESTINATION ${PC_DIR})

# --- CMake: find_package(tilth) gives tilth::tilth, with COMPONENTS static also tilth::static -----
include(CMakePackageConfigHelpers)
set(PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/tilth)
install(EXPORT tilth-targets NAMESPACE tilth:: DESTINATION ${PACKAGE_DIR})
install(EXPORT tilth-static-targets NAMESPACE tilth:: DESTINATION ${PACKAGE_DIR})
list(JOIN TILTH_MODULES " " TILTH_MODULES)
configure_package_config_file(cmake/tilth-config.cmake.in tilth-config.cmake
                              INSTALL_DESTINATION ${PACKAGE_DIR})
write_basic_package_version_file(tilth-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/tilth-config.cmake ${CMAKE_BINARY_DIR}/tilth-config-version.cmake
        DESTINATION ${PACKAGE_DIR})

# --- manual pages and completion, written by the program from its option tables -------------------
set(DOCS_DIR ${CMAKE_BINARY_DIR}/share)
add_custom_command(
  OUTPUT ${DOCS_DIR}/written
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${DOCS_DIR}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${DOCS_DIR}/man1
  COMMAND tilth_cli docs man --out ${DOCS_DIR}/man1
  COMMAND tilth_cli docs bash > ${DOCS_DIR}/tilth
  COMMAND tilth_cli docs zsh > ${DOCS_DIR}/_tilth
  COMMAND tilth_cli docs fish > ${DOCS_DIR}/tilth.fish
  COMMAND ${CMAKE_COMMAND} -E touch ${DOCS_DIR}/written
  DEPENDS tilth_cli)
add_custom_target(tilth_docs ALL DEPENDS ${DOCS_DIR}/written)
install(DIRECTORY ${DOCS_DIR}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
install(FILES ${DOCS_DIR}/tilth DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${DOCS_DIR}/_tilth DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${DOCS_DIR}/tilth.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
