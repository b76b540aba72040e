/* What libav says when something fails: its log, kept instead of printed, and its error numbers. */
#include "libav.h"

#include <string.h>

#include <libavutil/avstring.h>
#include <libavutil/error.h>
#include <libavutil/log.h>

#define LOG_LINES 6
#define LOG_WIDTH 200
static _Thread_local char log_ring[LOG_LINES][LOG_WIDTH];
static _Thread_local unsigned log_count;
static _Thread_local unsigned of_demuxers;

/* Does a container's reader say it? */
static int is_of_demuxer(void *context)
{
    const AVClass *class = context ? *(const AVClass **)context : NULL;
    AVClassCategory category = AV_CLASS_CATEGORY_NA;
    if (class)
        category = class->get_category ? class->get_category(context) : class->category;
    return category == AV_CLASS_CATEGORY_DEMUXER;
}

static void keep_log(void *context, int level, const char *format, va_list arguments)
{
    if (level > AV_LOG_ERROR)
        return;
    of_demuxers += is_of_demuxer(context);
    int prefix = 1;
    char *line = log_ring[log_count % LOG_LINES];
    av_log_format_line2(context, level, format, arguments, line, LOG_WIDTH, &prefix);
    line[strcspn(line, "\r\n")] = 0;
    if (line[0])
        log_count++;
}

void engine_log_keep(void)
{
    av_log_set_callback(keep_log);
}

void engine_log_clear(void)
{
    log_count = 0;
    of_demuxers = 0;
}

int64_t engine_log_of_demuxers(void)
{
    return of_demuxers;
}

void engine_log_read(char *text, int size)
{
    text[0] = 0;
    for (unsigned i = log_count > LOG_LINES ? log_count - LOG_LINES : 0; i < log_count; i++)
        av_strlcatf(text, size, "%s%s", text[0] ? "\n" : "", log_ring[i % LOG_LINES]);
}

enum engine_class engine_class(int error)
{
    switch (error) {
    case AVERROR(ENOMEM): return ENGINE_NO_MEMORY;
    case ERROR_NOT_ALLOWED: return ENGINE_NOT_ALLOWED;
    case ERROR_ENCRYPTED: return ENGINE_IS_ENCRYPTED;
    case AVERROR_PATCHWELCOME:
    case AVERROR(ENOSYS): return ENGINE_NOT_IMPLEMENTED;
    default: return ENGINE_OTHER;
    }
}

void engine_error_text(int error, char *text, int size)
{
    av_strerror(error, text, size);
}
