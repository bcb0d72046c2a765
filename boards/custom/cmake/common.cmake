# What HANDFAST_OPTIONS (a list) adds to a build of MicroPython by cmake; a board's
# mpconfigboard.cmake includes rp2.cmake or esp32.cmake, which include this. For make the same is in
# ../make. ${HANDFAST_FIRMWARE_DIR} is the folder of the device library.

list(APPEND MICROPY_DEF_BOARD HANDFAST_OPTIONS=1)
foreach(option IN LISTS HANDFAST_OPTIONS)
    string(REPLACE "-" "_" macro ${option})
    list(APPEND MICROPY_DEF_BOARD HANDFAST_${macro}=1)
endforeach()

if("session-resumption" IN_LIST HANDFAST_OPTIONS)
    list(APPEND MICROPY_DEF_BOARD MICROPY_PY_SSL_SESSION=1)
endif()

if("settrace" IN_LIST HANDFAST_OPTIONS)
    list(APPEND MICROPY_DEF_BOARD MICROPY_PY_SYS_SETTRACE=1)
endif()

# MicroPython 1.26.1 has this for make alone (extmod.mk).
if("secure-element" IN_LIST HANDFAST_OPTIONS)
    list(APPEND MICROPY_DEF_BOARD MICROPY_PY_SSL_ECDSA_SIGN_ALT=1)
    list(APPEND MICROPY_SOURCE_BOARD ${MICROPY_DIR}/extmod/mbedtls/mbedtls_alt.c)
    add_link_options(-Wl,--wrap=mbedtls_ecdsa_write_signature)
endif()

# manifest.py includes what the board freezes anyway, which it is told by this.
if("frozen-mtls" IN_LIST HANDFAST_OPTIONS)
    file(WRITE ${CMAKE_BINARY_DIR}/handfast_manifest.py
        "include('${MICROPY_FROZEN_MANIFEST}')\n"
        "package('mtls', base_path='${HANDFAST_FIRMWARE_DIR}', opt=3)\n"
    )
    set(MICROPY_FROZEN_MANIFEST ${CMAKE_BINARY_DIR}/handfast_manifest.py)
endif()
