// Many actors in one process, on the real Socket.IO client. Argument: the package. Each line in is a command, a JSON array
// [command, actor, …]; each line out is an event of one actor, a JSON object {"actor", "event", …}.
// Binary values travel between this program and the test as {"$bytes": base64}.
"use strict";

const readline = require("node:readline");

const { Manager } = require(process.argv[2]);
const actors = new Map();

function say(actor, event, rest) {
  process.stdout.write(JSON.stringify({ actor, event, ...rest }, outgoing) + "\n");
}

// JSON.stringify hands over what Buffer's own toJSON has made of it.
function outgoing(_key, value) {
  return value?.type === "Buffer" && Array.isArray(value.data) ? { $bytes: Buffer.from(value.data).toString("base64") } : value;
}

function incoming(_key, value) {
  return typeof value?.$bytes === "string" ? Buffer.from(value.$bytes, "base64") : value;
}

const commands = {
  // A manager, so a connection, of its own for each actor.
  connect(name, url, namespace, options, auth) {
    const manager = new Manager(url, { reconnectionDelay: 50, reconnectionDelayMax: 500, autoConnect: false, ...options });
    const socket = manager.socket(namespace, { auth, retries: options.retries, ackTimeout: options.ackTimeout });
    const actor = { manager, socket, answer: undefined };
    actors.set(name, actor);
    socket.on("connect", () =>
      say(name, "connect", { recovered: socket.recovered ?? null, sid: socket.id, transport: manager.engine.transport.name }),
    );
    manager.on("reconnect", () => say(name, "reconnect"));
    socket.on("connect_error", (error) => say(name, "connect_error", { message: error.message, data: error.data ?? null }));
    socket.on("disconnect", (reason) => say(name, "disconnect", { reason }));
    socket.onAny((type, ...args) => {
      const asked = typeof args.at(-1) === "function" ? args.pop() : undefined;
      say(name, "event", { type, args, asked: asked !== undefined });
      if (asked && actor.answer !== undefined) asked(actor.answer);
    });
    socket.connect();
  },
  emit(name, ...values) {
    actors.get(name).socket.emit(...values);
  },
  // The answer comes as an event with the number that was given here.
  ask(name, number, ...values) {
    actors.get(name).socket.emit(...values, (...args) => say(name, "answer", { number, args }));
  },
  // What every delivery that asks is answered from now on; none: no answer.
  answer(name, value) {
    actors.get(name).answer = value;
  },
  auth(name, value) {
    actors.get(name).socket.auth = value;
  },
  // The connection ends under the client, as a network does it; the client comes back by itself.
  cut(name) {
    const transport = actors.get(name).manager.engine.transport;
    if (transport.name === "websocket") transport.ws.terminate();
    else transport.onError("cut");
  },
  upgraded(name) {
    const { engine } = actors.get(name).manager;
    const tell = () => say(name, "upgraded", { transport: engine.transport.name });
    if (engine.transport.name === "websocket") tell();
    else engine.once("upgrade", () => setImmediate(tell));
  },
  close(name) {
    actors.get(name).manager.reconnection(false);
    actors.get(name).socket.disconnect();
    actors.delete(name);
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [command, ...values] = JSON.parse(line, incoming);
    commands[command](...values);
  })
  .on("close", () => process.exit(0));
