// Exchanges with a forge beside GitHub's own description of its API: `node contract.mjs NODE_MODULES`, with a JSON array of exchanges on
// standard input, and on standard output for each of them what was asked, and what is wrong with the question and with the answer.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules] = process.argv.slice(2);
const require = createRequire(join(modules, "of-these.js"));
const { getHttpOperationsFromSpec } = require("@stoplight/prism-http");
const { validateInput, validateOutput } = require("@stoplight/prism-http/dist/validator");
const description = require("@octokit/openapi/generated/api.github.com.json");
const exchanges = JSON.parse(readFileSync(0, "utf8"));

// Only what is asked for is looked at: the whole takes a minute. A path of a file has slashes, which no other parameter has.
const pattern = (template) =>
  new RegExp(`^${template.replaceAll(/[.]/g, "\\.").replace("{path}", "(.+)").replaceAll(/\{[^}]+\}/g, "([^/]+)")}$`);
const templates = Object.keys(description.paths).map((template) => ({ template, pattern: pattern(template) }));
// Words before parameters: `/repos/{owner}/{repo}/pulls/comments` is no number of a pull request.
const parameters = (template) => template.split("{").length;
templates.sort((one, other) => parameters(one.template) - parameters(other.template));
const known = (path) => templates.find(({ pattern }) => pattern.test(path))?.template;
const wanted = new Set(exchanges.map(({ path }) => known(path)));
description.paths = Object.fromEntries(Object.entries(description.paths).filter(([path]) => wanted.has(path)));
const operations = await getHttpOperationsFromSpec(description);

const json = (type, text) => {
  if (text === "") return undefined;
  return /json/.test(type) ? JSON.parse(text) : text;
};
const told = (result) => (result._tag === "Left" ? result.left : []);
const text = ({ path, message, code }) => `${(path ?? []).join(".")}: ${message} (${code})`;

/** Names that are sent, but that nobody there knows: such a wish is silently not granted. */
function unknown(operation, query, body) {
  const queries = (operation.request?.query ?? []).map(({ name }) => name);
  const strange = [...new URLSearchParams(query).keys()].filter((name) => !queries.includes(name));
  const schema = operation.request?.body?.contents?.[0]?.schema;
  const members = [schema, ...(schema?.oneOf ?? []), ...(schema?.anyOf ?? [])].flatMap((one) => Object.keys(one?.properties ?? {}));
  const sent = body && typeof body === "object" ? Object.keys(body) : [];
  const more = members.length > 0 ? sent.filter((name) => !members.includes(name)) : [];
  return [...strange.map((name) => `query: there is no ${name}`), ...more.map((name) => `body: there is no ${name}`)];
}

/** The same description, but for what must be there: what an answer leaves out is no lie. */
const lenient = (value, name) => {
  if (Array.isArray(value)) return value.map((member) => lenient(member));
  if (value === null || typeof value !== "object") return value;
  const members = Object.entries(value).filter(([key, member]) => name === "properties" || key !== "required" || !Array.isArray(member));
  return Object.fromEntries(members.map(([key, member]) => [key, lenient(member, key)]));
};
const ofAnswers = new Map(operations.map((operation) => [operation, lenient(operation)]));

// Without that, several of a choice may hold.
const AMBIGUOUS = new Set(["oneOf", "anyOf"]);

const answers = exchanges.map((exchange) => {
  const template = known(exchange.path);
  const method = exchange.method.toLowerCase();
  const operation = operations.find((one) => one.path === template && one.method === method);
  if (!operation) return { operation: null, request: [`there is no ${exchange.method} ${exchange.path}`], response: [] };
  const body = json(exchange.content_type, exchange.body);
  const parts = exchange.path.match(pattern(template)).slice(1);
  let part = 0;
  // A file's path is one parameter.
  const path = template.replaceAll(/\{[^}]+\}/g, () => parts[part++].replaceAll("/", "%2F"));
  const query = Object.fromEntries(new URLSearchParams(exchange.query));
  const headers = { accept: exchange.accept, "content-type": exchange.content_type };
  const element = { method, url: { path, query }, headers, body };
  const request = [...told(validateInput({ resource: operation, element })).map(text), ...unknown(operation, exchange.query, body)];
  const answer = json(exchange.answer_type, exchange.answer);
  const returned = { statusCode: exchange.status, headers: { "content-type": exchange.answer_type }, body: answer };
  const response = told(validateOutput({ resource: ofAnswers.get(operation), element: returned }));
  return {
    operation: `${exchange.method} ${template}`,
    request,
    response: response.filter(({ code }) => !AMBIGUOUS.has(code)).map(text),
  };
});
process.stdout.write(JSON.stringify(answers));
