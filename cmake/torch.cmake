# The torch to build against, as the imported target motet_torch.
#
# Where it is, first match: MOTET_TORCH (cache or environment; the folder of a torch package or
# libtorch, or a Python that can import torch), CMAKE_PREFIX_PATH, the repository's .venv.
# Torch's own find_package is not used: with a CUDA build of torch it demands the CUDA toolkit, which
# motet does not need, and it cannot be told to link torch_cuda without it.

set(MOTET_TORCH "$ENV{MOTET_TORCH}" CACHE STRING "Folder of torch, or a Python that imports it")

function(motet_find_torch result)
  if(MOTET_TORCH AND IS_DIRECTORY "${MOTET_TORCH}")
    set(folder "${MOTET_TORCH}")
  elseif(MOTET_TORCH)
    execute_process(
      COMMAND "${MOTET_TORCH}" -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_VARIABLE error RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
      message(FATAL_ERROR "setup: MOTET_TORCH = ${MOTET_TORCH} is neither a folder nor a Python that can import torch:\n${error}")
    endif()
  else()
    find_file(MOTET_TORCH_CONFIG TorchConfig.cmake
              PATH_SUFFIXES share/cmake/Torch Torch NO_CMAKE_SYSTEM_PATH)
    mark_as_advanced(MOTET_TORCH_CONFIG)
    if(MOTET_TORCH_CONFIG)
      get_filename_component(folder "${MOTET_TORCH_CONFIG}/../../../.." ABSOLUTE)
    else()
      file(GLOB folder "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
    endif()
  endif()
  if(NOT EXISTS "${folder}/lib/libtorch_cpu.so" OR
     (NOT EXISTS "${folder}/include/torch/types.h" AND
      NOT EXISTS "${folder}/include/torch/csrc/api/include/torch/types.h"))
    message(FATAL_ERROR "setup: no torch found (looked in '${folder}'). Run ./run setup, or set "
                        "MOTET_TORCH to the folder of an installed torch 2.x.")
  endif()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# Wheels before torch 2.6 were built with the old C++ ABI, which no distribution's libraries match.
function(motet_check_torch_abi folder)
  set(config "${folder}/share/cmake/Torch/TorchConfig.cmake")
  if(EXISTS "${config}")
    file(STRINGS "${config}" old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
    if(old_abi)
      message(FATAL_ERROR "setup: the torch in ${folder} has the old C++ ABI "
                          "(_GLIBCXX_USE_CXX11_ABI=0). Use the wheels of torch 2.6 or newer.")
    endif()
  endif()
endfunction()

motet_find_torch(MOTET_TORCH_FOLDER)
motet_check_torch_abi("${MOTET_TORCH_FOLDER}")
message(STATUS "torch: ${MOTET_TORCH_FOLDER}")

add_library(motet_torch INTERFACE)
target_include_directories(motet_torch SYSTEM INTERFACE
  "${MOTET_TORCH_FOLDER}/include" "${MOTET_TORCH_FOLDER}/include/torch/csrc/api/include")
target_link_directories(motet_torch INTERFACE "${MOTET_TORCH_FOLDER}/lib")
target_link_options(motet_torch INTERFACE "-Wl,-rpath,${MOTET_TORCH_FOLDER}/lib")
target_link_libraries(motet_torch INTERFACE torch torch_cpu c10)
# at::parallel_for is inline and runs on one thread unless its caller is compiled with OpenMP. By flag,
# not by find_package(OpenMP): the libgomp loaded must be torch's own, first in the rpath.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(motet_torch INTERFACE -fopenmp)
  target_link_options(motet_torch INTERFACE -fopenmp)
endif()
if(EXISTS "${MOTET_TORCH_FOLDER}/lib/libtorch_cuda.so")
  # Nothing of ours names a symbol of torch_cuda: it registers itself when loaded, so it must be
  # kept although "unused". Its own needs (cuDNN, ...) are found at run time by its own rpath.
  target_link_options(motet_torch INTERFACE -Wl,--unresolved-symbols=ignore-in-shared-libs)
  target_link_libraries(motet_torch INTERFACE
    "-Wl,--push-state,--no-as-needed,-lc10_cuda,-ltorch_cuda,--pop-state")
endif()
