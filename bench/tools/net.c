// See net.h. epoll on Linux, kqueue elsewhere; both wait with a resolution of microseconds.
#define _GNU_SOURCE
#include "net.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <poll.h>
#include <sys/epoll.h>
#else
#include <sys/event.h>
#endif

enum { BACKLOG = 2048, READ_BYTES = 65536, EVENTS_MAX = 512, TEXT_MAX = 1024 };

volatile int stopping, asked;

static void on_signal(int number) {
    if (number == SIGUSR1) asked = 1;
    else stopping = 1;
}

void stop_by_signal(void) {
    struct sigaction action = {.sa_handler = on_signal};  // no SA_RESTART: a wait is interrupted
    sigaction(SIGTERM, &action, 0);
    sigaction(SIGINT, &action, 0);
    sigaction(SIGUSR1, &action, 0);
    signal(SIGPIPE, SIG_IGN);
}

void fail(const char *what) { perror(what); exit(1); }

uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

void *grown(void *memory, size_t wanted_bytes) {
    void *larger = realloc(memory, wanted_bytes);
    if (!larger) fail("realloc");
    return larger;
}

// Room for `more` bytes at the end: what is gone from the front is used first.
static void make_room(struct buffer *b, size_t more) {
    if (b->end + more <= b->room) return;
    if (b->begin) {
        memmove(b->data, b->data + b->begin, held(b));
        b->end -= b->begin;
        b->begin = 0;
    }
    if (b->end + more > b->room) b->data = grown(b->data, b->room = (b->end + more) * 2);
}

void put(struct buffer *b, const void *bytes, size_t length) {
    make_room(b, length);
    memcpy(b->data + b->end, bytes, length);
    b->end += length;
}

void put_text(struct buffer *b, const char *format, ...) {
    make_room(b, TEXT_MAX);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(b->data + b->end, TEXT_MAX, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= TEXT_MAX) { errno = EMSGSIZE; fail("put_text"); }
    b->end += (size_t)length;
}

void take(struct buffer *b, size_t length) {
    b->begin += length;
    if (b->begin == b->end) b->begin = b->end = 0;
}

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int tuned(int fd) {
    int on = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = loopback(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, BACKLOG)) fail("listen");
    return tuned(fd);
}

int accept_one(int listener) {
    int fd = accept(listener, 0, 0);
    return fd < 0 ? -1 : tuned(fd);
}

int connect_to(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) fail("socket");
    struct sockaddr_in to = loopback(port);
    tuned(fd);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

int connect_error(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}

int receive_all(int fd, struct buffer *into) {
    for (;;) {
        make_room(into, READ_BYTES);
        ssize_t got = recv(fd, into->data + into->end, READ_BYTES, 0);
        if (got < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
        if (got == 0) return -1;
        into->end += (size_t)got;
        if (got < READ_BYTES) return 0;
    }
}

int send_all(int fd, struct buffer *from) {
    while (held(from)) {
        ssize_t sent = send(fd, start(from), held(from), 0);
        if (sent < 0) return errno == EAGAIN || errno == EINTR || errno == ENOTCONN ? 0 : -1;
        take(from, (size_t)sent);
    }
    return 1;
}

void allow_many_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) return;
    files.rlim_cur = files.rlim_max > 65536 ? 65536 : files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static int poller = -1;

#ifdef __linux__
static void control(int operation, int fd, void *tag, int what) {
    if (poller < 0) poller = epoll_create1(0);
    struct epoll_event event = {.data.ptr = tag};
    event.events = (what & READABLE ? EPOLLIN : 0) | (what & WRITABLE ? EPOLLOUT : 0);
    if (epoll_ctl(poller, operation, fd, &event)) fail("epoll_ctl");
}

void watch(int fd, void *tag, int what) { control(EPOLL_CTL_ADD, fd, tag, what); }
void rewatch(int fd, void *tag, int what) { control(EPOLL_CTL_MOD, fd, tag, what); }
void unwatch(int fd) { control(EPOLL_CTL_DEL, fd, 0, 0); }

int wait_ready(struct ready *ready, int max, int64_t timeout_us) {
    struct epoll_event events[EVENTS_MAX];
    if (max > EVENTS_MAX) max = EVENTS_MAX;
    int count = epoll_wait(poller, events, max, 0);
    if (count == 0 && timeout_us > 0) {  // epoll_wait itself counts in milliseconds
        struct pollfd whole = {.fd = poller, .events = POLLIN};
        struct timespec pause = {timeout_us / 1000000, timeout_us % 1000000 * 1000};
        if (ppoll(&whole, 1, &pause, 0) > 0) count = epoll_wait(poller, events, max, 0);
    }
    for (int i = 0; i < count; i++) {
        uint32_t bits = events[i].events;
        int what = (bits & EPOLLOUT ? WRITABLE : 0) | (bits & (EPOLLIN | EPOLLHUP | EPOLLERR) ? READABLE : 0);
        ready[i] = (struct ready){events[i].data.ptr, what};
    }
    return count < 0 ? 0 : count;
}
#else
static void control(int fd, void *tag, int filter, int flags) {
    if (poller < 0) poller = kqueue();
    struct kevent change;
    EV_SET(&change, fd, filter, flags, 0, 0, tag);
    if (kevent(poller, &change, 1, 0, 0, 0) && errno != ENOENT) fail("kevent");
}

void watch(int fd, void *tag, int what) { rewatch(fd, tag, what); }

void rewatch(int fd, void *tag, int what) {
    control(fd, tag, EVFILT_READ, what & READABLE ? EV_ADD : EV_DELETE);
    control(fd, tag, EVFILT_WRITE, what & WRITABLE ? EV_ADD : EV_DELETE);
}

void unwatch(int fd) { rewatch(fd, 0, 0); }

int wait_ready(struct ready *ready, int max, int64_t timeout_us) {
    struct kevent events[EVENTS_MAX];
    struct timespec pause = {timeout_us / 1000000, timeout_us % 1000000 * 1000};
    int count = kevent(poller, 0, 0, events, max > EVENTS_MAX ? EVENTS_MAX : max, &pause);
    for (int i = 0; i < count; i++)
        ready[i] = (struct ready){events[i].udata, events[i].filter == EVFILT_WRITE ? WRITABLE : READABLE};
    return count < 0 ? 0 : count;
}
#endif
