#include "submit.h"
#include "http.h"
#include <stdlib.h>
#include <string.h>

enum { UUID_CHARACTERS = 36 };

// `at` stands on the opening quote; returns the closing one, or 0.
static const char *end_of_text(const char *at, const char *end) {
    for (at++; at < end; at++) {
        if (*at == '\\') at++;
        else if (*at == '"') return at;
    }
    return 0;
}

static int is(const char *key, const char *end, const char *name) {
    return (size_t)(end - key) == strlen(name) && !memcmp(key, name, strlen(name));
}

static void keep(struct submit *s, const char *key, const char *key_end, const char *value, const char *value_end) {
    size_t length = (size_t)(value_end - value);
    if (is(key, key_end, "id") && length == UUID_CHARACTERS) read_uuid(value, s->id);
    else if (is(key, key_end, "to") && length < MSISDN_ROOM) memcpy(s->to, value, length);
    else if (is(key, key_end, "part")) s->part = atoi(value);
    else if (is(key, key_end, "attempt")) s->attempt = atoi(value);
}

const char *next_submit(const char *at, const char *end, struct submit *s) {
    at = at < end ? memchr(at, '{', (size_t)(end - at)) : 0;
    if (!at) return 0;
    *s = (struct submit){.part = 1, .attempt = 1};
    while (++at < end && *at != '}') {
        const char *key = memchr(at, '"', (size_t)(end - at)), *key_end = key ? end_of_text(key, end) : 0, *value, *value_end;
        if (!key_end || key_end + 2 >= end) return 0;
        value = value_end = key_end + 2;  // after the quote and the colon: what we encode has no blanks
        if (*value == '"') {
            value_end = end_of_text(value++, end);
            if (!value_end) return 0;
            at = value_end + 1;
        } else {
            while (value_end < end && *value_end != ',' && *value_end != '}') value_end++;
            at = value_end;
        }
        keep(s, key + 1, key_end, value, value_end);
        if (at < end && *at == '}') break;
    }
    return at + 1;
}
