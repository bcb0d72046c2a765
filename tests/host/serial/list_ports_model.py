"""What pyserial's list_ports says of boards on USB, for boards that are not on USB.

The rows are pyserial's own objects, filled as its Linux module fills them from sysfs
(serial/tools/list_ports_linux.py, SysFS): vendor and product from idVendor and idProduct, the
serial number from the device's string descriptor, None where it has none.

Which strings boards have: rp2 shows its flash chip's unique id, which is ``machine.unique_id()``
too, in upper-case digits (MicroPython, ports/rp2/usbd.c, mp_usbd_hex_str); an FTDI or CP210x bridge
has a number of its own; a CH340 has none (WCH, CH340 datasheet).
"""

from __future__ import annotations

from serial.tools.list_ports_common import ListPortInfo


def port_info(device, usb=None, serial_number=None):
    info = ListPortInfo(device, skip_link_detection=True)
    if usb is not None:
        info.vid, info.pid = usb
        info.serial_number = serial_number
        info.apply_usb_info()
    return info


def rp2(device, unique_id):
    return port_info(device, (0x2E8A, 0x0005), unique_id.hex().upper())


def cp210x(device, serial_number="0001"):
    return port_info(device, (0x10C4, 0xEA60), serial_number)


def ch340(device):
    return port_info(device, (0x1A86, 0x7523))


def serial_jtag(device, mac="AA:BB:CC:00:11:22"):
    return port_info(device, (0x303A, 0x1001), mac)


def modem(device):
    return port_info(device, (0x12D1, 0x1506), "M1")


def console(device):
    return port_info(device)
