# One static library per room of src/, and one test program per room of tests/.

# flexgen_room(NAME SOURCES a.cpp ... [USES room ...] [LINKS target ...] [LIGHTLY_OPTIMISED] [FILE_BY_FILE])
#   USES   rooms whose headers this one may include (the arrows of src/README.md)
#   LINKS  third-party targets, private to the room unless its headers show them
#   LIGHTLY_OPTIMISED  what runs once a job or a row, never in a sweep: that takes a quarter off its build
#   FILE_BY_FILE  inner loops, which FLEXGEN_UNITY leaves alone: compiled with others they are inlined otherwise
function(flexgen_room name)
  cmake_parse_arguments(ROOM "LIGHTLY_OPTIMISED;FILE_BY_FILE" "" "SOURCES;USES;LINKS;PUBLIC_LINKS" ${ARGN})
  add_library(flexgen_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(flexgen_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  if(FLEXGEN_UNITY AND NOT ROOM_FILE_BY_FILE)
    set_target_properties(flexgen_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # it takes the files of a room for headers
      target_compile_options(flexgen_${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
    endif()
  endif()
  foreach(used IN LISTS ROOM_USES)
    target_link_libraries(flexgen_${name} PUBLIC flexgen_${used})
  endforeach()
  target_link_libraries(flexgen_${name} PUBLIC flexgen_options ${ROOM_PUBLIC_LINKS} PRIVATE ${ROOM_LINKS})
  if(ROOM_LIGHTLY_OPTIMISED AND NOT FLEXGEN_SANITIZE)
    target_compile_options(flexgen_${name} PRIVATE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-O1>)
  endif()
endfunction()

# flexgen_test(NAME SOURCES a.cpp ... USES room ... [LABEL unit|parity|mpi|fault|gpu] [TIMEOUT s]
#              [RANKS 1 2 4 | SHARDS n])
#   A GoogleTest program, one CTest entry per program (per rank count where RANKS is given). SHARDS deals a long room's
#   tests to n entries, so that several cores have work.
function(flexgen_test name)
  cmake_parse_arguments(TEST "" "LABEL;TIMEOUT;SHARDS" "SOURCES;USES;LINKS;RANKS" ${ARGN})
  if(NOT TEST_LABEL)
    set(TEST_LABEL unit)
  endif()
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  add_executable(test_${name} ${TEST_SOURCES})
  foreach(used IN LISTS TEST_USES)
    target_link_libraries(test_${name} PRIVATE flexgen_${used})
  endforeach()
  target_link_libraries(test_${name} PRIVATE flexgen_options GTest::gtest ${TEST_LINKS})
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(test_${name} PRIVATE FLEXGEN_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                                  FLEXGEN_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(TEST_SHARDS)
    target_link_libraries(test_${name} PRIVATE GTest::gtest_main)
    foreach(shard RANGE 1 ${TEST_SHARDS})
      math(EXPR index "${shard} - 1")
      add_test(NAME ${name}.${shard} COMMAND test_${name})
      set_tests_properties(${name}.${shard} PROPERTIES
        LABELS ${TEST_LABEL} TIMEOUT ${TEST_TIMEOUT}
        ENVIRONMENT "GTEST_TOTAL_SHARDS=${TEST_SHARDS};GTEST_SHARD_INDEX=${index}")
    endforeach()
  elseif(NOT TEST_RANKS)
    target_link_libraries(test_${name} PRIVATE GTest::gtest_main)
    add_test(NAME ${name} COMMAND test_${name})
    set_tests_properties(${name} PROPERTIES LABELS ${TEST_LABEL} TIMEOUT ${TEST_TIMEOUT})
  else()
    foreach(ranks IN LISTS TEST_RANKS)
      add_test(NAME ${name}.np${ranks}
               COMMAND ${PROJECT_SOURCE_DIR}/launch/mpirun.sh -n ${ranks} $<TARGET_FILE:test_${name}>)
      set_tests_properties(${name}.np${ranks} PROPERTIES LABELS ${TEST_LABEL} TIMEOUT ${TEST_TIMEOUT}
                                                         PROCESSORS ${ranks})
    endforeach()
  endif()
endfunction()
