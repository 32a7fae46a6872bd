# The programs that both projects build against fastlstm::core.
add_executable(consumer_cpp ${CMAKE_CURRENT_LIST_DIR}/main.cpp)
target_link_libraries(consumer_cpp PRIVATE fastlstm::core)
add_executable(consumer_c ${CMAKE_CURRENT_LIST_DIR}/main.c)
target_link_libraries(consumer_c PRIVATE fastlstm::core)
set_target_properties(consumer_c PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON)
foreach(program consumer_cpp consumer_c)
  target_compile_options(${program} PRIVATE -Wall -Wextra -Wpedantic -Werror)
endforeach()
