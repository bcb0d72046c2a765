// lwIP as ports/rp2 has it for the Pico W.
#define LWIP_NETIF_EXT_STATUS_CALLBACK  (1)
#define LWIP_NETIF_STATUS_CALLBACK      (1)
#define LWIP_IPV4                       (1)
#define LWIP_IPV6                       (1)
#define LWIP_ND6_NUM_DESTINATIONS       (4)
#define LWIP_ND6_QUEUEING               (0)
unsigned long mps2_random_seed(void);
#define LWIP_RAND() mps2_random_seed()
#include "extmod/lwip-include/lwipopts_common.h"
