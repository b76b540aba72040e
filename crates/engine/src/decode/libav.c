/* Everything that touches libav's structs, in C so that their layout is the compiler's business: FFmpeg 5.1 and newer all work.
 *
 * Policy (which stream, which rate, what counts as truncated) is Rust's. There is no path, URL, protocol or thread in here: input
 * comes through one read function, and a container that wants to open something else is refused. */
#include "libav.h"

#include <stdio.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/channel_layout.h>
#include <libavutil/intreadwrite.h>
#include <libavutil/mathematics.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>

/* What a read of the file fetches: see choose_buffer. */
#define MOST_CHANNELS 64 /* that the resampler can mix */
#define IO_BUFFER (32 * 1024)
#define IO_BUFFER_OF_MP4 (4 * 1024)

struct engine_input {
    engine_read read;
    void *opaque;
    int64_t position, length;
    char *formats, *codecs;

    AVIOContext *io;
    const AVInputFormat *kind;
    AVFormatContext *format;
    AVStream *stream;
    engine_further further; /* NULL: libav knows all packets */
    int libav_done;         /* it has no more packets */

    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
    int frame_held; /* `frame` is decoded and not delivered yet */
    int packet_sent; /* the decoder may have more frames of the last packet */
    int drained;    /* the decoder has seen the end */

    SwrContext *swr;
    int in_rate, in_format;
    AVChannelLayout in_layout;
    int out_rate, out_channels;
    uint8_t *planes[2];
    int room;

    engine_tally tally;
};

/* ---- input ---- */

static int io_read(void *opaque, uint8_t *buffer, int size)
{
    engine_input *input = opaque;
    int n = input->read(input->opaque, input->position, buffer, size);
    if (n < 0)
        return AVERROR(EIO);
    if (n == 0)
        return AVERROR_EOF;
    input->position += n;
    return n;
}

static int64_t io_seek(void *opaque, int64_t offset, int whence)
{
    engine_input *input = opaque;
    int64_t base = 0;
    switch (whence & ~AVSEEK_FORCE) {
    case AVSEEK_SIZE: return input->length;
    case SEEK_SET: break;
    case SEEK_CUR: base = input->position; break;
    case SEEK_END: base = input->length; break;
    default: return AVERROR(EINVAL);
    }
    if (offset < -base || offset > INT64_MAX - base)
        return AVERROR(EINVAL);
    return input->position = base + offset;
}

static int refuse_open(AVFormatContext *format, AVIOContext **io, const char *url, int flags, AVDictionary **options)
{
    (void)flags, (void)options;
    av_log(format, AV_LOG_ERROR, "refused to open '%s' from within the file\n", url);
    *io = NULL;
    return AVERROR(EPERM);
}

engine_input *engine_input_new(engine_read read, void *opaque, int64_t length, const char *formats, const char *codecs)
{
    engine_log_keep();
    engine_input *input = av_mallocz(sizeof *input);
    if (!input)
        return NULL;
    input->read = read;
    input->opaque = opaque;
    input->length = length;
    input->formats = av_strdup(formats);
    input->codecs = av_strdup(codecs);
    input->packet = av_packet_alloc();
    input->frame = av_frame_alloc();
    uint8_t *buffer = av_malloc(IO_BUFFER);
    if (buffer)
        input->io = avio_alloc_context(buffer, IO_BUFFER, 0, input, io_read, NULL, io_seek);
    if (!input->io)
        av_free(buffer);
    if (input->formats && input->codecs && input->packet && input->frame && input->io)
        return input;
    engine_input_free(input);
    return NULL;
}

void engine_input_free(engine_input *input)
{
    if (!input)
        return;
    av_freep(&input->planes[0]);
    swr_free(&input->swr);
    av_channel_layout_uninit(&input->in_layout);
    avcodec_free_context(&input->codec);
    av_frame_free(&input->frame);
    av_packet_free(&input->packet);
    avformat_close_input(&input->format);
    if (input->io)
        av_freep(&input->io->buffer);
    avio_context_free(&input->io);
    av_freep(&input->formats);
    av_freep(&input->codecs);
    av_free(input);
}

int engine_probe(engine_input *input)
{
    int error = av_probe_input_buffer2(input->io, &input->kind, "pipe:", NULL, 0, 0);
    if (error < 0)
        return error;
    return av_match_list(input->kind->name, input->formats, ',') > 0 ? 0 : ERROR_NOT_ALLOWED;
}

/* MP4 has an index, and its sound lies in small pieces between the video's: a large buffer would read most of the video, too.
 * Elsewhere the video is read past anyway, and a small one would only mean more calls. */
static int choose_buffer(engine_input *input)
{
    if (!strstr(input->kind->name, "mp4"))
        return 0;
    uint8_t *buffer = av_malloc(IO_BUFFER_OF_MP4);
    AVIOContext *io = buffer ? avio_alloc_context(buffer, IO_BUFFER_OF_MP4, 0, input, io_read, NULL, io_seek) : NULL;
    if (!io) {
        av_free(buffer);
        return AVERROR(ENOMEM);
    }
    av_freep(&input->io->buffer);
    avio_context_free(&input->io);
    input->io = io;
    input->position = 0;
    return 0;
}

const char *engine_format(const engine_input *input)
{
    return input->kind ? input->kind->name : NULL;
}

int engine_open(engine_input *input)
{
    int error = choose_buffer(input);
    if (error < 0)
        return error;
    AVFormatContext *format = avformat_alloc_context();
    if (!format)
        return AVERROR(ENOMEM);
    format->pb = input->io;
    format->flags |= AVFMT_FLAG_CUSTOM_IO;
    format->io_open = refuse_open;
    format->format_whitelist = av_strdup(input->formats);
    format->codec_whitelist = av_strdup(input->codecs);
    format->protocol_whitelist = av_strdup("");
    if (!format->format_whitelist || !format->codec_whitelist || !format->protocol_whitelist) {
        avformat_free_context(format);
        return AVERROR(ENOMEM);
    }
    /* "pipe:" names a protocol that exists: otherwise libavformat takes the source for a network stream and reads
     * through all of the video instead of seeking over it. Nothing is ever opened by that name. */
    error = avformat_open_input(&format, "pipe:", input->kind, NULL);
    input->format = error < 0 ? NULL : format;
    return error;
}

/* ---- streams ---- */

static const AVCodec *decoder(const engine_input *input, const AVCodecParameters *parameters)
{
    const AVCodec *codec = avcodec_find_decoder(parameters->codec_id);
    return codec && av_match_list(codec->name, input->codecs, ',') > 0 ? codec : NULL;
}

static int64_t to_us(int64_t time, AVRational base)
{
    return time == AV_NOPTS_VALUE || base.num <= 0 || base.den <= 0 ? -1 : av_rescale_q(time, base, AV_TIME_BASE_Q);
}

/* By the track's own tag. libav's side data says less: it hangs any `pssh` box on the last track, whatever is encrypted. */
static int is_encrypted(const AVStream *stream)
{
    uint32_t tag = stream->codecpar->codec_tag;
    return tag == MKTAG('e', 'n', 'c', 'a') || tag == MKTAG('d', 'r', 'm', 's') || tag == MKTAG('a', 'a', 'v', 'd');
}

static void copy_tag(const AVStream *stream, const char *key, char *out, size_t room)
{
    const AVDictionaryEntry *entry = av_dict_get(stream->metadata, key, NULL, 0);
    if (entry)
        av_strlcpy(out, entry->value, room);
}

static void describe(const engine_input *input, const AVStream *stream, engine_stream *out)
{
    const AVCodecParameters *parameters = stream->codecpar;
    const AVCodecDescriptor *descriptor = avcodec_descriptor_get(parameters->codec_id);
    const int secondary = AV_DISPOSITION_COMMENT | AV_DISPOSITION_LYRICS | AV_DISPOSITION_KARAOKE | AV_DISPOSITION_HEARING_IMPAIRED
        | AV_DISPOSITION_VISUAL_IMPAIRED | AV_DISPOSITION_CLEAN_EFFECTS | AV_DISPOSITION_DESCRIPTIONS | AV_DISPOSITION_DEPENDENT;
    memset(out, 0, sizeof *out);
    out->index = stream->index;
    out->id = stream->id;
    out->is_default = !!(stream->disposition & AV_DISPOSITION_DEFAULT);
    out->is_secondary = !!(stream->disposition & secondary);
    out->decodable = !!decoder(input, parameters);
    out->encrypted = is_encrypted(stream);
    out->sample_rate = parameters->sample_rate;
    out->channels = parameters->ch_layout.nb_channels;
    out->tag = parameters->codec_tag;
    out->duration_us = stream->duration > 0 ? to_us(stream->duration, stream->time_base) : -1;
    if (out->duration_us <= 0 && input->format->duration > 0)
        out->duration_us = input->format->duration;
    av_strlcpy(out->codec, avcodec_get_name(parameters->codec_id), sizeof out->codec);
    if (descriptor && descriptor->long_name)
        av_strlcpy(out->codec_name, descriptor->long_name, sizeof out->codec_name);
    copy_tag(stream, "language", out->language, sizeof out->language);
    copy_tag(stream, "title", out->title, sizeof out->title);
}

int engine_streams(engine_input *input, engine_stream *streams, int room)
{
    int count = 0;
    for (unsigned i = 0; i < input->format->nb_streams; i++) {
        const AVStream *stream = input->format->streams[i];
        if (stream->codecpar->codec_type != AVMEDIA_TYPE_AUDIO)
            continue;
        if (count < room)
            describe(input, stream, &streams[count]);
        count++;
    }
    return count;
}

int engine_find_streams(engine_input *input)
{
    return avformat_find_stream_info(input->format, NULL);
}

int engine_duration_is_guess(const engine_input *input)
{
    return input->format->duration_estimation_method == AVFMT_DURATION_FROM_BITRATE;
}

int engine_choose(engine_input *input, int stream)
{
    if (stream < 0 || (unsigned)stream >= input->format->nb_streams)
        return AVERROR(EINVAL);
    input->stream = input->format->streams[stream];
    for (unsigned i = 0; i < input->format->nb_streams; i++)
        input->format->streams[i]->discard = (int)i == stream ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    return 0;
}

void engine_go_on(engine_input *input, engine_further further)
{
    input->further = further;
}

int engine_index_entry(engine_input *input, int i, int64_t *position, int64_t *size, int64_t *time_us)
{
    const AVIndexEntry *entry = avformat_index_get_entry(input->stream, i);
    if (!entry)
        return 0;
    *position = entry->pos;
    *size = entry->size;
    *time_us = to_us(entry->timestamp, input->stream->time_base);
    return 1;
}

int engine_metadata(engine_input *input, int of_stream, int i, const char **key, const char **value)
{
    const AVDictionary *tags = of_stream && input->stream ? input->stream->metadata : input->format->metadata;
    const AVDictionaryEntry *entry = NULL;
    while ((entry = av_dict_get(tags, "", entry, AV_DICT_IGNORE_SUFFIX)))
        if (i-- == 0) {
            *key = entry->key;
            *value = entry->value;
            return 1;
        }
    return 0;
}

int engine_picture(const engine_input *input, int i, const uint8_t **bytes, int *size, int *is_front_cover)
{
    for (unsigned s = 0; s < input->format->nb_streams; s++) {
        const AVStream *stream = input->format->streams[s];
        if (!(stream->disposition & AV_DISPOSITION_ATTACHED_PIC) || stream->attached_pic.size <= 0 || i-- > 0)
            continue;
        /* libav tells a picture's type, by ID3v2's names, as its comment. */
        const AVDictionaryEntry *type = av_dict_get(stream->metadata, "comment", NULL, 0);
        *is_front_cover = type && !av_strcasecmp(type->value, "Cover (front)");
        *bytes = stream->attached_pic.data;
        *size = stream->attached_pic.size;
        return 1;
    }
    return 0;
}

int engine_chapter(const engine_input *input, int i, int64_t *start_us, int64_t *end_us, const char **title)
{
    if (i < 0 || (unsigned)i >= input->format->nb_chapters)
        return 0;
    const AVChapter *chapter = input->format->chapters[i];
    const AVDictionaryEntry *entry = av_dict_get(chapter->metadata, "title", NULL, 0);
    *start_us = to_us(chapter->start, chapter->time_base);
    *end_us = to_us(chapter->end, chapter->time_base);
    *title = entry ? entry->value : NULL;
    return 1;
}

/* ---- packets ---- */

/* The next packet that libav does not know of. */
static int read_further(engine_input *input)
{
    int64_t position;
    int32_t size;
    if (!input->further || input->tally.packets == 0 || input->further(input->opaque, &position, &size) <= 0)
        return AVERROR_EOF;
    if (avio_seek(input->io, position, SEEK_SET) < 0)
        return AVERROR_EOF;
    int error = av_get_packet(input->io, input->packet, size);
    input->packet->stream_index = input->stream->index;
    return error;
}

static int read_packet(engine_input *input)
{
    if (!input->libav_done) {
        int error = av_read_frame(input->format, input->packet);
        if (error >= 0 || error == AVERROR(EAGAIN))
            return error;
        input->libav_done = 1;
        if (error != AVERROR_EOF)
            input->further = NULL;
        if (error == AVERROR(ENOMEM))
            return error;
    }
    return read_further(input);
}

/* The next packet of the chosen stream: 1, 0 at the end. Errors in the middle end the file, as in FFmpeg's own program. */
static int next_packet(engine_input *input)
{
    AVPacket *packet = input->packet;
    for (;;) {
        av_packet_unref(packet);
        int error = read_packet(input);
        if (error == AVERROR(EAGAIN))
            continue;
        if (error < 0)
            return error == AVERROR(ENOMEM) ? error : 0;
        if (packet->stream_index != input->stream->index)
            continue;
        if (av_packet_get_side_data(packet, AV_PKT_DATA_ENCRYPTION_INFO, NULL))
            return ERROR_ENCRYPTED;
        if (input->tally.packets++ == 0 && packet->pts != AV_NOPTS_VALUE)
            input->tally.first_us = to_us(packet->pts, input->stream->time_base);
        input->tally.last_position = packet->pos >= 0 ? packet->pos + packet->size : avio_tell(input->io);
        return 1;
    }
}

int engine_skip(engine_input *input, int64_t *duration_us)
{
    int result = next_packet(input);
    if (result > 0)
        *duration_us = input->packet->duration > 0 ? to_us(input->packet->duration, input->stream->time_base) : -1;
    return result;
}

int engine_next_packet(engine_input *input, engine_packet *out)
{
    int result = next_packet(input);
    if (result <= 0)
        return result;
    const AVPacket *packet = input->packet;
    size_t size = 0;
    const uint8_t *said = av_packet_get_side_data(packet, AV_PKT_DATA_SKIP_SAMPLES, &size);
    out->bytes = packet->data;
    out->size = packet->size;
    out->unheard = !!(packet->flags & AV_PKT_FLAG_DISCARD);
    out->skip = said && size >= 10 ? FFMAX(0, (int32_t)AV_RL32(said)) : -1;
    out->discard = said && size >= 10 ? (int32_t)FFMIN(AV_RL32(said + 4), INT32_MAX) : 0;
    return 1;
}

/* ---- frames ---- */

/* The next decoded frame in input->frame: 1, 0 at the end. Damaged packets are counted and skipped. */
static int next_frame(engine_input *input)
{
    for (;;) {
        if (input->packet_sent) {
            int error = avcodec_receive_frame(input->codec, input->frame);
            if (error >= 0) {
                if (input->frame->nb_samples <= 0 || input->frame->sample_rate <= 0 || input->frame->ch_layout.nb_channels <= 0)
                    continue;
                input->tally.samples += input->frame->nb_samples;
                return 1;
            }
            if (error == AVERROR(ENOMEM))
                return error;
            if (error != AVERROR(EAGAIN) && error != AVERROR_EOF)
                input->tally.damaged++;
            if (input->drained)
                return 0;
            input->packet_sent = 0;
        }
        int result = next_packet(input);
        if (result < 0)
            return result;
        if (result > 0 && input->packet->size == 0) { /* a decoder would take it for the end of the sound */
            input->tally.damaged++;
            continue;
        }
        input->drained = result == 0;
        int error = avcodec_send_packet(input->codec, input->drained ? NULL : input->packet);
        if (error == AVERROR(ENOMEM))
            return error;
        if (error < 0 && input->drained)
            return 0;
        if (error < 0)
            input->tally.damaged++;
        input->packet_sent = error >= 0;
    }
}

int engine_start(engine_input *input, int32_t *sample_rate, int32_t *channels)
{
    const AVCodec *codec = decoder(input, input->stream->codecpar);
    if (!codec)
        return AVERROR_DECODER_NOT_FOUND;
    input->codec = avcodec_alloc_context3(codec);
    if (!input->codec)
        return AVERROR(ENOMEM);
    int error = avcodec_parameters_to_context(input->codec, input->stream->codecpar);
    if (error < 0)
        return error;
    input->codec->pkt_timebase = input->stream->time_base; /* what trims delay and padding counts in */
    input->codec->thread_count = 1;
    error = avcodec_open2(input->codec, codec, NULL);
    if (error < 0)
        return error;
    int result = next_frame(input);
    if (result > 0) {
        input->frame_held = 1;
        *sample_rate = input->frame->sample_rate;
        *channels = input->frame->ch_layout.nb_channels;
    }
    return result;
}

void engine_deliver(engine_input *input, int sample_rate, int channels)
{
    input->out_rate = sample_rate;
    input->out_channels = channels;
}

/* ---- resampling and downmix ---- */

/* More channels than any layout names: even ones left, odd ones right, at equal weight. */
static int mix_unnamed(engine_input *input, int channels)
{
    double matrix[2 * MOST_CHANNELS] = {0};
    if (channels > MOST_CHANNELS)
        return AVERROR_PATCHWELCOME;
    for (int in = 0; in < channels; in++)
        for (int out = 0; out < input->out_channels; out++)
            if (input->out_channels == 1 || in % 2 == out)
                matrix[out * channels + in] = (double)input->out_channels / (channels + channels % 2);
    return swr_set_matrix(input->swr, matrix, channels);
}

/* Ambisonic sound, in the order of ACN and the weights of SN3D: what two cardioids hear that look left and right. Behind it may come a left
 * and a right channel, to be heard as they are. */
static int mix_ambisonic(engine_input *input, int channels)
{
    double matrix[2 * MOST_CHANNELS] = {0};
    int order = 0;
    if (channels > MOST_CHANNELS)
        return AVERROR_PATCHWELCOME;
    while ((order + 2) * (order + 2) <= channels)
        order++;
    int beside = channels - (order + 1) * (order + 1) == 2;
    for (int out = 0; out < input->out_channels; out++) {
        double *row = matrix + out * channels;
        int is_mono = input->out_channels == 1;
        row[0] = is_mono || order == 0 ? 1 : 0.5;
        if (!is_mono && order > 0)
            row[1] = out == 0 ? 0.5 : -0.5;
        for (int side = 0; side < 2 && beside; side++)
            row[channels - 2 + side] = is_mono ? 0.5 : side == out;
    }
    return swr_set_matrix(input->swr, matrix, channels);
}

static int open_resampler(engine_input *input)
{
    const AVFrame *frame = input->frame;
    AVChannelLayout in = {0}, out = {0};
    if (frame->ch_layout.order == AV_CHANNEL_ORDER_UNSPEC)
        av_channel_layout_default(&in, frame->ch_layout.nb_channels);
    else if (av_channel_layout_copy(&in, &frame->ch_layout) < 0)
        return AVERROR(ENOMEM);
    av_channel_layout_default(&out, input->out_channels);

    swr_free(&input->swr);
    int error = swr_alloc_set_opts2(&input->swr, &out, AV_SAMPLE_FMT_FLTP, input->out_rate, &in, frame->format, frame->sample_rate, 0, NULL);
    if (error >= 0 && in.order == AV_CHANNEL_ORDER_AMBISONIC)
        error = mix_ambisonic(input, in.nb_channels);
    else if (error >= 0 && in.order != AV_CHANNEL_ORDER_NATIVE)
        error = mix_unnamed(input, in.nb_channels);
    else if (error >= 0 && in.nb_channels == 1 && input->out_channels == 2)
        error = swr_set_matrix(input->swr, (const double[]){1, 1}, 1); /* mono amid stereo stays as loud as it was */
    else if (error >= 0 && input->out_channels == 1)
        error = av_opt_set_double(input->swr, "rematrix_maxval", 1, 0); /* or two equal channels become 3 dB louder, and clip */
    if (error >= 0)
        error = swr_init(input->swr);
    if (error == AVERROR(EINVAL) && in.order == AV_CHANNEL_ORDER_NATIVE) {
        /* A layout that the resampler has no rule for, such as two rear speakers alone. */
        swr_free(&input->swr);
        error = swr_alloc_set_opts2(&input->swr, &out, AV_SAMPLE_FMT_FLTP, input->out_rate, &in, frame->format, frame->sample_rate, 0, NULL);
        if (error >= 0)
            error = mix_unnamed(input, in.nb_channels);
        if (error >= 0)
            error = swr_init(input->swr);
    }
    av_channel_layout_uninit(&in);
    if (error < 0)
        return error;
    input->in_rate = frame->sample_rate;
    input->in_format = frame->format;
    av_channel_layout_uninit(&input->in_layout);
    return av_channel_layout_copy(&input->in_layout, &frame->ch_layout);
}

static int same_input(const engine_input *input)
{
    const AVFrame *frame = input->frame;
    return input->swr && frame->sample_rate == input->in_rate && frame->format == input->in_format
        && av_channel_layout_compare(&frame->ch_layout, &input->in_layout) == 0;
}

/* Resamples `frame`, or what the resampler still holds when it is NULL. */
static int resample(engine_input *input, const AVFrame *frame, engine_block *block)
{
    int in = frame ? frame->nb_samples : 0;
    int need = swr_get_out_samples(input->swr, in);
    if (need < 0)
        return need;
    if (need > input->room) {
        av_freep(&input->planes[0]);
        input->room = 0;
        int error = av_samples_alloc(input->planes, NULL, input->out_channels, need, AV_SAMPLE_FMT_FLTP, 0);
        if (error < 0)
            return error;
        input->room = need;
    }
    int frames = need == 0 ? 0 : swr_convert(input->swr, input->planes, input->room, frame ? (const uint8_t **)frame->extended_data : NULL, in);
    if (frames < 0)
        return frames;
    block->left = (float *)input->planes[0];
    block->right = (float *)input->planes[input->out_channels - 1];
    block->frames = frames;
    return 0;
}

int engine_next(engine_input *input, engine_block *block)
{
    block->frames = 0;
    while (block->frames == 0) {
        int result = 0;
        if (!input->frame_held) {
            result = next_frame(input);
            if (result < 0)
                return result;
            input->frame_held = result;
        }
        if (input->frame_held && same_input(input)) {
            result = resample(input, input->frame, block);
            av_frame_unref(input->frame);
            input->frame_held = 0;
        } else {
            /* The end, or a change of rate or channels: first what is left of the old, then the new. */
            if (input->swr) {
                result = resample(input, NULL, block);
                swr_free(&input->swr);
            } else if (!input->frame_held) {
                return 0;
            }
            if (result >= 0 && input->frame_held)
                result = open_resampler(input);
        }
        if (result < 0)
            return result;
    }
    return 1;
}

void engine_tallied(const engine_input *input, engine_tally *tally)
{
    *tally = input->tally;
}
