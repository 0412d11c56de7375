// One HTTP/1.1 message at a time, framed by Content-Length: all that Tollwire and the tools say to each other.
#ifndef HTTP_H
#define HTTP_H
#include "net.h"

struct message {
    const char *head, *body;   // the head ends with the empty line's first CR
    size_t head_length, body_length, length;  // length: of the whole message
};

// 1: whole, 0: more must come, -1: not what is spoken here.
int read_message(const struct buffer *from, struct message *message);
// The value of a header (name in lower case, with its colon), or 0.
const char *header(const struct message *message, const char *name, size_t *length);
int status_of(const struct message *message);
// The text after `mark` in the body, or 0.
const char *after(const struct message *message, const char *mark);
int starts_with(const struct message *message, const char *line);
// 36 characters into 16 bytes; 0 when they are no UUID. `text` must hold 36 characters.
int read_uuid(const char *text, uint8_t id[16]);
#endif
