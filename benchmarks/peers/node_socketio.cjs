// node socket.io 4: what arrives for an actor is emitted to the actor's room. Argument: port.
const http = require("http").createServer();
const { Server } = require("socket.io");

const ui = new Server(http, { transports: ["websocket"] }).of("/ui");

ui.on("connection", (socket) => {
  socket.join(socket.handshake.auth.actor);
  socket.on("echo", (message, acknowledge) => {
    ui.to(message.ids.default).emit("echo", message);
    if (acknowledge) acknowledge({ status: "queued" });
  });
  socket.emit("hello", {});
});

http.listen(Number(process.argv[2]), "127.0.0.1");
