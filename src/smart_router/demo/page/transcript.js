// What was said, kept in this browser: a reload, a crash or a restart of the router loses no line and doubles none.

/**
 * @typedef {"sending" | "kept" | "read" | "failed"} LineState
 *   sending: not answered yet, repeated with the same key until it is; kept: safe in the recipients' mailboxes;
 *   read: the other side says so; failed: refused, `error` says why
 * @typedef {{
 *   key: string, mine: boolean, text: string, at: number, notice?: boolean,
 *   state?: LineState, error?: string, type?: string, message?: object
 * }} Line   `key`: our own options.id, or what tells a received message from every other
 * @typedef {{
 *   peer: string, name: string, service: string, ids: Record<string, string>, unread: number,
 *   last: string, told: string, lines: Line[]
 * }} Conversation   `last`: options.id of the last message received; `told`: up to where the other side knows we read
 */

const MAX_LINES = 500; // of a conversation; far more than the router delivers before it wants a confirmation
const MAX_CONVERSATIONS = 20;

export class Transcript {
  #place;
  /** @type {Map<string, Conversation>} */
  #conversations = new Map();
  /** False when the browser does not keep what we give it; then a reload forgets. */
  kept = true;

  /** @param {string} actor */
  constructor(actor) {
    this.#place = `smart-router/${actor}`;
    this.load();
  }

  /** Takes over what another tab has written. */
  load() {
    const found = read(this.#place);
    this.#conversations = new Map(Array.isArray(found) ? found.map((one) => [one.peer, one]) : []);
  }

  /** Newest last. */
  get conversations() {
    return [...this.#conversations.values()];
  }

  /** The conversation with that actor; a new one if there was none. @param {string} peer @returns {Conversation} */
  with(peer) {
    const known = this.#conversations.get(peer);
    if (known) return known;
    const fresh = { peer, name: "", service: "", ids: {}, unread: 0, last: "", told: "", lines: [] };
    this.#conversations.set(peer, fresh);
    while (this.#conversations.size > MAX_CONVERSATIONS) {
      this.#conversations.delete(this.#conversations.keys().next().value ?? "");
    }
    return fresh;
  }

  /** False if the line was there already. @param {Conversation} conversation @param {Line} line */
  add(conversation, line) {
    if (conversation.lines.some((one) => one.key === line.key)) return false;
    conversation.lines.push(line);
    if (conversation.lines.length > MAX_LINES) {
      const oldest = conversation.lines.findIndex((one) => one.state !== "sending"); // that one is still needed
      if (oldest >= 0) conversation.lines.splice(oldest, 1);
    }
    return true;
  }

  /** Every line that has no answer yet, in the order in which they were written. */
  get unanswered() {
    const lines = this.conversations.flatMap((one) => one.lines.filter((line) => line.state === "sending"));
    return lines.sort((one, other) => one.at - other.at);
  }

  /** Writes it down; nothing is confirmed to the router before. */
  save() {
    this.kept = write(this.#place, this.conversations);
  }
}

/** The other side has read our line `key`, and so all before it. @param {Conversation} conversation @param {string} key */
export function markRead(conversation, key) {
  const upto = conversation.lines.findIndex((line) => line.mine && line.key === key);
  for (const line of conversation.lines.slice(0, upto + 1)) {
    if (line.mine && (line.state === "kept" || line.key === key)) settle(line, "read");
  }
}

/** @param {Line} line @param {LineState} state @param {string} [error] */
export function settle(line, state, error) {
  if (line.state === "read") return;
  line.state = state;
  line.error = error;
  if (state !== "failed") delete line.message; // nothing is left to repeat
}

/** Equal for repeats of one message (docs/plain-protocol.md, Coming back). @param {string} type @param {any} message */
export function keyOf(type, message) {
  const own = message.options?.id;
  const [id, suffix = ""] = String(message.id).split(".");
  return own ? `${message.from} ${own} ${type} ${suffix}` : `${id} ${type} ${suffix}`;
}

/** Random text for ids. @param {number} length */
export function randomText(length) {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte & 31]).join("");
}

/** @param {string} place @returns {any} */
export function read(place) {
  try {
    return JSON.parse(localStorage.getItem(place) ?? "null");
  } catch {
    return null; // storage is switched off, or holds something that is not ours
  }
}

/** @param {string} place @param {unknown} value */
export function write(place, value) {
  try {
    localStorage.setItem(place, JSON.stringify(value));
    return true;
  } catch {
    return false; // switched off, or full
  }
}
