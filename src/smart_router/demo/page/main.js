// The page: who am I, and which part of it concerns me.
//
//   /?as=ui         a user (the default); the id is kept in this browser, ?id=… chooses another
//   /?as=livechat   a person of the live chat
//   ?name=…         what the others see; #token=… where the router asks for one (a fragment is sent to no server)

import { Chat } from "./chat.js";
import { Connection } from "./connection.js";
import { Transcript, randomText, read, write } from "./transcript.js";
import { ConnectionLine, Lines, byId, showConversations } from "./view.js";

const AGENT = "agent/456";
const PLACES = { ui: "ui/456", livechat: "livechat/acme" };
const OWN_ID = /^[A-Za-z0-9._~@:+-]{1,128}$/;

const query = new URLSearchParams(location.search);
const role = query.get("as") === "livechat" ? "livechat" : "ui";
const actor = `${PLACES[role]}/${ownId()}`;
const me = { role, actor, name: query.get("name")?.slice(0, 60) ?? "", agent: AGENT };
/** @typedef {import("./transcript.js").Conversation} Conversation */

let shown = ""; // the conversation that live chat looks at
const tab = randomText(12);
const tabs = new BroadcastChannel(`smart-router/${actor}`);
const transcript = new Transcript(actor);
const line = new ConnectionLine();
/** @type {Chat} */
const chat = new Chat(/** @type {any} */ (me), transcript, () => connection, changed);
const lines = new Lines((one) => chat.retry(one));
const connection = new Connection(address(), actor, token(), {
  state: (state) => {
    line.show(state);
    changed();
  },
  hello: () => {
    chat.repeat();
    look();
  },
  message: (type, message) => {
    chat.take(type, message);
    look();
  },
  error: (error) => {
    byId("trouble").textContent = error.message;
  },
});

/** The id in the address, or the one that this browser got the first time. */
function ownId() {
  const asked = query.get("id");
  if (asked && OWN_ID.test(asked)) return asked;
  const place = `smart-router/id/${role}`;
  const known = read(place);
  if (typeof known === "string" && OWN_ID.test(known)) return known;
  const fresh = randomText(10);
  write(place, fresh);
  return fresh;
}

function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("smart-router/token", given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return given ?? sessionStorage.getItem("smart-router/token");
}

function address() {
  const url = new URL("ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = url.hash = "";
  return url.href;
}

/** @returns {Conversation | undefined} */
function current() {
  if (role === "ui") return chat.own;
  const all = transcript.conversations;
  return all.find((one) => one.peer === shown) ?? all[0];
}

function changed() {
  const conversation = current();
  if (role === "livechat") showConversations(transcript.conversations, conversation?.peer ?? "", choose);
  if (conversation) lines.show(conversation, connection.open);
  const withPerson = Boolean(conversation?.service);
  byId("peer").textContent = peerName(conversation);
  byId("person").hidden = role !== "ui" || withPerson;
  byId("back").hidden = role === "ui" ? !withPerson : !conversation;
  /** @type {HTMLTextAreaElement} */ (byId("text")).disabled = !conversation;
  byId("storage").hidden = transcript.kept;
  const unread = transcript.conversations.reduce((sum, one) => sum + one.unread, 0);
  document.title = (unread && document.hidden ? `(${unread}) ` : "") + (role === "ui" ? "Live chat" : "Live chat: answering");
}

/** @param {Conversation | undefined} conversation */
function peerName(conversation) {
  if (!conversation) return "Nobody yet";
  if (role === "livechat") return conversation.name || conversation.peer;
  return conversation.service ? conversation.name || "A person" : "The bot";
}

/** @param {string} peer */
function choose(peer) {
  shown = peer;
  changed();
  look();
}

function look() {
  const conversation = current();
  if (conversation && !document.hidden) chat.look(conversation);
}

function send() {
  const field = /** @type {HTMLTextAreaElement} */ (byId("text"));
  const conversation = current();
  const text = field.value.trim();
  if (!text || !conversation) return;
  field.value = "";
  byId("trouble").textContent = "";
  chat.say(conversation, text);
  field.focus();
}

function takeOver() {
  transcript.load();
  tabs.postMessage(tab);
  connection.connect();
}

// One tab speaks for an actor: a newer one takes over, and this one says so.
tabs.onmessage = (/** @type {MessageEvent} */ event) => {
  if (event.data !== tab) connection.stop("This conversation goes on in another tab.");
};

document.body.dataset.role = role;
byId("me").textContent = actor;
byId("sidebar").hidden = role === "ui";
byId("back").textContent = role === "ui" ? "Back to the bot" : "Hand back to the bot";
byId("other").setAttribute("href", role === "ui" ? "?as=livechat" : "?as=ui");
byId("other").textContent = role === "ui" ? "Answer as live chat (second tab)" : "Open a user’s page";
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
byId("person").addEventListener("click", () => chat.say(chat.own, "human"));
byId("back").addEventListener("click", () => {
  const conversation = current();
  if (conversation) chat.backToBot(conversation);
});
byId("again").addEventListener("click", () => connection.connect());
byId("here").addEventListener("click", takeOver);
document.addEventListener("visibilitychange", look);
changed();
takeOver();
