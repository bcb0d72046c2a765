// network.LAN: the board's LAN9118 Ethernet controller under lwIP (SMSC LAN9118 data sheet, rev. 1.5;
// the arguments are those of the ESP32 port's network.LAN).
#include <string.h>

#include "py/mphal.h"
#include "py/runtime.h"
#include "extmod/modnetwork.h"
#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/netif.h"
#include "netif/ethernet.h"
#include "mps2.h"

#define LAN(offset)         MPS2_REG(0x40200000 + (offset))
#define RX_DATA             LAN(0x00)
#define TX_DATA             LAN(0x20)
#define RX_STATUS           LAN(0x40)
#define TX_STATUS           LAN(0x48)
#define IRQ_CONFIG          LAN(0x54)
#define INTERRUPTS          LAN(0x58)
#define INTERRUPTS_ENABLED  LAN(0x5C)
#define RX_CONFIG           LAN(0x6C)
#define TX_CONFIG           LAN(0x70)
#define HARDWARE_CONFIG     LAN(0x74)
#define RX_LEVEL            LAN(0x7C)
#define TX_LEVEL            LAN(0x80)
#define MAC_COMMAND         LAN(0xA4)
#define MAC_VALUE           LAN(0xA8)

#define INTERRUPT_RECEIVED  (1 << 3)
#define IRQ_ACTIVE_HIGH     (1 << 8 | 1 << 4 | 1 << 0) // on, and as the NVIC has it
#define RX_FAILED           (1 << 15)
#define FRAME_FIRST_LAST    (1 << 13 | 1 << 12)
#define MAC_BUSY            (1u << 31)
#define MAC_READ            (1u << 30)
#define MAC_SETTINGS        (1 << 2 | 1 << 3 | 1 << 20) // receives, sends, full duplex

enum { MAC_CONTROL = 1, MAC_ADDRESS_HIGH = 2, MAC_ADDRESS_LOW = 3 };

#define CHECKSUM_BYTES      (4)
#define FRAME_WORDS         (380) // 1500 octets, a header and a checksum

typedef struct {
    mp_obj_base_t base;
    struct netif netif;
    bool active;
} lan_obj_t;

static lan_obj_t lan = { { &mps2_lan_type } };

// ---- The chip ----

static void mac_write(uint32_t which, uint32_t value) {
    MAC_VALUE = value;
    MAC_COMMAND = MAC_BUSY | which;
    while (MAC_COMMAND & MAC_BUSY) {
    }
}

static uint32_t mac_read(uint32_t which) {
    MAC_COMMAND = MAC_BUSY | MAC_READ | which;
    while (MAC_COMMAND & MAC_BUSY) {
    }
    return MAC_VALUE;
}

static void chip_start(void) {
    NVIC_DISABLE = 1 << IRQ_ETHERNET; // until IRQ_CONFIG is set, the chip's line is active low
    HARDWARE_CONFIG = 1 | 5 << 16; // reset; 5 KB of the FIFO are for sending
    while (HARDWARE_CONFIG & 1) {
    }
    RX_CONFIG = 0;
    mac_write(MAC_CONTROL, MAC_SETTINGS);
    TX_CONFIG = 2;
    IRQ_CONFIG = IRQ_ACTIVE_HIGH;
    INTERRUPTS = ~0u;
    INTERRUPTS_ENABLED = INTERRUPT_RECEIVED;
    NVIC_ENABLE = 1 << IRQ_ETHERNET;
}

static void chip_stop(void) {
    INTERRUPTS_ENABLED = 0;
    mac_write(MAC_CONTROL, 0);
}

static uint32_t frames_received(void) {
    return RX_LEVEL >> 16 & 0xff;
}

// Takes the next frame out of the chip; NULL where it cannot be used, or there is no memory.
static struct pbuf *receive(void) {
    static uint32_t words[FRAME_WORDS];
    uint32_t status = RX_STATUS;
    uint32_t n = status >> 16 & 0x3fff;
    for (uint32_t i = 0; i < (n + 3) / 4; i++) {
        uint32_t word = RX_DATA;
        if (i < FRAME_WORDS) {
            words[i] = word;
        }
    }
    if (status & RX_FAILED || n <= CHECKSUM_BYTES || n > sizeof(words)) {
        return NULL;
    }
    struct pbuf *frame = pbuf_alloc(PBUF_RAW, n - CHECKSUM_BYTES, PBUF_POOL);
    if (frame != NULL) {
        pbuf_take(frame, words, n - CHECKSUM_BYTES);
    }
    return frame;
}

static err_t send(struct netif *netif, struct pbuf *frame) {
    static uint32_t words[FRAME_WORDS];
    (void)netif;
    if (frame->tot_len > sizeof(words)) {
        return ERR_BUF;
    }
    uint32_t n = pbuf_copy_partial(frame, words, sizeof(words), 0);
    while (TX_LEVEL >> 16 & 0xff) {
        (void)TX_STATUS; // full of these, the chip would send no more
    }
    TX_DATA = FRAME_FIRST_LAST | n;
    TX_DATA = n;
    for (uint32_t i = 0; i < (n + 3) / 4; i++) {
        TX_DATA = words[i];
    }
    return ERR_OK;
}

// ---- Interrupts ----

// The line stays up until the frames are taken, which is PendSV's to do.
void mps2_lan_irq(void) {
    INTERRUPTS_ENABLED = 0;
    mps2_pend();
}

void mps2_lan_poll(void) {
    if (!lan.active) {
        return;
    }
    INTERRUPTS = INTERRUPT_RECEIVED; // before the look: a frame that comes now interrupts again
    while (frames_received() > 0) {
        struct pbuf *frame = receive();
        if (frame != NULL && lan.netif.input(frame, &lan.netif) != ERR_OK) {
            pbuf_free(frame);
        }
    }
    INTERRUPTS_ENABLED = INTERRUPT_RECEIVED;
}

// ---- The interface ----

static err_t interface_init(struct netif *netif) {
    netif->name[0] = 'e';
    netif->name[1] = '0';
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->linkoutput = send;
    netif->mtu = 1500;
    netif->hwaddr_len = 6;
    uint32_t low = mac_read(MAC_ADDRESS_LOW), high = mac_read(MAC_ADDRESS_HIGH);
    memcpy(netif->hwaddr, &low, 4);
    memcpy(netif->hwaddr + 4, &high, 2);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_IGMP;
    netif->hostname = mod_network_hostname_data;
    return ERR_OK;
}

static void start(void) {
    chip_start();
    MICROPY_PY_LWIP_ENTER
    netif_add_noaddr(&lan.netif, &lan, interface_init, ethernet_input);
    netif_create_ip6_linklocal_address(&lan.netif, 1);
    netif_set_default(&lan.netif);
    netif_set_up(&lan.netif);
    netif_set_link_up(&lan.netif);
    lan.active = true;
    dhcp_start(&lan.netif);
    MICROPY_PY_LWIP_EXIT
}

static void stop(void) {
    MICROPY_PY_LWIP_ENTER
    dhcp_release_and_stop(&lan.netif);
    netif_remove(&lan.netif);
    lan.active = false;
    chip_stop();
    MICROPY_PY_LWIP_EXIT
}

// ---- network.LAN ----

static mp_obj_t lan_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    (void)type;
    // The wiring is fixed: where a driver is told of it, only the chip can be wrong.
    enum { ARG_phy_type = 3 };
    static const mp_arg_t allowed[] = {
        { MP_QSTR_id, MP_ARG_OBJ, { .u_rom_obj = MP_ROM_NONE } },
        { MP_QSTR_mdc, MP_ARG_KW_ONLY | MP_ARG_OBJ, { .u_rom_obj = MP_ROM_NONE } },
        { MP_QSTR_mdio, MP_ARG_KW_ONLY | MP_ARG_OBJ, { .u_rom_obj = MP_ROM_NONE } },
        { MP_QSTR_phy_type, MP_ARG_KW_ONLY | MP_ARG_INT, { .u_int = MPS2_PHY_LAN9118 } },
        { MP_QSTR_phy_addr, MP_ARG_KW_ONLY | MP_ARG_INT, { .u_int = 1 } },
    };
    mp_arg_val_t given[MP_ARRAY_SIZE(allowed)];
    mp_arg_parse_all_kw_array(n_args, n_kw, args, MP_ARRAY_SIZE(allowed), allowed, given);
    if (given[ARG_phy_type].u_int != MPS2_PHY_LAN9118) {
        mp_raise_ValueError(MP_ERROR_TEXT("phy_type must be PHY_LAN9118"));
    }
    return MP_OBJ_FROM_PTR(&lan);
}

static mp_obj_t lan_active(size_t n_args, const mp_obj_t *args) {
    if (n_args == 1) {
        return mp_obj_new_bool(lan.active);
    }
    bool wanted = mp_obj_is_true(args[1]);
    if (wanted && !lan.active) {
        start();
    } else if (!wanted && lan.active) {
        stop();
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(lan_active_obj, 1, 2, lan_active);

static mp_obj_t lan_isconnected(mp_obj_t self) {
    (void)self;
    return mp_obj_new_bool(lan.active && !ip4_addr_isany_val(*netif_ip4_addr(&lan.netif)));
}
static MP_DEFINE_CONST_FUN_OBJ_1(lan_isconnected_obj, lan_isconnected);

static void require_active(void) {
    if (!lan.active) {
        mp_raise_msg(&mp_type_OSError, MP_ERROR_TEXT("the interface is not active"));
    }
}

static mp_obj_t lan_ifconfig(size_t n_args, const mp_obj_t *args) {
    require_active();
    return mod_network_nic_ifconfig(&lan.netif, n_args - 1, args + 1);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(lan_ifconfig_obj, 1, 2, lan_ifconfig);

static mp_obj_t lan_ipconfig(size_t n_args, const mp_obj_t *args, mp_map_t *kwargs) {
    require_active();
    return mod_network_nic_ipconfig(&lan.netif, n_args - 1, args + 1, kwargs);
}
static MP_DEFINE_CONST_FUN_OBJ_KW(lan_ipconfig_obj, 1, lan_ipconfig);

static mp_obj_t lan_config(mp_obj_t self, mp_obj_t what) {
    (void)self;
    if (mp_obj_str_get_qstr(what) != MP_QSTR_mac) {
        mp_raise_ValueError(MP_ERROR_TEXT("config knows mac"));
    }
    require_active();
    return mp_obj_new_bytes(lan.netif.hwaddr, lan.netif.hwaddr_len);
}
static MP_DEFINE_CONST_FUN_OBJ_2(lan_config_obj, lan_config);

static const mp_rom_map_elem_t lan_locals_table[] = {
    { MP_ROM_QSTR(MP_QSTR_active), MP_ROM_PTR(&lan_active_obj) },
    { MP_ROM_QSTR(MP_QSTR_isconnected), MP_ROM_PTR(&lan_isconnected_obj) },
    { MP_ROM_QSTR(MP_QSTR_ifconfig), MP_ROM_PTR(&lan_ifconfig_obj) },
    { MP_ROM_QSTR(MP_QSTR_ipconfig), MP_ROM_PTR(&lan_ipconfig_obj) },
    { MP_ROM_QSTR(MP_QSTR_config), MP_ROM_PTR(&lan_config_obj) },
};
static MP_DEFINE_CONST_DICT(lan_locals, lan_locals_table);

MP_DEFINE_CONST_OBJ_TYPE(
    mps2_lan_type,
    MP_QSTR_LAN,
    MP_TYPE_FLAG_NONE,
    make_new, lan_make_new,
    locals_dict, &lan_locals
    );
