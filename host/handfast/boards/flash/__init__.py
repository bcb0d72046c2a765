"""Flashing: ESP32 boards through esptool, Pico boards by UF2; images checked before and after."""
