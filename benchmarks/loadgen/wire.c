#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum opcode { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { READ_SIZE = 8192, TURN_EVENTS = 512, HANDSHAKE_SECONDS = 10 };

struct pong { /* an answer that is held back */
    uint64_t due_us;
    struct connection *connection;
    enum opcode opcode;
    size_t length;
    char payload[125];
};

static struct dialect dialect;
static on_text hand_on;
static int epoll_fd, watched_fd = -1;
static struct connection **outgoing; /* connections with queued output */
static size_t outgoing_count, outgoing_capacity;
static struct pong *pongs; /* a ring, in the order of due_us */
static size_t pongs_first, pongs_count, pongs_capacity;

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

uint64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
}

char *fill_in(const char *format, const char *name) {
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    for (const char *at = format; *at; at++) {
        if (at[0] == '%' && at[1] == 's') {
            fputs(name, out);
            at++;
        } else {
            fputc(*at, out);
        }
    }
    fclose(out);
    return text;
}

/* --- buffers ------------------------------------------------------------------------------------------------- */

static char *reserve(struct bytes *bytes, size_t length) {
    if (bytes->start == bytes->end) bytes->start = bytes->end = 0;
    if (bytes->end + length > bytes->capacity) {
        if (bytes->start) memmove(bytes->data, bytes->data + bytes->start, bytes->end - bytes->start);
        bytes->end -= bytes->start;
        bytes->start = 0;
        if (bytes->end + length > bytes->capacity) {
            bytes->capacity = (bytes->end + length) * 2;
            bytes->data = realloc(bytes->data, bytes->capacity);
            if (!bytes->data) die("out of memory");
        }
    }
    return bytes->data + bytes->end;
}

static void release(struct bytes *bytes) {
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static void queue(struct connection *connection) {
    if (connection->queued) return;
    if (outgoing_count == outgoing_capacity) {
        outgoing_capacity = outgoing_capacity ? outgoing_capacity * 2 : 256;
        outgoing = realloc(outgoing, outgoing_capacity * sizeof *outgoing);
        if (!outgoing) die("out of memory");
    }
    connection->queued = true;
    outgoing[outgoing_count++] = connection;
}

/* --- WebSocket ----------------------------------------------------------------------------------------------- */

static void send_frame(struct connection *connection, enum opcode opcode, const char *payload, size_t length) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d}; /* not zero: some servers skip unmasking then */
    char *frame = reserve(&connection->out, length + 14);
    size_t head = 2;
    frame[0] = (char)(0x80 | opcode);
    if (length < 126) {
        frame[1] = (char)(0x80 | length);
    } else if (length < 65536) {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(length >> 8);
        frame[3] = (char)length;
        head = 4;
    } else {
        frame[1] = (char)(0x80 | 127);
        for (int i = 0; i < 8; i++) frame[2 + i] = (char)((uint64_t)length >> (56 - 8 * i));
        head = 10;
    }
    memcpy(frame + head, mask, 4);
    head += 4;
    for (size_t i = 0; i < length; i++) frame[head + i] = (char)(payload[i] ^ mask[i & 3]);
    connection->out.end += head + length;
    queue(connection);
}

void wire_send_text(struct connection *connection, const char *text, size_t length) {
    send_frame(connection, TEXT, text, length);
}

struct frame {
    enum opcode opcode;
    const char *payload;
    size_t length;
};

/* Takes one frame off the buffer; false if it is not whole yet. The payload is valid until the next read. */
static bool take_frame(struct connection *connection, struct frame *frame) {
    const unsigned char *at = (const unsigned char *)connection->in.data + connection->in.start;
    size_t available = connection->in.end - connection->in.start, head = 2;
    if (available < head) return false;
    uint64_t length = at[1] & 127;
    if (length == 126) {
        head = 4;
        if (available < head) return false;
        length = (uint64_t)at[2] << 8 | at[3];
    } else if (length == 127) {
        head = 10;
        if (available < head) return false;
        length = 0;
        for (int i = 2; i < 10; i++) length = length << 8 | at[i];
    }
    if (available < head + length) return false;
    if (!(at[0] & 0x80)) die("the server sent a fragmented message");
    *frame = (struct frame){at[0] & 15, (const char *)at + head, length};
    connection->in.start += head + length;
    return true;
}

/* --- heartbeats ---------------------------------------------------------------------------------------------- */

static void hold_pong(struct connection *connection, enum opcode opcode, const char *payload, size_t length) {
    if (pongs_count == pongs_capacity) {
        size_t capacity = pongs_capacity ? pongs_capacity * 2 : 1024;
        struct pong *larger = malloc(capacity * sizeof *larger);
        if (!larger) die("out of memory");
        for (size_t i = 0; i < pongs_count; i++) larger[i] = pongs[(pongs_first + i) % pongs_capacity];
        free(pongs);
        pongs = larger;
        pongs_capacity = capacity;
        pongs_first = 0;
    }
    struct pong *pong = &pongs[(pongs_first + pongs_count++) % pongs_capacity];
    *pong = (struct pong){now_us() + dialect.pong_delay_us, connection, opcode, length, {0}};
    memcpy(pong->payload, payload, length);
}

static void answer_ping(struct connection *connection, enum opcode opcode, const char *payload, size_t length) {
    if (length > 125) die("the server sent an overlong ping");
    if (dialect.pong_delay_us) hold_pong(connection, opcode, payload, length);
    else send_frame(connection, opcode, payload, length);
}

static void send_due_pongs(void) {
    for (; pongs_count && pongs[pongs_first].due_us <= now_us(); pongs_count--) {
        struct pong *pong = &pongs[pongs_first];
        send_frame(pong->connection, pong->opcode, pong->payload, pong->length);
        pongs_first = (pongs_first + 1) % pongs_capacity;
    }
}

/* Answers heartbeats; true if the frame is for the application. */
static bool is_message(struct connection *connection, const struct frame *frame) {
    switch (frame->opcode) {
    case PING: answer_ping(connection, PONG, frame->payload, frame->length); return false;
    case PONG: return false;
    case CLOSE:
        die("the server closed a connection: code %d, %.*s",
            frame->length < 2 ? 1005 : (unsigned char)frame->payload[0] << 8 | (unsigned char)frame->payload[1],
            frame->length < 2 ? 0 : (int)frame->length - 2, frame->payload + 2);
    case TEXT:
        if (!dialect.socketio || frame->length != 1 || frame->payload[0] != '2') return true;
        answer_ping(connection, TEXT, "3", 1);
        return false;
    default: return true;
    }
}

/* --- the loop ------------------------------------------------------------------------------------------------ */

static void watch(struct connection *connection, int operation) {
    struct epoll_event event = {EPOLLIN | (connection->wants_room ? EPOLLOUT : 0), {.ptr = connection}};
    if (epoll_ctl(epoll_fd, operation, connection->socket, &event)) die("epoll: %s", strerror(errno));
}

static void write_out(struct connection *connection) {
    struct bytes *out = &connection->out;
    while (out->start < out->end) {
        ssize_t sent = send(connection->socket, out->data + out->start, out->end - out->start, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) break;
        if (sent < 0) die("send: %s", strerror(errno));
        out->start += (size_t)sent;
    }
    bool full = out->start < out->end;
    if (full == connection->wants_room) return;
    connection->wants_room = full;
    watch(connection, EPOLL_CTL_MOD);
}

void wire_flush(void) {
    for (size_t i = 0; i < outgoing_count; i++) {
        outgoing[i]->queued = false;
        write_out(outgoing[i]);
    }
    outgoing_count = 0;
}

/* Reads what there is; false if there is nothing (or, on a blocking socket, nothing in time). */
static bool read_in(struct connection *connection) {
    char *room = reserve(&connection->in, READ_SIZE);
    ssize_t got = recv(connection->socket, room, connection->in.capacity - connection->in.end, 0);
    if (got == 0) die("the server closed a connection");
    if (got < 0 && errno == EAGAIN) return false;
    if (got < 0) die("recv: %s", strerror(errno));
    connection->in.end += (size_t)got;
    return true;
}

static void hand_on_frames(struct connection *connection) {
    for (struct frame frame; take_frame(connection, &frame);)
        if (is_message(connection, &frame)) hand_on(connection, frame.payload, frame.length);
    if (connection->in.start == connection->in.end && connection->in.capacity > 4 * READ_SIZE) release(&connection->in);
}

static void serve(struct connection *connection) {
    if (read_in(connection)) hand_on_frames(connection);
}

bool wire_turn(int timeout_ms, int wake_fd) {
    if (wake_fd >= 0 && wake_fd != watched_fd) {
        struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event)) die("epoll: %s", strerror(errno));
        watched_fd = wake_fd;
    }
    if (pongs_count && timeout_ms > 1) timeout_ms = 1;
    struct epoll_event events[TURN_EVENTS];
    int count = epoll_wait(epoll_fd, events, TURN_EVENTS, timeout_ms);
    bool woken = false;
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (!connection) {
            woken = true;
            continue;
        }
        if (events[i].events & EPOLLOUT) write_out(connection);
        if (events[i].events & ~(uint32_t)EPOLLOUT) serve(connection);
    }
    send_due_pongs();
    wire_flush();
    return woken;
}

void wire_start(const struct dialect *spoken, on_text handler) {
    dialect = *spoken;
    hand_on = handler;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
}

/* --- the handshake: blocking, one connection after another ----------------------------------------------------- */

static void open_socket(struct connection *connection) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)dialect.port)};
    if (inet_pton(AF_INET, dialect.host, &address.sin_addr) != 1) die("--host wants an IPv4 address");
    connection->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->socket < 0) die("socket: %s", strerror(errno));
    int on = 1;
    setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval patience = {HANDSHAKE_SECONDS, 0};
    setsockopt(connection->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(connection->socket, (void *)&address, sizeof address)) die("connect: %s", strerror(errno));
}

static void send_now(struct connection *connection) {
    while (connection->out.start < connection->out.end) {
        char *from = connection->out.data + connection->out.start;
        ssize_t sent = send(connection->socket, from, connection->out.end - connection->out.start, MSG_NOSIGNAL);
        if (sent < 0) die("send in the handshake: %s", strerror(errno));
        connection->out.start += (size_t)sent;
    }
}

static void upgrade(struct connection *connection, const char *name) {
    char *path = fill_in(dialect.path, name), *request = reserve(&connection->out, strlen(path) + 1024);
    int length = sprintf(request,
                         "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: c21hcnQtcm91dGVyLWdlbg==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                         path, dialect.host, dialect.port, dialect.subprotocol ? "Sec-WebSocket-Protocol: " : "",
                         dialect.subprotocol ? dialect.subprotocol : "", dialect.subprotocol ? "\r\n" : "");
    free(path);
    connection->out.end += (size_t)length;
    send_now(connection);
    char *end;
    do {
        if (!read_in(connection)) die("no answer to the WebSocket handshake");
        end = memmem(connection->in.data, connection->in.end, "\r\n\r\n", 4);
    } while (!end);
    if (connection->in.end < 12 || memcmp(connection->in.data + 9, "101", 3))
        die("the server refused the WebSocket: %.*s", (int)(end - connection->in.data), connection->in.data);
    connection->in.start = (size_t)(end + 4 - connection->in.data);
}

/* Waits for a text frame that begins with `start` and contains `part`; whatever else comes is skipped. */
static void expect(struct connection *connection, const char *start, const char *part) {
    for (struct frame frame;;) {
        while (!take_frame(connection, &frame))
            if (!read_in(connection)) die("the handshake stopped before a frame %s…%s", start, part);
        bool message = is_message(connection, &frame);
        send_now(connection);
        if (!message) continue;
        if (dialect.socketio && frame.length > 1 && !memcmp(frame.payload, "44", 2))
            die("the server refused the actor: %.*s", (int)frame.length, frame.payload);
        if (memmem(frame.payload, frame.length, "\"error\"", 7))
            die("the server reported an error: %.*s", (int)frame.length, frame.payload);
        if (frame.length < strlen(start) || memcmp(frame.payload, start, strlen(start))) continue;
        if (!*part || memmem(frame.payload, frame.length, part, strlen(part))) return;
    }
}

static void identify(struct connection *connection, const char *name) {
    char *identity = fill_in(dialect.identify, name), *packet;
    if (dialect.socketio) {
        expect(connection, "0", "");
        int length = asprintf(&packet, "40%s%s%s", dialect.namespace, *dialect.namespace ? "," : "", identity);
        wire_send_text(connection, packet, (size_t)length);
        free(packet);
        send_now(connection);
        expect(connection, "40", "");
    } else if (*identity) {
        wire_send_text(connection, identity, strlen(identity));
        send_now(connection);
    }
    if (*dialect.await) expect(connection, dialect.socketio ? "42" : "", dialect.await);
    free(identity);
}

void wire_connect(struct connection *connection, const char *name) {
    open_socket(connection);
    upgrade(connection, name);
    identify(connection, name);
    fcntl(connection->socket, F_SETFL, O_NONBLOCK);
    watch(connection, EPOLL_CTL_ADD);
    hand_on_frames(connection); /* what came right behind the answer */
    if (connection->in.start == connection->in.end) release(&connection->in);
    if (connection->out.start == connection->out.end) release(&connection->out);
}
