# find_package(fastlstm CONFIG) reads this and gives the target fastlstm::core. A static
# library needs threads when it is linked.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/fastlstm-targets.cmake)
