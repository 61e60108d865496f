// Talks to a server with node-redis: argv PORT SITE VERSION. Each line of stdin, {"way", "commands": [[word, ...], ...]},
// is answered by a line of replies, errors as {"error"}.
"use strict";
const readline = require("readline");
const { createClient } = require("redis");

const [port, site, version] = process.argv.slice(2);

function reply(promise) {
  return promise.catch((error) => ({ error: error.message }));
}

const ways = {
  async single(client, commands) {
    const replies = [];
    for (const command of commands) {
      replies.push(await reply(client.sendCommand(command)));
    }
    return replies;
  },
  // Commands that are sent in the same tick go out together.
  pipelined: (client, commands) => Promise.all(commands.map((command) => reply(client.sendCommand(command)))),
  transaction: (client, commands) =>
    commands.reduce((multi, command) => multi.addCommand(command), client.multi()).exec(),
};

async function main() {
  const client = createClient({ url: `redis://${site}:token@127.0.0.1:${port}`, RESP: Number(version) });
  client.on("error", () => {}); // it connects again by itself
  await client.connect();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { way, commands } = JSON.parse(line);
    console.log(JSON.stringify(await ways[way](client, commands)));
  }
  await client.quit();
}

main();
