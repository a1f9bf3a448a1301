// The conversation itself: what a message of each type means to the page, and what the page sends.
//
//   as ui         talk ─► the bot (ids.agent), or the person who has taken over (ids.service, metadata.service)
//   as livechat   talkback ─► the user (ids.ui)
//
// payload: {text?, name?, re?: options.id of what was read, handover?: an address, or "" for back to the bot, left?}

import { keyOf, markRead, randomText, settle } from "./transcript.js";

/** @typedef {import("./transcript.js").Line} Line @typedef {import("./transcript.js").Conversation} Conversation */
/** @typedef {import("./connection.js").Answer} Answer */

const LIVECHAT = /^livechat\/[A-Za-z0-9._~@:+-]{1,128}$/;

export class Chat {
  #me;
  #transcript;
  #connection;
  #changed;
  #telling = ""; // the notice that is on its way

  /**
   * @param {{role: "ui" | "livechat", actor: string, name: string, agent: string}} me
   * @param {import("./transcript.js").Transcript} transcript
   * @param {() => import("./connection.js").Connection} connection
   * @param {() => void} changed called after every change
   */
  constructor(me, transcript, connection, changed) {
    this.#me = me;
    this.#transcript = transcript;
    this.#connection = connection;
    this.#changed = changed;
  }

  /** The user's one conversation, whoever is at the other end. */
  get own() {
    return this.#transcript.with(this.#me.agent);
  }

  /** @param {Conversation} conversation @param {string} text */
  say(conversation, text) {
    this.#post(conversation, { text }, { text });
  }

  /** Live chat is done with it, or the user is. @param {Conversation} conversation */
  backToBot(conversation) {
    if (this.#me.role === "livechat") {
      this.#post(conversation, { handover: "" }, { text: "You handed the conversation back to the bot.", notice: true });
    } else {
      this.#post(conversation, { left: true }, { text: "You went back to the bot.", notice: true });
      conversation.service = "";
      this.#save();
    }
  }

  /** Sends a refused line again, as the same message. @param {Line} line */
  retry(line) {
    line.state = "sending";
    line.error = undefined;
    this.#save();
    this.#send(line);
  }

  /** After each hello: all that has no answer, in its order and with its own keys, so that nothing is lost or doubled. */
  repeat() {
    this.#telling = "";
    for (const line of this.#transcript.unanswered) this.#send(line);
  }

  /** The person looks at the conversation: the other side may know. @param {Conversation} conversation */
  look(conversation) {
    if (conversation.unread) {
      conversation.unread = 0;
      this.#save();
    }
    const { last } = conversation;
    const withPerson = this.#me.role === "livechat" || conversation.service;
    const known = last === conversation.told || last === this.#telling;
    if (!last || known || !withPerson || !this.#connection().open) return;
    const { type, message } = this.#message(conversation, { re: last }, randomText(24));
    this.#telling = last;
    this.#connection().send(type, message, (answer) => {
      if (!answer.error) conversation.told = last;
      this.#transcript.save();
    });
  }

  /** A message for us; it is written down when this returns. @param {string} type @param {any} message */
  take(type, message) {
    const payload = message.payload && typeof message.payload === "object" ? message.payload : {};
    if (type === "sessionrequest") {
      this.#request(message, payload);
    } else if (type === "talk" || type === "talkback") {
      const conversation = this.#me.role === "ui" ? this.own : this.#transcript.with(String(message.from));
      this.#receive(conversation, type, message, payload);
    }
    this.#save();
  }

  /** The bot asks for a person. @param {any} message @param {any} payload */
  #request(message, payload) {
    if (typeof message.ids?.ui !== "string") return;
    const conversation = this.#transcript.with(message.ids.ui);
    conversation.ids = addresses(message.ids);
    const text = `${asText(payload.name) || "Somebody"} asks for a person.`;
    this.#note(conversation, keyOf("sessionrequest", message), text, message.at);
  }

  /** @param {Conversation} conversation @param {string} type @param {any} message @param {any} payload */
  #receive(conversation, type, message, payload) {
    const key = keyOf(type, message);
    if (this.#me.role === "livechat") conversation.ids = addresses(message.ids);
    if (typeof payload.re === "string") markRead(conversation, payload.re);
    const name = asText(payload.name);
    if (name && this.#me.role === "livechat") conversation.name = name;
    const text = asText(payload.text);
    if (text && this.#transcript.add(conversation, { key, mine: false, text, at: message.at })) {
      conversation.last = asText(message.options?.id);
      conversation.unread += 1;
      if (name) conversation.name = name;
    }
    if (payload.left === true) this.#note(conversation, `${key} left`, "The user went back to the bot.", message.at);
    if (this.#me.role === "ui" && typeof payload.handover === "string") {
      this.#handOver(conversation, `${key} handover`, String(message.from), payload.handover, message.at);
    }
  }

  /** @param {Conversation} conversation @param {string} key @param {string} from @param {string} to @param {number} at */
  #handOver(conversation, key, from, to, at) {
    if (to !== "" && !(from.startsWith("agent/") && LIVECHAT.test(to))) return;
    const provider = to.slice("livechat/".length);
    const text = to ? `A person at ${provider} has been asked to join.` : "You are talking to the bot again.";
    if (!this.#note(conversation, key, text, at)) return;
    conversation.service = to;
    conversation.name = "";
  }

  /** @param {Conversation} conversation @param {string} key @param {string} text @param {number} at */
  #note(conversation, key, text, at) {
    return this.#transcript.add(conversation, { key, mine: false, notice: true, text, at });
  }

  /** @param {Conversation} conversation @param {object} payload @param {{text: string, notice?: boolean}} shown */
  #post(conversation, payload, shown) {
    const key = randomText(24);
    /** @type {Line} */
    const line = { key, mine: true, at: Date.now(), state: "sending", ...shown };
    Object.assign(line, this.#message(conversation, payload, key));
    this.#transcript.add(conversation, line);
    this.#save();
    this.#send(line);
  }

  /** @param {Conversation} conversation @param {object} payload @param {string} key */
  #message(conversation, payload, key) {
    const { role, actor, name, agent } = this.#me;
    const named = { ...(name ? { name } : {}), ...payload };
    const options = { id: key };
    if (role === "livechat") {
      const ids = { ...conversation.ids, ui: conversation.peer };
      return { type: "talkback", message: { ids, payload: named, options } };
    }
    /** @type {Record<string, string>} */
    const ids = { ui: actor, agent };
    if (!conversation.service) return { type: "talk", message: { ids, payload: named, options } };
    ids.service = conversation.service;
    return { type: "talk", message: { ids, metadata: { service: true }, payload: named, options } };
  }

  /** @param {Line} line */
  #send(line) {
    if (line.type && line.message) {
      this.#connection().send(line.type, line.message, (answer) => this.#answered(line, answer));
    }
  }

  /** @param {Line} line @param {Answer} answer */
  #answered(line, answer) {
    if (!answer.error) settle(line, "kept");
    else if (answer.error.code !== "shutting_down") settle(line, "failed", answer.error.message);
    this.#save(); // while the router goes down the line stays as it is: it is repeated at the next hello
  }

  #save() {
    this.#transcript.save();
    this.#changed();
  }
}

/** @param {unknown} value */
function asText(value) {
  return typeof value === "string" ? value : "";
}

/** @param {unknown} ids @returns {Record<string, string>} */
function addresses(ids) {
  const entries = Object.entries(ids && typeof ids === "object" ? ids : {});
  return Object.fromEntries(entries.filter(([, address]) => typeof address === "string"));
}
