/*
 * Encodes a file of 32-bit float samples with one copy of LAME: `cargo xtask dist --verify` compiles this once for each
 * copy that it compares, with that copy's suffix, and so forces what the loader chooses otherwise.
 *
 * This file is a part of Tapedeck's changes to LAME, under the same licence
 * as LAME itself: the GNU Library General Public License, version 2 or later.
 *
 * verify RATE CHANNELS (vbr LEVEL | cbr KBIT | abr KBIT) SAMPLES MP3
 */

#include <lame/lame.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef SUFFIX
#define SUFFIX
#endif
#define JOIN_(name, suffix) name##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)
/* A function of the copy, of the type that lame.h gives it. */
#define OF(name) JOIN(name, SUFFIX)
#define DECLARE(name) extern __typeof__(name) OF(name)

DECLARE(lame_init);
DECLARE(lame_set_in_samplerate);
DECLARE(lame_set_out_samplerate);
DECLARE(lame_set_num_channels);
DECLARE(lame_set_mode);
DECLARE(lame_set_quality);
DECLARE(lame_set_VBR);
DECLARE(lame_set_VBR_q);
DECLARE(lame_set_VBR_mean_bitrate_kbps);
DECLARE(lame_set_brate);
DECLARE(lame_init_params);
DECLARE(lame_encode_buffer_interleaved_ieee_float);
DECLARE(lame_encode_buffer_ieee_float);
DECLARE(lame_encode_flush);
DECLARE(lame_get_lametag_frame);
DECLARE(lame_close);

#define SAMPLES 1152
#define ROOM (SAMPLES * 5 / 4 + 7200)

static void
fail(char const *what)
{
    fprintf(stderr, "verify: %s\n", what);
    exit(1);
}

static int
settings(lame_global_flags *lame, char const *kind, int number)
{
    if (strcmp(kind, "vbr") == 0)
        return OF(lame_set_VBR)(lame, vbr_mtrh) | OF(lame_set_VBR_q)(lame, number);
    if (strcmp(kind, "abr") == 0)
        return OF(lame_set_VBR)(lame, vbr_abr) | OF(lame_set_VBR_mean_bitrate_kbps)(lame, number);
    return OF(lame_set_VBR)(lame, vbr_off) | OF(lame_set_brate)(lame, number);
}

static lame_global_flags *
encoder(char **arguments)
{
    int const rate = atoi(arguments[1]), channels = atoi(arguments[2]);
    lame_global_flags *lame = OF(lame_init)();
    if (!lame)
        fail("lame_init gave nothing");
    /* As the engine sets it: crates/engine/src/encode/lame.rs. */
    if (OF(lame_set_in_samplerate)(lame, rate) | OF(lame_set_out_samplerate)(lame, rate)
        | OF(lame_set_num_channels)(lame, channels) | OF(lame_set_mode)(lame, channels == 1 ? MONO : JOINT_STEREO)
        | OF(lame_set_quality)(lame, 3) | settings(lame, arguments[3], atoi(arguments[4])))
        fail("LAME refuses a setting");
    if (OF(lame_init_params)(lame) < 0)
        fail("LAME refuses the settings");
    return lame;
}

static void
put(unsigned char const *bytes, int count, FILE *to)
{
    if (count < 0)
        fail("LAME fails");
    if (fwrite(bytes, 1, count, to) != (size_t) count)
        fail("the MP3 cannot be written");
}

int
main(int count, char **arguments)
{
    static float samples[2 * SAMPLES];
    static unsigned char mp3[ROOM];
    FILE *from, *to;
    size_t got;
    int channels;
    lame_global_flags *lame;

    if (count != 7)
        fail("six arguments are wanted");
    from = fopen(arguments[5], "rb");
    to = fopen(arguments[6], "wb");
    if (!from || !to)
        fail("a file cannot be opened");
    channels = atoi(arguments[2]);
    lame = encoder(arguments);
    while ((got = fread(samples, channels * sizeof *samples, SAMPLES, from)) > 0) {
        if (channels == 1)
            put(mp3, OF(lame_encode_buffer_ieee_float)(lame, samples, samples, got, mp3, ROOM), to);
        else
            put(mp3, OF(lame_encode_buffer_interleaved_ieee_float)(lame, samples, got, mp3, ROOM), to);
    }
    put(mp3, OF(lame_encode_flush)(lame, mp3, ROOM), to);
    /* The Info frame goes where LAME left room for it: by it, decoders leave out what LAME added at either end. */
    got = OF(lame_get_lametag_frame)(lame, mp3, ROOM);
    if (got == 0 || got > ROOM || fseek(to, 0, SEEK_SET) != 0)
        fail("there is no Info frame");
    put(mp3, (int) got, to);
    if (fclose(to) != 0)
        fail("the MP3 cannot be written");
    OF(lame_close)(lame);
    return 0;
}
