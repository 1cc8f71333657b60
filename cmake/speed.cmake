# What makes builds fast, used where it is there: ccache, mold, little debug information.
find_program(MOTET_CCACHE ccache)
if(MOTET_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Without the sloppiness ccache declines every file that uses a precompiled header; with the base
  # folder another clone of the repository finds the same results.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${MOTET_CCACHE})
endif()

find_program(MOTET_MOLD mold)
if(MOTET_MOLD AND (NOT CMAKE_CXX_COMPILER_ID STREQUAL GNU OR CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 12.1))
  add_link_options(-fuse-ld=mold)
endif()

# -g1 (functions and lines, no variables): with -g a 20-line file on torch's headers becomes an
# object of 6.3 MB instead of 0.8, and takes a third longer to compile. -O1: a file
# full of templates (src/reproduce_summary.cpp) takes 9 s instead of 13 with -O2.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")
