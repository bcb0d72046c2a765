// What the build options add to mbedTLS's configuration; included after the port's own.
#ifndef HANDFAST_MBEDTLS_OPTIONS_H
#define HANDFAST_MBEDTLS_OPTIONS_H

#if HANDFAST_session_resumption
// A resumed session is only as safe as its master secret is bound to its handshake (RFC 7627).
#define MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#endif

#if HANDFAST_tls13
#define MBEDTLS_SSL_PROTO_TLS1_3
#define MBEDTLS_SSL_TLS1_3_COMPATIBILITY_MODE
#define MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ENABLED
// TLS 1.3 of mbedTLS 3.6 asks for these: the peer's certificate is read after it came, keys are
// derived by HKDF through PSA's interface, and RSA signs by PSS alone (RFC 8446 section 4.2.3).
#ifndef MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
#define MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
#endif
#define MBEDTLS_PSA_CRYPTO_C
#define MBEDTLS_HKDF_C
#define MBEDTLS_PKCS1_V21
#define MBEDTLS_X509_RSASSA_PSS_SUPPORT
#endif

#if HANDFAST_fast_mbedtls
#define MBEDTLS_HAVE_ASM
#endif

#endif
