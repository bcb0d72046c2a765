# Of mbedTLS 3.6's library, what MicroPython 1.26.1 leaves out and TLS 1.3 needs: one name a line,
# behind a tab, which ../cmake/rp2.cmake reads too.
HANDFAST_TLS13_SOURCES = \
	hkdf.c \
	psa_crypto.c \
	psa_crypto_aead.c \
	psa_crypto_cipher.c \
	psa_crypto_client.c \
	psa_crypto_driver_wrappers_no_static.c \
	psa_crypto_ecp.c \
	psa_crypto_ffdh.c \
	psa_crypto_hash.c \
	psa_crypto_mac.c \
	psa_crypto_pake.c \
	psa_crypto_random.c \
	psa_crypto_rsa.c \
	psa_crypto_slot_management.c \
	psa_crypto_storage.c \
	psa_util.c \
	ssl_tls13_client.c \
	ssl_tls13_generic.c \
	ssl_tls13_keys.c \
	ssl_tls13_server.c
