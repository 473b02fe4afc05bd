# Finds Arrow's C++ libraries with Parquet: those that are installed, by their own CMake packages, or those inside a
# Python wheel (-DArrow_ROOT=$(python3 -c 'import pyarrow; print(pyarrow.__path__[0])')).
#
# Defines the target flexgen::parquet where a program that uses it links; else ArrowParquet_PROBLEM says what is wrong.
# Arrow 21 is the first that will do. A program is linked to find out, since a library may be too old, or have been
# built with the other of the two ABIs of libstdc++.

set(ArrowParquet_FOUND TRUE)
set(arrow_place)
if(Arrow_ROOT AND EXISTS ${Arrow_ROOT}/include/parquet/arrow/reader.h)
  file(GLOB arrow_library ${Arrow_ROOT}/libarrow.so ${Arrow_ROOT}/libarrow.so.*)
  file(GLOB parquet_library ${Arrow_ROOT}/libparquet.so ${Arrow_ROOT}/libparquet.so.*)
  if(arrow_library AND parquet_library)
    list(GET arrow_library 0 arrow_library)
    list(GET parquet_library 0 parquet_library)
    add_library(flexgen::arrow SHARED IMPORTED)
    set_target_properties(flexgen::arrow PROPERTIES IMPORTED_LOCATION ${arrow_library})
    target_include_directories(flexgen::arrow SYSTEM INTERFACE ${Arrow_ROOT}/include)
    add_library(flexgen::parquet SHARED IMPORTED)
    set_target_properties(flexgen::parquet PROPERTIES IMPORTED_LOCATION ${parquet_library})
    target_link_libraries(flexgen::parquet INTERFACE flexgen::arrow)
    set(arrow_place ${Arrow_ROOT})
  endif()
endif()
if(NOT arrow_place)
  find_package(Arrow CONFIG QUIET)
  find_package(Parquet CONFIG QUIET)
  foreach(library Parquet::parquet_shared Parquet::parquet_static)
    if(TARGET ${library} AND NOT arrow_place)
      add_library(flexgen::parquet INTERFACE IMPORTED)
      target_link_libraries(flexgen::parquet INTERFACE ${library})
      set(arrow_place ${Parquet_DIR})
    endif()
  endforeach()
endif()

if(NOT arrow_place)
  set(ArrowParquet_FOUND FALSE)
  set(ArrowParquet_PROBLEM "Arrow's C++ libraries with Parquet were not found")
else()
  if(NOT arrow_place STREQUAL ArrowParquet_CHECKED)
    unset(ArrowParquet_LINKS CACHE)
    set(ArrowParquet_CHECKED ${arrow_place} CACHE INTERNAL "The libraries that ArrowParquet_LINKS is about")
  endif()
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LIBRARIES flexgen::parquet)
  set(CMAKE_REQUIRED_QUIET ON)
  check_cxx_source_compiles("
    #include <arrow/api.h>
    #include <parquet/arrow/reader.h>
    int main() {
      arrow::Result<std::unique_ptr<parquet::arrow::FileReader>> reader = parquet::arrow::FileReader::Make(nullptr, nullptr);
      arrow::Result<std::unique_ptr<arrow::RecordBatchReader>> rows = (*reader)->GetRecordBatchReader({0});
      return static_cast<int>(rows.status().ToString().size());
    }" ArrowParquet_LINKS)
  unset(CMAKE_REQUIRED_LIBRARIES)
  unset(CMAKE_REQUIRED_QUIET)
  if(NOT ArrowParquet_LINKS)
    set(ArrowParquet_FOUND FALSE)
    set(ArrowParquet_PROBLEM "the Arrow libraries of ${arrow_place} do not link with this compiler: they are older than 21, or of another ABI")
  endif()
endif()
