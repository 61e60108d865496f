// Sends the commands on stdin to a server with node-redis, one by one and then as a pipeline; writes the replies.
// stdin: {"port", "commands": [[word, ...], ...]}; stdout: {"single": [...], "pipelined": [...]}, errors as {"error"}.
"use strict";
const fs = require("fs");
const { createClient } = require("redis");

const asked = JSON.parse(fs.readFileSync(0, "utf8"));

async function connected(site) {
  const client = createClient({ url: `redis://${site}:token@127.0.0.1:${asked.port}` });
  client.on("error", (error) => { throw error; });
  await client.connect();
  return client;
}

function reply(promise) {
  return promise.catch((error) => ({ error: error.message }));
}

async function main() {
  const single = [];
  const one = await connected("node-single");
  for (const command of asked.commands) {
    single.push(await reply(one.sendCommand(command)));
  }
  await one.quit();
  // Commands that are sent in the same tick go out together.
  const other = await connected("node-pipelined");
  const pipelined = await Promise.all(asked.commands.map((command) => reply(other.sendCommand(command))));
  await other.quit();
  console.log(JSON.stringify({ single, pipelined }));
}

main();
