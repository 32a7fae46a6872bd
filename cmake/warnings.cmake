# fastlstm_target_options(target): warnings, sanitizers and the floating-point rules
# that every target of this project shares.
function(fastlstm_target_options target)
  # FMA only where it is written: g++ contracts a*b+c by itself otherwise, and results
  # would differ between compilers. No errno and no traps: the kernels are branch-free.
  target_compile_options(${target} PRIVATE
    -ffp-contract=off -fno-math-errno -fno-trapping-math
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
  if(FASTLSTM_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(FASTLSTM_SANITIZE)
    target_compile_options(${target} PRIVATE
      -fsanitize=${FASTLSTM_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${FASTLSTM_SANITIZE})
  endif()
endfunction()
