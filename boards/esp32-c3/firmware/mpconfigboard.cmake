# ESP32_GENERIC_C3 as MicroPython has it, and what HANDFAST_OPTIONS names (boards/custom).
include(${CMAKE_CURRENT_SOURCE_DIR}/boards/ESP32_GENERIC_C3/mpconfigboard.cmake)
include(${HANDFAST_CUSTOM_DIR}/cmake/esp32.cmake)
