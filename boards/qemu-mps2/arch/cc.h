// lwIP's view of the compiler.
#include <assert.h>
#define LWIP_PLATFORM_DIAG(message)
#define LWIP_PLATFORM_ASSERT(message) { assert(0); }
#define LWIP_NO_CTYPE_H (1)
