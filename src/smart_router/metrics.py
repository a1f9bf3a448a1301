"""Every metric there is; users import it from telemetry.py, where the log events stand."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["METRICS", "Metric"]


class Metric(NamedTuple):
    """`kind`: counter, gauge or histogram. `labels`: each with a bounded number of values (A10)."""

    kind: str
    text: str
    labels: tuple[str, ...] = ()


METRICS: Final[dict[str, Metric]] = {
    "smart_router_router_received_total": Metric("counter", "Messages from senders"),
    "smart_router_router_published_total": Metric("counter", "Messages put into mailboxes"),
    "smart_router_router_refused_total": Metric("counter", "Messages answered with an error"),
    "smart_router_router_repeats_total": Metric("counter", "Repeats of a sender's `options.id`"),
    "smart_router_router_route_errors_total": Metric("counter", "Routes that raised"),
    "smart_router_router_no_route_total": Metric("counter", "Messages of a type without a route"),
    "smart_router_delivery_sessions": Metric("gauge", "Identified sessions"),
    "smart_router_delivery_held": Metric("gauge", "Mailboxes that this node takes from"),
    "smart_router_delivery_delivered_total": Metric("counter", "Messages written to a session"),
    "smart_router_delivery_confirmed_total": Metric("counter", "Deliveries confirmed by the recipient"),
    "smart_router_delivery_redelivered_total": Metric("counter", "Deliveries that repeat one"),
    "smart_router_delivery_timed_out_total": Metric("counter", "Deliveries without a confirmation in time"),
    "smart_router_delivery_refused_total": Metric("counter", "Deliveries that the application refused"),
    "smart_router_delivery_given_back_total": Metric("counter", "Messages given back to their mailbox"),
    "smart_router_delivery_recovered_total": Metric("counter", "Sessions recovered"),
    "smart_router_delivery_not_recovered_total": Metric("counter", "Recoveries asked for and not possible"),
    "smart_router_delivery_unknown_answers_total": Metric("counter", "Acknowledgements of nothing that waits"),
    "smart_router_receipts_told_total": Metric("counter", "Receipts put into their senders' mailboxes"),
    "smart_router_receipts_lost_total": Metric("counter", "Receipts that their senders' mailboxes did not take"),
    "smart_router_receipts_waiting": Metric("gauge", "Receipts that wait for the broker"),
    "smart_router_receipts_remembered": Metric("gauge", "Delivered messages that may be marked as read or replied to"),
    "smart_router_replies_open": Metric("gauge", "Requests that wait for their reply"),
    "smart_router_replies_asked_total": Metric("counter", "Requests"),
    "smart_router_replies_replied_total": Metric("counter", "Requests that got their reply"),
    "smart_router_replies_timed_out_total": Metric("counter", "Requests without a reply in time"),
    "smart_router_replies_refused_total": Metric("counter", "Requests that no recipient is left to reply to"),
    "smart_router_replies_late_total": Metric("counter", "Replies that nobody waited for"),
    "smart_router_marks_read_total": Metric("counter", "Messages marked as read whose sender asked for it"),
    "smart_router_marks_replies_total": Metric("counter", "Replies taken to their requests"),
    "smart_router_marks_refused_total": Metric("counter", "Marks and replies that were refused"),
    "smart_router_heartbeats_expired_total": Metric("counter", "Sessions whose lease ended"),
    "smart_router_heartbeats_registered_again_total": Metric("counter", "Expired sessions that were heard again"),
    "smart_router_heartbeats_unhealthy_total": Metric("counter", "Times that a session missed three heartbeats"),
    "smart_router_presence_watches": Metric("gauge", "Actors that others watch, once for each who does"),
    "smart_router_presence_told_total": Metric(
        "counter", "Changes of presence put into the mailboxes of who wants to know"
    ),
    "smart_router_presence_lost_total": Metric("counter", "Changes of presence that such a mailbox did not take"),
    "smart_router_presence_remembered": Metric("gauge", "Actors without a session, of whom it is known since when"),
    "smart_router_ends_counts_total": Metric(
        "counter", "Messages that ended other than delivered", ("state", "reason")
    ),
    "smart_router_ends_queued": Metric("gauge", "Dead letters on their way to the store"),
    "smart_router_ends_lost_total": Metric("counter", "Bad ends counted, but not kept as dead letters"),
    "smart_router_broker_mailboxes": Metric("gauge", "Mailboxes"),
    "smart_router_broker_loaded": Metric("gauge", "Mailboxes with anything in memory"),
    "smart_router_broker_waiting": Metric("gauge", "Messages waiting in mailboxes"),
    "smart_router_broker_in_flight": Metric("gauge", "Messages given to sessions and not confirmed"),
    "smart_router_broker_bytes_in_memory": Metric("gauge", "Bytes of messages in memory"),
    "smart_router_broker_puts_total": Metric("counter", "Puts"),
    "smart_router_broker_elided_total": Metric("counter", "Journal rows never written: confirmed before their commit"),
    "smart_router_broker_written_total": Metric("counter", "Journal rows written"),
    "smart_router_broker_commits_total": Metric("counter", "Group commits"),
    "smart_router_broker_refused_total": Metric("counter", "Messages that a mailbox did not take"),
    "smart_router_broker_ended_total": Metric("counter", "Waiting messages that the broker ended"),
    "smart_router_broker_healthy": Metric("gauge", "1 while the broker takes messages"),
    "smart_router_store_dead_letters": Metric("gauge", "Dead letters kept"),
    "smart_router_store_dead_letters_dropped_total": Metric("counter", "Dead letters dropped for age or number"),
    "smart_router_store_revocations": Metric("gauge", "Revocations stored"),
    "smart_router_store_sub_endpoints": Metric("gauge", "Sub-endpoints added at run time"),
    "smart_router_store_healthy": Metric("gauge", "1 while the store works"),
    "smart_router_revocations_revocations": Metric("gauge", "Revocations in force"),
    "smart_router_revocations_refusals_total": Metric("counter", "Tokens refused because they are revoked"),
    "smart_router_installation_nodes": Metric("gauge", "Nodes of the installation, this one too"),
    "smart_router_installation_sessions": Metric(
        "gauge", "Sessions known here, of all nodes where each keeps them all"
    ),
    "smart_router_installation_moved_here_total": Metric("counter", "Sessions of other nodes taken up again here"),
    "smart_router_installation_moved_away_total": Metric("counter", "Sessions taken up again on another node"),
    "smart_router_installation_left": Metric("gauge", "Sessions that nodes which went down left for their clients"),
    "smart_router_installation_lag": Metric("gauge", "Seconds that the event loop was late at the last report"),
    "smart_router_installation_healthy": Metric("gauge", "1 while this node reaches the others"),
    "smart_router_tokens_watched": Metric("gauge", "Sessions whose token expires"),
    "smart_router_tokens_warned_total": Metric("counter", "Sessions told that their token expires"),
    "smart_router_tokens_expired_total": Metric("counter", "Sessions cut because their token expired"),
    "smart_router_listener_connections": Metric("gauge", "Open connections"),
    "smart_router_listener_websockets": Metric("gauge", "Open WebSockets"),
    "smart_router_listener_http": Metric("gauge", "Open HTTP connections"),
    "smart_router_listener_addresses": Metric("gauge", "Peer addresses that are counted"),
    "smart_router_listener_handshakes_waiting": Metric("gauge", "WebSocket handshakes waiting for their turn"),
    "smart_router_listener_read_buffers": Metric("gauge", "Bytes that WebSockets hold of unfinished messages"),
    "smart_router_listener_accepted_total": Metric("counter", "Connections accepted"),
    "smart_router_listener_connections_refused_total": Metric("counter", "Connections over a limit or while draining"),
    "smart_router_listener_half_open_closed_total": Metric(
        "counter", "Connections closed as the oldest of too many without a request"
    ),
    "smart_router_listener_heads_late_total": Metric("counter", "Request heads that took too long"),
    "smart_router_listener_bodies_late_total": Metric("counter", "Request bodies that took too long"),
    "smart_router_listener_tls_failed_total": Metric("counter", "TLS handshakes that failed"),
    "smart_router_listener_proxy_headers_bad_total": Metric(
        "counter", "Connections with a bad or missing PROXY header"
    ),
    "smart_router_listener_requests_total": Metric("counter", "HTTP requests"),
    "smart_router_listener_answers_total": Metric("counter", "HTTP answers"),
    "smart_router_listener_requests_refused_total": Metric("counter", "HTTP requests malformed or over a limit"),
    "smart_router_listener_application_errors_total": Metric("counter", "HTTP requests whose application raised"),
    "smart_router_listener_handshakes_refused_total": Metric("counter", "WebSocket handshakes refused"),
    "smart_router_listener_origins_refused_total": Metric(
        "counter", "WebSocket handshakes and pages refused for their Origin"
    ),
    "smart_router_listener_websockets_opened_total": Metric("counter", "WebSockets opened"),
    "smart_router_listener_websockets_closed_total": Metric("counter", "WebSockets closed"),
    "smart_router_listener_websockets_failed_total": Metric(
        "counter", "WebSockets ended for a broken rule or a handler that raised"
    ),
    "smart_router_listener_control_floods_total": Metric("counter", "WebSockets ended for too many control frames"),
    "smart_router_listener_buffers_closed_total": Metric(
        "counter", "WebSockets ended because the node's read buffers were full"
    ),
    "smart_router_listener_handler_errors_total": Metric("counter", "WebSocket handlers that raised"),
    "smart_router_listener_pings_total": Metric("counter", "WebSocket pings sent"),
    "smart_router_listener_pongs_total": Metric("counter", "WebSocket pongs received"),
    "smart_router_listener_writes_total": Metric("counter", "Writes to WebSockets, each of all frames of a turn"),
    "smart_router_plain_connections": Metric("gauge", "Open plain connections"),
    "smart_router_plain_opened_total": Metric("counter", "Plain connections opened"),
    "smart_router_plain_protocol_errors_total": Metric("counter", "Plain connections that broke the protocol"),
    "smart_router_plain_timed_out_total": Metric("counter", "Plain connections that answered no ping"),
    "smart_router_socketio_connections": Metric("gauge", "Open Socket.IO connections"),
    "smart_router_socketio_polling": Metric("gauge", "Of these, by long polling"),
    "smart_router_socketio_opened_total": Metric("counter", "Socket.IO connections opened"),
    "smart_router_socketio_upgrades_total": Metric("counter", "Upgrades from polling to WebSocket"),
    "smart_router_socketio_handshakes_refused_total": Metric("counter", "Handshakes refused"),
    "smart_router_socketio_requests_refused_total": Metric("counter", "Polls and posts refused"),
    "smart_router_socketio_protocol_errors_total": Metric("counter", "Connections that broke the protocol"),
    "smart_router_socketio_timed_out_total": Metric("counter", "Connections that answered no ping"),
    "smart_router_socketio_handler_errors_total": Metric("counter", "Handlers that raised"),
    "smart_router_socketio_ignored_pongs_total": Metric("counter", "Pongs that answered nothing"),
    "smart_router_socketio_sockets": Metric("gauge", "Namespaces joined"),
    "smart_router_socketio_connects_total": Metric("counter", "Namespaces connected"),
    "smart_router_socketio_connects_refused_total": Metric("counter", "Namespaces refused"),
    "smart_router_socketio_events_total": Metric("counter", "Events received"),
    "smart_router_socketio_barriers_total": Metric("counter", "Pings beyond the heartbeat"),
    "smart_router_engineio_connections": Metric("gauge", "Open Engine.IO connections"),
    "smart_router_engineio_polling": Metric("gauge", "Of these, by long polling"),
    "smart_router_engineio_opened_total": Metric("counter", "Engine.IO connections opened"),
    "smart_router_engineio_upgrades_total": Metric("counter", "Upgrades from polling to WebSocket"),
    "smart_router_engineio_handshakes_refused_total": Metric("counter", "Handshakes refused"),
    "smart_router_engineio_requests_refused_total": Metric("counter", "Polls and posts refused"),
    "smart_router_engineio_protocol_errors_total": Metric("counter", "Connections that broke the protocol"),
    "smart_router_engineio_timed_out_total": Metric("counter", "Connections that answered no ping"),
    "smart_router_engineio_handler_errors_total": Metric("counter", "Handlers that raised"),
    "smart_router_engineio_ignored_pongs_total": Metric("counter", "Pongs that answered nothing"),
    "smart_router_websocket_connections": Metric("gauge", "Open bare WebSockets"),
    "smart_router_websocket_opened_total": Metric("counter", "Bare WebSockets opened"),
    "smart_router_websocket_timed_out_total": Metric("counter", "Bare WebSockets that answered no ping"),
    "smart_router_ready": Metric("gauge", "1 when /readyz is green"),
}
"""Every metric on /metrics: `smart_router_<part>_<field of its statistics>`, counters with `_total`."""
