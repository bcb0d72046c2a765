# RPI_PICO_W as MicroPython has it, and what HANDFAST_OPTIONS names (boards/custom).
set(stock ${MICROPY_PORT_DIR}/boards/RPI_PICO_W)
include(${stock}/mpconfigboard.cmake)
set(MICROPY_BOARD_PINS ${stock}/pins.csv)
set(MICROPY_FROZEN_MANIFEST ${stock}/manifest.py)
include(${HANDFAST_CUSTOM_DIR}/cmake/rp2.cmake)
