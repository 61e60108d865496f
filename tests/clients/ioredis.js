// Talks to a server with ioredis: argv PORT SITE VERSION. Each line of stdin, {"way", "commands": [[word, ...], ...]},
// is answered by a line of replies, errors as {"error"}.
"use strict";
const readline = require("readline");
const { Redis } = require("ioredis");

const [port, site] = process.argv.slice(2);

function reply(promise) {
  return promise.catch((error) => ({ error: error.message }));
}

function results(pairs) {
  return pairs.map(([error, result]) => (error ? { error: error.message } : result));
}

function filled(pipeline, commands) {
  return commands.reduce((filling, command) => filling.call(...command), pipeline);
}

const ways = {
  async single(client, commands) {
    const replies = [];
    for (const command of commands) {
      replies.push(await reply(client.call(...command)));
    }
    return replies;
  },
  pipelined: async (client, commands) => results(await filled(client.pipeline(), commands).exec()),
  transaction: async (client, commands) => results(await filled(client.multi(), commands).exec()),
};

async function main() {
  const client = new Redis({ port: Number(port), username: site, password: "token" });
  client.on("error", () => {}); // it connects again by itself
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { way, commands } = JSON.parse(line);
    console.log(JSON.stringify(await ways[way](client, commands)));
  }
  await client.quit();
}

main();
