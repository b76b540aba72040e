/* The narrow door between Rust and libav: opaque pointers, plain numbers, no libav type. decode/ffi.rs mirrors this file. */
#ifndef ENGINE_LIBAV_H
#define ENGINE_LIBAV_H

#include <stdint.h>

typedef struct engine_input engine_input;

/* Reads at most `size` bytes at `offset`: their number, 0 at the end, a negative number on failure. */
typedef int (*engine_read)(void *opaque, int64_t offset, uint8_t *buffer, int size);

/* Tells where the next packet lies that libav does not know of, behind its last: 1, or 0 at the end. */
typedef int (*engine_further)(void *opaque, int64_t *position, int32_t *size);

/* Results below zero are libav's own error numbers; engine_class sorts them. */
#define ERROR_NOT_ALLOWED (-0x4e4f5401)
#define ERROR_ENCRYPTED (-0x4e4f5402)
enum engine_class { ENGINE_OTHER = 0, ENGINE_NO_MEMORY = 1, ENGINE_NOT_ALLOWED = 2, ENGINE_IS_ENCRYPTED = 3, ENGINE_NOT_IMPLEMENTED = 4 };

typedef struct engine_stream {
    int32_t index;
    int32_t id;            /* the container's own number of the track */
    int32_t is_default;
    int32_t is_secondary;  /* a commentary, a description, a version for the impaired */
    int32_t decodable;     /* an allowed decoder exists */
    int32_t encrypted;
    int32_t sample_rate;   /* 0: unknown */
    int32_t channels;      /* 0: unknown */
    uint32_t tag;          /* the container's own name of the codec, four characters, the first lowest; 0: none */
    int64_t duration_us;   /* as the container claims, of this stream or else of the file; below 0: no claim */
    char codec[32];        /* libav's short name, "none" when it knows none */
    char codec_name[128];  /* its name for people */
    char language[16];     /* as the container has it, often three letters; empty: unknown */
    char title[64];        /* the container's name of the track, cut; empty: none */
} engine_stream;

typedef struct engine_packet {
    const uint8_t *bytes;
    int32_t size;
    int32_t unheard;       /* it is decoded for what follows, and its sound is dropped: what an edit list leaves out */
    int32_t skip;          /* so many samples from here on are dropped; below 0: nothing is said, the last word holds */
    int32_t discard;       /* so many samples are dropped at its end */
} engine_packet;

typedef struct engine_block {
    float *left;
    float *right;          /* the same as left when there is one channel */
    int32_t frames;
} engine_block;

typedef struct engine_tally {
    int64_t packets;       /* of the chosen stream */
    int64_t damaged;       /* of these, refused by the decoder */
    int64_t last_position; /* where in the file the last packet ends, as far as known */
    int64_t samples;       /* decoded, at the decoder's rate */
    int64_t first_us;      /* when the first packet plays, by the container's clock; 0 where it does not say */
} engine_tally;

/* Reads through `read`; both lists are comma-separated names in libav's words. NULL: no memory. */
engine_input *engine_input_new(engine_read read, void *opaque, int64_t length, const char *formats, const char *codecs);
void engine_input_free(engine_input *input);

/* Recognises the container by its content; refuses what is not in the list. */
int engine_probe(engine_input *input);
/* The container's name in libav's words; NULL before engine_probe. */
const char *engine_format(const engine_input *input);
/* Reads the header. */
int engine_open(engine_input *input);
/* Fills `streams` with at most `room` audio streams; returns how many there are. */
int engine_streams(engine_input *input, engine_stream *streams, int room);
/* Reads packets until the streams are known; needed where the header does not describe them. */
int engine_find_streams(engine_input *input);
/* True when the claimed durations are a guess from the bit rate. */
int engine_duration_is_guess(const engine_input *input);
/* From here on only this stream is read. */
int engine_choose(engine_input *input, int stream);
/* Behind the last packet of the chosen stream that libav knows of, goes on with what `further` tells. */
void engine_go_on(engine_input *input, engine_further further);
/* The i-th entry of libav's index for the chosen stream: 1, or 0 when there is none. */
int engine_index_entry(engine_input *input, int i, int64_t *position, int64_t *size, int64_t *time_us);
/* Metadata of the file or of the chosen stream: 1, or 0 past the last. The strings live until the next call into libav. */
int engine_metadata(engine_input *input, int of_stream, int i, const char **key, const char **value);
/* The i-th attached picture: 1, or 0 past the last. Its bytes live as long as the input. */
int engine_picture(const engine_input *input, int i, const uint8_t **bytes, int *size, int *is_front_cover);
/* The i-th chapter: 1, or 0 past the last. Times below 0 are unknown; `title` is NULL when there is none, and lives as long as the input. */
int engine_chapter(const engine_input *input, int i, int64_t *start_us, int64_t *end_us, const char **title);

/* Reads a packet of the chosen stream without decoding it: 1 and its duration (below 0: unknown), 0 at the end. */
int engine_skip(engine_input *input, int64_t *duration_us);

/* The next packet of the chosen stream, not decoded: 1 and what lives until the next call, 0 at the end. */
int engine_next_packet(engine_input *input, engine_packet *out);

/* Opens the decoder and decodes the first frame: 1 and its rate and channels, 0 when there is none. */
int engine_start(engine_input *input, int32_t *sample_rate, int32_t *channels);
/* Chooses what engine_next delivers: 1 or 2 channels. */
void engine_deliver(engine_input *input, int sample_rate, int channels);
/* The next samples: 1 and a block that lives until the next call, 0 at the end. */
int engine_next(engine_input *input, engine_block *block);
void engine_tallied(const engine_input *input, engine_tally *tally);

enum engine_class engine_class(int error);
void engine_error_text(int error, char *text, int size);

/* libav's last complaints in this thread, one per line; engine_input_new has them kept. */
void engine_log_keep(void);
void engine_log_clear(void);
void engine_log_read(char *text, int size);
int64_t engine_log_of_demuxers(void); /* so many errors containers' readers told of */

#endif
