#include "boards/RPI_PICO_W/mpconfigboard.h"
