/*
 * Chooses between LAME for any x86-64 and LAME for one with AVX2, when the program is loaded.
 *
 * This file is a part of Tapedeck's changes to LAME, under the same licence
 * as LAME itself: the GNU Library General Public License, version 2 or later.
 *
 * `cargo xtask dist` compiles the whole library twice and gives the public functions of each copy a suffix of their own.
 * functions.inc names them, one FUNCTION(name) a line. Each becomes an indirect function, so that a call costs what any
 * call costs, and the two copies' structures never mix.
 */

#include <cpuid.h>

#define BIT(n) (1u << (n))

/* All that -march=x86-64-v3 lets the compiler use, and a system that saves the wide registers. */
static int
has_avx2(void)
{
    unsigned int const leaf1 = BIT(12) | BIT(22) | BIT(23) | BIT(27) | BIT(28) | BIT(29); /* FMA MOVBE POPCNT OSXSAVE AVX F16C */
    unsigned int const leaf7 = BIT(3) | BIT(5) | BIT(8); /* BMI1 AVX2 BMI2 */
    unsigned int const extended = BIT(5); /* LZCNT */
    unsigned int a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1) != leaf1)
        return 0;
    __asm__ ("xgetbv" : "=a" (low), "=d" (high) : "c" (0));
    if ((low & 6) != 6)
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & leaf7) != leaf7)
        return 0;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & extended) == extended;
}

/* The types do not matter: these are only addresses. */
#define FUNCTION(name)                                          \
    extern void name##__any(void);                              \
    extern void name##__avx2(void);                             \
    static void (*choose_##name(void))(void)                    \
    {                                                           \
        return has_avx2() ? name##__avx2 : name##__any;         \
    }                                                           \
    void name(void) __attribute__((ifunc("choose_" #name)));

#include "functions.inc"
