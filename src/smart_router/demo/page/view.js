// What is seen. Everything that others wrote becomes text nodes: no markup is ever made of it.

/** @typedef {import("./transcript.js").Line} Line @typedef {import("./transcript.js").Conversation} Conversation */
/** @typedef {import("./connection.js").State} State */

/** @type {Record<import("./transcript.js").LineState, string>} */
const STATES = {
  sending: "Sending…",
  kept: "Kept by the router",
  read: "Read",
  failed: "Not sent",
};
const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** An element with attributes and children; strings become text nodes.
 * @param {string} name @param {Record<string, string>} attributes @param {(Node | string)[]} children */
export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** @template {HTMLElement} T @param {string} id @returns {T} */
export function byId(id) {
  return /** @type {T} */ (document.getElementById(id));
}

/** The lines of one conversation. Those that stay keep their elements, so that nothing is announced twice. */
export class Lines {
  #list = byId("lines");
  /** @type {Conversation | null} */
  #shown = null;
  /** @type {Map<string, {element: HTMLElement, shown: string}>} */
  #elements = new Map();
  #retry;

  /** @param {(line: Line) => void} retry */
  constructor(retry) {
    this.#retry = retry;
  }

  /** @param {Conversation} conversation @param {boolean} open whether there is a connection */
  show(conversation, open) {
    if (conversation !== this.#shown) {
      this.#shown = conversation;
      this.#elements.clear();
      this.#list.replaceChildren();
    }
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 80;
    let grew = false;
    for (const line of conversation.lines) grew = this.#line(line, open) || grew;
    this.#forget(conversation);
    if (grew && (atEnd || conversation.lines.at(-1)?.mine)) this.#list.scrollTop = this.#list.scrollHeight;
    byId("empty").hidden = conversation.lines.length > 0;
  }

  /** @param {Line} line @param {boolean} open */
  #line(line, open) {
    const shown = `${line.state ?? ""} ${line.error ?? ""} ${line.state === "sending" && open}`;
    const known = this.#elements.get(line.key);
    if (known?.shown === shown) return false;
    if (known) {
      known.shown = shown;
      known.element.dataset.state = line.state ?? "";
      known.element.querySelector(".meta")?.replaceWith(this.#meta(line, open));
      return false;
    }
    const kind = (line.notice ? "notice " : "") + (line.mine ? "mine" : "theirs");
    const item = element("li", { class: kind }, element("p", { class: "text" }, line.text), this.#meta(line, open));
    item.dataset.state = line.state ?? "";
    this.#elements.set(line.key, { element: item, shown });
    this.#list.append(item);
    return true;
  }

  /** @param {Line} line @param {boolean} open */
  #meta(line, open) {
    const at = new Date(line.at);
    const meta = element("p", { class: "meta" }, element("time", { datetime: at.toISOString() }, TIME.format(at)));
    if (line.state) {
      const text = line.state === "sending" && !open ? "Waiting for the connection…" : STATES[line.state];
      meta.append(element("span", { class: "state" }, text));
    }
    if (line.state === "failed") {
      const retry = element("button", { type: "button", class: "quiet" }, "Try again");
      retry.addEventListener("click", () => this.#retry(line));
      meta.append(element("span", { class: "reason" }, line.error ?? ""), retry);
    }
    return meta;
  }

  /** @param {Conversation} conversation */
  #forget(conversation) {
    if (this.#elements.size === conversation.lines.length) return;
    const present = new Set(conversation.lines.map((line) => line.key));
    for (const [key, { element: gone }] of this.#elements) {
      if (present.has(key)) continue;
      gone.remove();
      this.#elements.delete(key);
    }
  }
}

/** Who waits for the person of the live chat. @param {Conversation[]} conversations @param {string} chosen
 * @param {(peer: string) => void} choose */
export function showConversations(conversations, chosen, choose) {
  const list = byId("conversations");
  const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.peer : undefined;
  const items = conversations.map((conversation) => {
    const { peer, name, unread } = conversation;
    const title = element("span", { class: "name" }, name || peer);
    const last = conversation.lines.at(-1)?.text ?? "";
    const button = element("button", { type: "button" }, title, element("span", { class: "last" }, last));
    button.dataset.peer = peer;
    if (unread) button.append(element("span", { class: "unread" }, `${unread} new`));
    if (peer === chosen) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => choose(peer));
    return element("li", {}, button);
  });
  list.replaceChildren(...items);
  const again = [...list.querySelectorAll("button")].find((button) => focused && button.dataset.peer === focused);
  again?.focus();
  byId("nobody").hidden = conversations.length > 0;
}

/** The line on top that says how the connection is. */
export class ConnectionLine {
  #timer = 0;

  /** @param {State} state */
  show(state) {
    clearInterval(this.#timer);
    document.body.dataset.connection = state.kind;
    byId("again").hidden = state.kind !== "waiting";
    byId("here").hidden = state.kind !== "stopped";
    if (state.kind === "waiting") {
      this.#count(state.until);
      this.#timer = window.setInterval(() => this.#count(state.until), 250);
    } else {
      this.#say(state.kind === "open" ? "Connected" : state.kind === "connecting" ? "Connecting…" : state.text);
    }
  }

  /** @param {number} until */
  #count(until) {
    const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1_000));
    this.#say(`No connection. Trying again in ${seconds} s`);
  }

  /** @param {string} text */
  #say(text) {
    const place = byId("connection");
    if (place.textContent !== text) place.textContent = text;
  }
}
