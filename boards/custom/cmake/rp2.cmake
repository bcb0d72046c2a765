# The options on an RP2040 or RP2350, where mbedTLS is MicroPython's own. A board's
# mpconfigboard.cmake includes this last.

if(NOT MICROPY_FROZEN_MANIFEST)
    set(MICROPY_FROZEN_MANIFEST ${MICROPY_PORT_DIR}/boards/manifest.py)
endif()

include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

set(MBEDTLS_CONFIG_FILE "${CMAKE_CURRENT_LIST_DIR}/rp2_mbedtls_config.h")
set(handfast_mbedtls ${MICROPY_DIR}/lib/mbedtls/library)

if("tls13" IN_LIST HANDFAST_OPTIONS)
    file(READ ${CMAKE_CURRENT_LIST_DIR}/../mbedtls/tls13_sources.mk lines)
    string(REGEX MATCHALL "\t[a-z0-9_]+[.]c" names "${lines}")
    foreach(name IN LISTS names)
        string(STRIP ${name} name)
        list(APPEND MICROPY_SOURCE_BOARD ${handfast_mbedtls}/${name})
    endforeach()
endif()

if("fast-mbedtls" IN_LIST HANDFAST_OPTIONS)
    # The last -O counts.
    file(GLOB sources ${handfast_mbedtls}/*.c)
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "-O2")
endif()
