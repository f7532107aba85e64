// Prints what @asyncapi/parser thinks of the documents that standard input names, as JSON: {path: [messages]}.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const found = {};
for (const path of JSON.parse(readFileSync(0, "utf8"))) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(path, "utf8"));
  const messages = diagnostics.map((one) => `${one.code} at ${one.path.join("/")}: ${one.message}`);
  found[path] = document || messages.length ? messages : ["no document"];
}
console.log(JSON.stringify(found));
