// What socket.io-parser makes of packets. Each line in: a JSON array of [text, [base64 of each binary frame]].
// Each line out: a JSON array, per packet null (refused, or not complete) or {type, nsp, id, data}, where data is JSON text in
// which a binary value reads {"$binary": base64} and an infinite number null.
"use strict";

const readline = require("node:readline");
const { Decoder } = require("socket.io-parser");

function withBinary(value) {
  if (Buffer.isBuffer(value)) return { $binary: value.toString("base64") };
  if (Array.isArray(value)) return value.map(withBinary);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withBinary(inner)]));
}

function describe(packet) {
  const data = packet.data === undefined ? null : JSON.stringify(withBinary(packet.data));
  return { type: packet.type, nsp: packet.nsp, id: packet.id ?? null, data };
}

function read(text, frames) {
  const decoder = new Decoder();
  const decoded = [];
  decoder.on("decoded", (packet) => decoded.push(packet));
  try {
    decoder.add(text);
    for (const frame of frames) decoder.add(Buffer.from(frame, "base64"));
    return decoded.length === 1 ? describe(decoded[0]) : null;
  } catch {
    return null;
  }
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const answers = JSON.parse(line).map(([text, frames]) => read(text, frames));
  process.stdout.write(JSON.stringify(answers) + "\n");
});
