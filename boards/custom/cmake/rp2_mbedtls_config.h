// mbedTLS as ports/rp2 configures it, and what the build options add.
#include "ports/rp2/mbedtls/mbedtls_config_port.h"
#include "../mbedtls/mbedtls_options.h"
