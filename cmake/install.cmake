# What `cmake --install` puts in place: the library, its headers, the package files of
# find_package(fastlstm CONFIG) and of pkg-config. Everything may be moved afterwards.
include(CMakePackageConfigHelpers)

install(TARGETS fastlstm_core EXPORT fastlstm
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/cpp/include/
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fastlstm)
install(EXPORT fastlstm NAMESPACE fastlstm:: FILE fastlstm-targets.cmake
  DESTINATION ${package_dir})
# Before 1.0 a new minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fastlstm-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_LIST_DIR}/fastlstm-config.cmake
  ${PROJECT_BINARY_DIR}/fastlstm-config-version.cmake
  DESTINATION ${package_dir})

# pkg-config finds the prefix from where the file lies.
file(RELATIVE_PATH FASTLSTM_UP_TO_PREFIX
  /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
get_target_property(type fastlstm_core TYPE)
if(type STREQUAL "SHARED_LIBRARY")
  set(FASTLSTM_CFLAGS "-DFASTLSTM_SHARED=1")
else()
  set(FASTLSTM_PRIVATE_LIBS "-lstdc++ -lm -pthread")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/fastlstm.pc.in
  ${PROJECT_BINARY_DIR}/fastlstm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fastlstm.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
