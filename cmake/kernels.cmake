include(CheckCXXSourceCompiles)

# fastlstm_add_kernels(target): one translation unit of kernels for each instruction set
# of the target processor, each with its own flags. The rest of the core is built for the
# baseline (x86-64, armv8-a): an instruction set is used only after the CPU was asked.
function(fastlstm_add_kernels target)
  set(dir ${PROJECT_SOURCE_DIR}/cpp/src/kernels)
  target_sources(${target} PRIVATE ${dir}/scalar.cpp)
  # g++ 12 takes the undefined operand inside its own intrinsics for a mistake of ours.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(intrinsics -Wno-maybe-uninitialized -Wno-uninitialized)
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
    target_sources(${target} PRIVATE ${dir}/avx2.cpp ${dir}/avx512.cpp)
    set_source_files_properties(${dir}/avx2.cpp TARGET_DIRECTORY ${target}
      PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
    set(avx512
      -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mprefer-vector-width=512 ${intrinsics})
    set_source_files_properties(${dir}/avx512.cpp TARGET_DIRECTORY ${target}
      PROPERTIES COMPILE_OPTIONS "${avx512}")
    target_compile_definitions(${target} PRIVATE FASTLSTM_X86=1)
    # Its instructions are written as assembly. Only Linux is asked for leave to use them.
    check_cxx_source_compiles(
      "int main() { asm volatile(\"tdpbf16ps %tmm2, %tmm1, %tmm0\"); }" FASTLSTM_HAS_AMX)
    if(FASTLSTM_HAS_AMX AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
      target_sources(${target} PRIVATE ${dir}/amx.cpp)
      set_source_files_properties(${dir}/amx.cpp TARGET_DIRECTORY ${target}
        PROPERTIES COMPILE_OPTIONS "${avx512}")
      target_compile_definitions(${target} PRIVATE FASTLSTM_AMX=1)
    endif()
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    target_sources(${target} PRIVATE ${dir}/neon.cpp)
    target_compile_definitions(${target} PRIVATE FASTLSTM_AARCH64=1)
  endif()
endfunction()
