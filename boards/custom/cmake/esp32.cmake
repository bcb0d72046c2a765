# The options on an ESP32, where mbedTLS is ESP-IDF's: it is configured by sdkconfig, and not
# patched. A board's mpconfigboard.cmake includes this last. Never built here: there is no ESP-IDF.

if(NOT MICROPY_DIR)
    get_filename_component(MICROPY_DIR ${CMAKE_CURRENT_SOURCE_DIR}/../.. ABSOLUTE)
endif()
if(NOT MICROPY_FROZEN_MANIFEST)
    set(MICROPY_FROZEN_MANIFEST ${CMAKE_CURRENT_SOURCE_DIR}/boards/manifest.py)
endif()

include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

# session-resumption needs nothing here: ESP-IDF has the extended master secret on. fast-mbedtls has
# no file: ports/esp32 compiles everything for speed (boards/sdkconfig.base).
foreach(option IN LISTS HANDFAST_OPTIONS)
    if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/esp32/sdkconfig.${option})
        list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_CURRENT_LIST_DIR}/esp32/sdkconfig.${option})
    endif()
endforeach()
