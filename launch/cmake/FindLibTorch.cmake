# Finds LibTorch, be it the C++ distribution or the one inside a Python wheel, without its own CMake package
# (that insists on a CUDA toolkit of its choice and on its own list of architectures).
#
# Looks in CMAKE_PREFIX_PATH / LibTorch_ROOT, then in the project's .venv, then asks python3.
# Defines LibTorch::cpu (libtorch_cpu, libc10) and, where the build of torch has it, LibTorch::cuda.

if(NOT LibTorch_DIRECTORY)
  set(candidates ${LibTorch_ROOT} ${CMAKE_PREFIX_PATH})
  file(GLOB venv_torch ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  list(APPEND candidates ${venv_torch})
  find_program(LibTorch_PYTHON python3)
  foreach(candidate IN LISTS candidates)
    foreach(sub "" "/.." "/../.." "/../../..")  # CMAKE_PREFIX_PATH may name share/cmake/Torch or above it
      if(EXISTS "${candidate}${sub}/include/torch/csrc/api/include/torch/torch.h" AND EXISTS "${candidate}${sub}/lib/libtorch_cpu.so")
        get_filename_component(LibTorch_DIRECTORY "${candidate}${sub}" ABSOLUTE)
        break()
      endif()
    endforeach()
    if(LibTorch_DIRECTORY)
      break()
    endif()
  endforeach()
  if(NOT LibTorch_DIRECTORY AND LibTorch_PYTHON)
    execute_process(COMMAND ${LibTorch_PYTHON} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
                    OUTPUT_VARIABLE from_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(EXISTS "${from_python}/lib/libtorch_cpu.so")
      set(LibTorch_DIRECTORY ${from_python})
    endif()
  endif()
  set(LibTorch_DIRECTORY "${LibTorch_DIRECTORY}" CACHE PATH "LibTorch: the folder that holds include/ and lib/")
endif()

# The version macros moved between headers over the releases.
foreach(header include/torch/headeronly/version.h include/torch/csrc/api/include/torch/version.h)
  if(LibTorch_DIRECTORY AND EXISTS "${LibTorch_DIRECTORY}/${header}" AND NOT LibTorch_VERSION)
    foreach(part MAJOR MINOR PATCH)
      file(STRINGS "${LibTorch_DIRECTORY}/${header}" line REGEX "define TORCH_VERSION_${part} [0-9]+")
      string(REGEX MATCH "[0-9]+$" LibTorch_VERSION_${part} "${line}")
    endforeach()
    if(NOT LibTorch_VERSION_MAJOR STREQUAL "")
      set(LibTorch_VERSION ${LibTorch_VERSION_MAJOR}.${LibTorch_VERSION_MINOR}.${LibTorch_VERSION_PATCH})
    endif()
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_DIRECTORY VERSION_VAR LibTorch_VERSION)

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  foreach(library c10 torch_cpu)
    add_library(LibTorch::${library} SHARED IMPORTED)
    set_target_properties(LibTorch::${library} PROPERTIES
      IMPORTED_LOCATION ${LibTorch_DIRECTORY}/lib/lib${library}.so)
  endforeach()
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  # After the system's folders: LibTorch ships its own fmt headers, which must not stand in for those of the libfmt
  # that we link.
  foreach(folder include include/torch/csrc/api/include)
    target_compile_options(LibTorch::cpu INTERFACE
      "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${LibTorch_DIRECTORY}/${folder}>")
  endforeach()
  target_link_libraries(LibTorch::cpu INTERFACE LibTorch::torch_cpu LibTorch::c10)
  # The wheel's libraries name their own neighbours by relative run path; the linker need not chase them.
  target_link_options(LibTorch::cpu INTERFACE -Wl,--unresolved-symbols=ignore-in-shared-libs)
  if(EXISTS ${LibTorch_DIRECTORY}/lib/libtorch_cuda.so)
    foreach(library c10_cuda torch_cuda)
      add_library(LibTorch::${library} SHARED IMPORTED)
      set_target_properties(LibTorch::${library} PROPERTIES
        IMPORTED_LOCATION ${LibTorch_DIRECTORY}/lib/lib${library}.so)
    endforeach()
    add_library(LibTorch::cuda INTERFACE IMPORTED)
    # Registration of the CUDA kernels happens when libtorch_cuda is loaded: keep it though no symbol asks for it.
    target_link_libraries(LibTorch::cuda INTERFACE -Wl,--no-as-needed LibTorch::torch_cuda LibTorch::c10_cuda
                                                   -Wl,--as-needed LibTorch::cpu)
  endif()
endif()
