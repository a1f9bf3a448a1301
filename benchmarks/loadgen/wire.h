/* Connections to the server under test: sockets, WebSocket frames, the Engine.IO and Socket.IO handshake. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dialect { /* how an actor connects; in templates each %s stands for the actor's name */
    bool socketio;          /* else bare WebSocket text frames */
    const char *host;
    int port;
    const char *path;       /* request path; a bare WebSocket may carry %s */
    const char *subprotocol; /* Sec-WebSocket-Protocol, or NULL */
    const char *namespace;  /* "" or "/ui" */
    const char *identify;   /* Socket.IO: CONNECT's auth object. Bare: first text frame, "" for none */
    const char *await;      /* text of the frame that ends the handshake, "" for none */
    uint64_t pong_delay_us; /* 0: pings are answered at once */
};

struct bytes {
    char *data;
    size_t start, end, capacity;
};

struct connection {
    int socket;
    int index;
    bool receiver;
    bool queued;     /* has output for the next wire_flush */
    bool wants_room; /* the socket was full: waits for EPOLLOUT */
    struct bytes in, out;
};

/* Called for each text frame that is not the protocol's own heartbeat. */
typedef void (*on_text)(struct connection *from, const char *text, size_t length);

void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
uint64_t now_us(void);
char *fill_in(const char *format, const char *name); /* the caller frees it */

void wire_start(const struct dialect *dialect, on_text handler);
/* Connects and identifies, waits until the server said so (10 s at most); then wire_turn serves the connection. */
void wire_connect(struct connection *connection, const char *name);
void wire_send_text(struct connection *connection, const char *text, size_t length);
void wire_flush(void);
/* One turn of the loop: reads, hands on, answers pings that are due, writes. Waits at most so long; `wake_fd` (or -1)
 * ends the wait early. Returns true if wake_fd became readable. */
bool wire_turn(int timeout_ms, int wake_fd);

#endif
