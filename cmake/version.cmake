# Run at every build: writes OUTPUT (a .cpp with the version and the git commit) when it changed.
# Arguments: -DSOURCE=<repository> -DVERSION=<x.y.z> -DTEMPLATE=<version.cpp.in> -DOUTPUT=<file>
set(COMMIT "unknown")
find_program(GIT git)
if(GIT AND EXISTS "${SOURCE}/.git")
  execute_process(COMMAND ${GIT} rev-parse HEAD WORKING_DIRECTORY "${SOURCE}"
                  OUTPUT_VARIABLE head OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                  RESULT_VARIABLE status)
  if(status EQUAL 0)
    set(COMMIT "${head}")
    # Results and documents do not change what the program computes.
    execute_process(COMMAND ${GIT} status --porcelain --untracked-files=no -- CMakeLists.txt cmake include src models
                    WORKING_DIRECTORY "${SOURCE}" OUTPUT_VARIABLE changes ERROR_QUIET)
    if(changes)
      string(APPEND COMMIT "-dirty")
    endif()
  endif()
endif()
configure_file("${TEMPLATE}" "${OUTPUT}" @ONLY)
