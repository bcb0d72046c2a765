# A Pico as MicroPython has it (RPI_PICO), plus lwIP with PPP: the emulator has no radio to offer.
set(PICO_BOARD "pico")
set(PICO_PLATFORM "rp2040")
set(MICROPY_PY_LWIP ON)
set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/manifest.py)

# What firmware may have beyond stock (boards/custom).
if(HANDFAST_OPTIONS)
    include(${HANDFAST_CUSTOM_DIR}/cmake/rp2.cmake)
endif()
