#define _GNU_SOURCE
#include "http.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD_MAX = 16384, STATUS_AT = 9, UUID_CHARACTERS = 36 };  // "HTTP/1.1 200"

const char *header(const struct message *m, const char *name, size_t *length) {
    size_t named = strlen(name);
    const char *end = m->head + m->head_length, *line = memchr(m->head, '\n', m->head_length);
    while (line && ++line + named < end) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        if (!strncasecmp(line, name, named)) {
            const char *value = line + named, *last = next ? next - 1 : end;
            while (value < last && *value == ' ') value++;
            *length = (size_t)(last - value);
            return value;
        }
        line = next;
    }
    return 0;
}

int read_message(const struct buffer *from, struct message *m) {
    const char *end = memmem(start(from), held(from), "\r\n\r\n", 4);
    if (!end) return held(from) > HEAD_MAX ? -1 : 0;
    *m = (struct message){.head = start(from), .head_length = (size_t)(end - start(from)), .body = end + 4};
    size_t length;
    if (header(m, "transfer-encoding:", &length)) return -1;
    const char *told = header(m, "content-length:", &length);
    m->body_length = told ? strtoul(told, 0, 10) : 0;
    m->length = m->head_length + 4 + m->body_length;
    return held(from) >= m->length;
}

int status_of(const struct message *m) { return m->head_length > STATUS_AT ? atoi(m->head + STATUS_AT) : 0; }

const char *after(const struct message *m, const char *mark) {
    const char *found = memmem(m->body, m->body_length, mark, strlen(mark));
    return found ? found + strlen(mark) : 0;
}

int starts_with(const struct message *m, const char *line) {
    size_t length = strlen(line);
    return m->head_length >= length && !memcmp(m->head, line, length);
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int read_uuid(const char *text, uint8_t id[16]) {
    int nibbles = 0;
    memset(id, 0, 16);
    for (int i = 0; i < UUID_CHARACTERS; i++) {
        if (text[i] == '-') continue;
        int value = digit(text[i]);
        if (value < 0 || nibbles == 32) return 0;
        id[nibbles / 2] |= (uint8_t)(nibbles % 2 ? value : value << 4);
        nibbles++;
    }
    return nibbles == 32;
}
