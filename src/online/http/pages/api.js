// The API, described: shows openapi.json.

import {byId, make} from "./dom.js";
import {ask} from "./source.js";

function described(path, method, operation) {
  const example = (operation.parameters ?? []).filter((each) => each.example !== undefined)
    .map((each) => `${each.name}=${encodeURIComponent([each.example].flat()[0])}`).join("&");
  const relative = `${path.slice(1)}${example && "?"}${example}`;
  const parts = [make("h3", {}, `${method.toUpperCase()} ${path}`), make("p", {}, operation.summary)];
  const list = make("dl");
  for (const each of operation.parameters ?? []) {
    const kind = each.schema.type === "array" ? `${each.schema.items.type}, may be repeated` : each.schema.type;
    const need = each.required ? ", required" : "";
    list.append(make("dt", {}, each.name), make("dd", {}, `${each.description} (${kind}${need})`));
  }
  parts.push(list);
  if (method === "get") parts.push(make("p", {}, "Try: ", make("a", {href: relative}, relative)));
  else {
    const body = path.endsWith("hits") ? '{"hits": [{"user": "ada", "url": "/welcome"}]}' : '{"user": "ada"}';
    const command = `curl -H 'Content-Type: application/json' -d '${body}' ${new URL(relative, document.baseURI)}`;
    parts.push(make("pre", {tabindex: "0"}, command));
  }
  return make("article", {class: "card"}, ...parts);
}

try {
  const {paths} = await ask("openapi.json");
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) byId("paths").append(described(path, method, operation));
  }
} catch (error) {
  byId("paths").append(make("p", {class: "bad"}, `It cannot be shown: ${error.message}.`));
}
