# Third-party libraries. Static or header-only where the distribution has them, so that a built binary needs only
# the C and C++ run-time, Open MPI, and (where chosen) LibTorch, CUDA and NCCL on the machine that runs it.

function(flexgen_static_library target header library)
  find_path(${target}_INCLUDE ${header} REQUIRED)
  if(EXISTS ${${target}_INCLUDE}/ATen)  # LibTorch has a copy of fmt among its headers, of another version than the library
    unset(${target}_INCLUDE CACHE)
    find_path(${target}_INCLUDE ${header} REQUIRED NO_CMAKE_PATH NO_CMAKE_ENVIRONMENT_PATH)
  endif()
  find_library(${target}_LIBRARY NAMES lib${library}.a ${library} REQUIRED)
  add_library(flexgen::${target} INTERFACE IMPORTED)
  target_include_directories(flexgen::${target} SYSTEM INTERFACE ${${target}_INCLUDE})
  target_link_libraries(flexgen::${target} INTERFACE ${${target}_LIBRARY})
endfunction()

flexgen_static_library(fmt fmt/format.h fmt)
flexgen_static_library(spdlog spdlog/spdlog.h spdlog)
target_compile_definitions(flexgen::spdlog INTERFACE SPDLOG_COMPILED_LIB SPDLOG_FMT_EXTERNAL)
target_link_libraries(flexgen::spdlog INTERFACE flexgen::fmt)
flexgen_static_library(pcre2 pcre2.h pcre2-8)
flexgen_static_library(uring liburing.h uring)
find_path(NLOHMANN_JSON_INCLUDE nlohmann/json.hpp REQUIRED)
add_library(flexgen::json INTERFACE IMPORTED)
target_include_directories(flexgen::json SYSTEM INTERFACE ${NLOHMANN_JSON_INCLUDE})
find_path(CXXOPTS_INCLUDE cxxopts.hpp REQUIRED)
add_library(flexgen::cxxopts INTERFACE IMPORTED)
target_include_directories(flexgen::cxxopts SYSTEM INTERFACE ${CXXOPTS_INCLUDE})

# Packed rows.
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)

# Rows as Parquet.
if(FLEXGEN_ARROW)
  find_package(ArrowParquet QUIET)
  if(ArrowParquet_FOUND)
    set(FLEXGEN_PARQUET ON)
  elseif(NOT FLEXGEN_ARROW STREQUAL "AUTO")
    message(FATAL_ERROR "FLEXGEN_ARROW is ON, but ${ArrowParquet_PROBLEM}. Install libarrow-dev and libparquet-dev "
                        "(https://arrow.apache.org/install), or 'pip install pyarrow' and give "
                        "-DArrow_ROOT=$(python3 -c 'import pyarrow; print(pyarrow.__path__[0])'), or -DFLEXGEN_ARROW=OFF")
  else()
    message(STATUS "Without Parquet: ${ArrowParquet_PROBLEM}")
  endif()
endif()

# The metrics server.
pkg_check_modules(httplib REQUIRED IMPORTED_TARGET cpp-httplib)

# The planner's linear programmes.
pkg_check_modules(clp REQUIRED IMPORTED_TARGET clp)

find_package(MPI REQUIRED COMPONENTS CXX)

if(FLEXGEN_TORCH)
  find_package(LibTorch REQUIRED)
endif()

if(FLEXGEN_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 75 80 86 89 90)
  endif()
  # The shared run-time is the one that LibTorch loads: one copy per process.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  enable_language(CUDA)
  # As a plain flag: CMake 3.22 to 3.25 do not know that nvcc speaks C++20.
  string(APPEND CMAKE_CUDA_FLAGS " -std=c++20")
  find_package(CUDAToolkit REQUIRED)
  if(FLEXGEN_NCCL)
    find_path(NCCL_INCLUDE nccl.h HINTS ${LibTorch_DIRECTORY}/../nvidia/nccl/include)
    find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${LibTorch_DIRECTORY}/../nvidia/nccl/lib ${CUDAToolkit_LIBRARY_DIR})
    if(NCCL_INCLUDE AND NCCL_LIBRARY)
      add_library(flexgen::nccl INTERFACE IMPORTED)
      target_include_directories(flexgen::nccl SYSTEM INTERFACE ${NCCL_INCLUDE})
      target_link_libraries(flexgen::nccl INTERFACE ${NCCL_LIBRARY})
    else()
      message(WARNING "No NCCL beside LibTorch or on the system: ranks will exchange hidden states through MPI alone")
      set(FLEXGEN_NCCL OFF)
    endif()
  endif()
else()
  set(FLEXGEN_NCCL OFF)
endif()

if(BUILD_TESTING)
  find_package(GTest REQUIRED)
endif()

# An installed program finds LibTorch, CUDA and NCCL where they were found now. CMake's own rule for this leaves out
# folders inside the project, such as .venv, so name them.
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
if(FLEXGEN_TORCH)
  list(APPEND CMAKE_INSTALL_RPATH ${LibTorch_DIRECTORY}/lib)
endif()
if(FLEXGEN_CUDA)
  list(APPEND CMAKE_INSTALL_RPATH ${CUDAToolkit_LIBRARY_DIR})
endif()
if(FLEXGEN_NCCL)
  get_filename_component(nccl_directory ${NCCL_LIBRARY} DIRECTORY)
  list(APPEND CMAKE_INSTALL_RPATH ${nccl_directory})
endif()
