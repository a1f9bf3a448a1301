// node user.cjs [URL]: asks the desk over Socket.IO, says what is answered
const { io } = require("socket.io-client");

const socket = io(`${process.argv[2] ?? "http://127.0.0.1:8080"}/user`, { auth: { actor: "user/ada" } });
socket.on("answer", (message, ...rest) => console.log(`${message.from}: ${message.payload.text}`));
socket.on("error", (error) => console.error(error.message));
socket.emit("ask", { ids: {}, payload: { text: "Where is my parcel?" } }, (reply) => console.log("the router says", reply.status));
