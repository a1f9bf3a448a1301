// One actor's connection over the plain protocol (docs/plain-protocol.md): identify, send, receive, confirm, come back.
//
//   connecting ──hello──► open ──cut──► waiting ──► connecting …        stopped: coming back makes no sense
//
// What is sent and not answered is the caller's to repeat: `hello` tells it when.

/**
 * @typedef {{kind: "connecting"} | {kind: "open", recovered: boolean} | {kind: "waiting", until: number}
 *   | {kind: "stopped", text: string}} State   `until`: performance.now() of the next attempt
 * @typedef {{code: string, message: string, temporary: boolean}} RouterError
 * @typedef {{id?: string, status?: string, error?: RouterError}} Answer
 * @typedef {{
 *   state: (state: State) => void,
 *   hello: () => void,
 *   message: (type: string, message: any) => void,
 *   error: (error: RouterError) => void,
 * }} Listener   `message` has kept the message when it returns: it is confirmed then
 */

const SUBPROTOCOL = "smart-router.v1";
const FIRST_DELAY = 500; // ms, doubled after each failure
const MAX_DELAY = 10_000;
const QUIET = 20_000; // without a frame for so long, ask whether anybody is there
const NO_ANSWER = 10_000;

/** Why a close code makes coming back senseless; every other code means: come back. @type {Record<number, string>} */
const FINAL = {
  1002: "The router and this page do not understand each other. Reload the page.",
  1003: "The router and this page do not understand each other. Reload the page.",
  1007: "The router and this page do not understand each other. Reload the page.",
  4401: "The router asks for a valid token: add #token=… to the address and reload.",
  4403: "The router does not let you in.",
};

export class Connection {
  #url;
  #actor;
  #token;
  #listener;
  /** @type {WebSocket | null} */
  #socket = null;
  #open = false;
  #ack = "received";
  /** @type {string | undefined} */
  #pid;
  /** @type {string | undefined} */
  #offset;
  #ref = 0;
  /** @type {Map<number, (answer: Answer) => void>} */
  #waiting = new Map();
  #upto = 0;
  #acking = false;
  #failures = 0;
  #retry = 0;
  #refusal = "";
  #heard = 0;
  #asked = 0;

  /** @param {string} url @param {string} actor @param {string | null} token @param {Listener} listener */
  constructor(url, actor, token, listener) {
    this.#url = url;
    this.#actor = actor;
    this.#token = token;
    this.#listener = listener;
    setInterval(() => this.#watch(), 2_000);
    addEventListener("online", () => this.connect());
  }

  get open() {
    return this.#open;
  }

  /** Connects now, unless it is connected or about to be. */
  connect() {
    if (this.#socket !== null) return;
    clearTimeout(this.#retry);
    this.#listener.state({ kind: "connecting" });
    const socket = new WebSocket(this.#url, SUBPROTOCOL);
    this.#socket = socket;
    this.#heard = performance.now();
    this.#asked = 0;
    socket.onopen = () => this.#identify();
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.#closed(event.code, event.reason);
  }

  /** Ends it and stays away. @param {string} text */
  stop(text) {
    clearTimeout(this.#retry);
    const socket = this.#drop();
    socket?.close(1000);
    this.#listener.state({ kind: "stopped", text });
  }

  /**
   * Sends, if it is open. The answer never comes if the connection is cut before it.
   * @param {string} type @param {object} message @param {(answer: Answer) => void} answered
   */
  send(type, message, answered) {
    if (!this.#open) return;
    this.#ref += 1;
    this.#waiting.set(this.#ref, answered);
    this.#write({ op: "send", ref: this.#ref, type, message });
  }

  #identify() {
    /** @type {Record<string, unknown>} */
    const frame = { op: "identify", actor: this.#actor, acks: true };
    if (this.#token) frame.token = this.#token;
    if (this.#pid) frame.resume = this.#offset ? { pid: this.#pid, offset: this.#offset } : { pid: this.#pid };
    this.#write(frame);
  }

  /** @param {any} frame */
  #receive(frame) {
    this.#heard = performance.now();
    this.#asked = 0;
    switch (frame.op) {
      case "hello":
        this.#hello(frame);
        break;
      case "deliver":
        this.#deliver(frame);
        break;
      case "answer": {
        const answered = this.#waiting.get(frame.ref);
        this.#waiting.delete(frame.ref);
        answered?.(frame.answer);
        break;
      }
      case "error":
        this.#refusal = frame.message;
        this.#listener.error(frame);
        break;
      // whoareyou: identify is on its way; pong: heard, that was all; others: of a later version
    }
  }

  /** @param {any} frame */
  #hello(frame) {
    this.#open = true;
    this.#ack = frame.ack;
    if (!frame.recovered) this.#offset = undefined;
    this.#pid = frame.pid;
    this.#failures = 0;
    this.#refusal = "";
    this.#listener.state({ kind: "open", recovered: frame.recovered === true });
    this.#listener.hello();
  }

  /** @param {any} frame */
  #deliver(frame) {
    this.#listener.message(frame.type, frame.message);
    this.#offset = frame.offset ?? this.#offset;
    if (frame.ack) {
      this.#write({ op: "ack", n: frame.n });
    } else if (this.#ack === "received") {
      this.#upto = frame.n;
      if (!this.#acking) {
        this.#acking = true; // one confirmation for all that one turn of the browser brings
        setTimeout(() => this.#confirm(), 0);
      }
    }
  }

  #confirm() {
    this.#acking = false;
    if (this.#open && this.#upto > 0) this.#write({ op: "ack", upto: this.#upto });
  }

  /** @param {object} frame */
  #write(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  /** A dead network sends no close: after a silence somebody must ask. The browser answers the router's pings by itself. */
  #watch() {
    const now = performance.now();
    if (this.#socket === null) return;
    if (this.#asked ? now - this.#asked > NO_ANSWER : !this.#open && now - this.#heard > NO_ANSWER) {
      const socket = this.#socket;
      this.#closed(1006, "");
      socket.close();
    } else if (this.#open && !this.#asked && now - this.#heard > (this.#waiting.size ? NO_ANSWER : QUIET)) {
      this.#asked = now;
      this.#write({ op: "ping" });
    }
  }

  #drop() {
    const socket = this.#socket;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    this.#socket = null;
    this.#open = false;
    this.#upto = 0;
    this.#waiting.clear();
    return socket;
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    this.#drop();
    const final = FINAL[code];
    if (final) {
      this.#listener.state({ kind: "stopped", text: this.#refusal ? `${final} It says: ${this.#refusal}` : final });
      return;
    }
    const delay = code === 1012 ? restartDelay(reason) : Math.min(MAX_DELAY, FIRST_DELAY * 2 ** this.#failures);
    const spread = delay * (0.75 + Math.random() / 2);
    this.#failures += 1;
    this.#retry = window.setTimeout(() => this.connect(), spread);
    this.#listener.state({ kind: "waiting", until: performance.now() + spread });
  }
}

/** Milliseconds that a restarting router asks us to stay away. @param {string} reason */
function restartDelay(reason) {
  try {
    const seconds = Number(JSON.parse(reason).delay);
    return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 3_600) * 1_000 : FIRST_DELAY;
  } catch {
    return FIRST_DELAY;
  }
}
