/* What ./configure would find for libmp3lame on a 64-bit Linux: `cargo xtask dist` compiles it with this instead. */
#define PACKAGE "lame"
#define VERSION "3.100"
#define STDC_HEADERS 1
#define HAVE_ERRNO_H 1
#define HAVE_FCNTL_H 1
#define HAVE_INTTYPES_H 1
#define HAVE_LIMITS_H 1
#define HAVE_STDINT_H 1
#define HAVE_STDLIB_H 1
#define HAVE_STRING_H 1
#define HAVE_STRCHR 1
#define HAVE_MEMCPY 1
#define HAVE_STRTOL 1
#define HAVE_UNISTD_H 1
#define LAME_LIBRARY_BUILD 1
#define TAKEHIRO_IEEE754_HACK 1
#define USE_FAST_LOG 1
typedef float ieee754_float32_t;
typedef double ieee754_float64_t;
typedef long double ieee854_float80_t;

/* LAME's own SSE2 code, which it leaves off unless it is told that there is no processor without. */
#ifdef __SSE2__
#define HAVE_XMMINTRIN_H 1
#define MIN_ARCH_SSE 1
#endif
