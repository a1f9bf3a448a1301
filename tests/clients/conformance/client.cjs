// One real client against the conformance app. Arguments: package, url, transports (commas). Each line in is a command, a
// JSON array; each line out is an event, a JSON array that begins with its name.
"use strict";

const readline = require("node:readline");

const [name, url, transports] = process.argv.slice(2);
const { io, Manager } = require(name);
const manager = new Manager(url, {
  transports: transports.split(","),
  reconnectionDelay: 50,
  reconnectionDelayMax: 50,
  randomizationFactor: 0,
  autoConnect: false,
});
const sockets = new Map();

function say(...values) {
  process.stdout.write(JSON.stringify(values.map((value) => (Buffer.isBuffer(value) ? { bytes: [...value] } : value))) + "\n");
}

const commands = {
  join(namespace, auth) {
    const socket = manager.socket(namespace, { auth });
    sockets.set(namespace, socket);
    socket.on("connect", () => say("connect", namespace, socket.id));
    socket.on("connect_error", (error) => say("connect_error", namespace, error.message, error.data ?? null));
    socket.on("disconnect", (reason) => say("disconnect", namespace, reason));
    socket.on("auth", (payload) => say("auth", namespace, payload));
    socket.on("message-back", (...values) => say("message-back", namespace, ...values));
    socket.connect();
  },
  emit(namespace, ...values) {
    sockets.get(namespace).emit("message", ...values);
  },
  binary(namespace, ...bytes) {
    sockets.get(namespace).emit("message", Buffer.from(bytes));
  },
  ask(namespace, ...values) {
    sockets.get(namespace).emit("message-with-ack", ...values, (...answer) => say("answer", namespace, ...answer));
  },
  // So many messages, five every two milliseconds, whatever the transport does meanwhile.
  burst(namespace, count) {
    let sent = 0;
    const timer = setInterval(() => {
      for (let i = 0; i < 5 && sent < count; i += 1, sent += 1) sockets.get(namespace).emit("message", sent);
      if (sent >= count) clearInterval(timer);
    }, 2);
  },
  // Cuts the link under the client, as a network does.
  cut() {
    const engine = manager.engine;
    if (engine.transport.name === "websocket") engine.transport.ws.terminate?.() ?? engine.transport.ws.close();
    else engine.transport.onError("cut");
  },
  transport() {
    say("transport", manager.engine.transport.name);
  },
  leave(namespace) {
    sockets.get(namespace).disconnect();
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [command, ...values] = JSON.parse(line);
  commands[command](...values);
});
say("ready");
