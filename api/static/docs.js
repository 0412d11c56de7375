// Reads openapi.json and shows it: contents on the left, operations in the middle, examples on the right.

import { code, el, inline, paragraphs } from "/docs/dom.js";
import { example, field, fields, resolve } from "/docs/schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const key = document.getElementById("key");
key.value = sessionStorage.getItem("tollwire-key") ?? "";
key.addEventListener("input", () => sessionStorage.setItem("tollwire-key", key.value));

const doc = await (await fetch("/openapi.json")).json();
const operations = Object.entries(doc.paths).flatMap(([path, item]) =>
  Object.keys(item).filter((method) => METHODS.includes(method)).map((method) => ({ path, method, ...item[method] })));

const badge = (method) => el("span", { class: `method ${method}` }, method === "delete" ? "DEL" : method.toUpperCase());
const json = (value) => JSON.stringify(value, null, 2);

function bodyExample(operation) {
  const content = operation.requestBody?.content["application/json"];
  if (!content) return null;
  if (content.example) return content.example;
  return example(doc, content.schema, { whole: false });
}

function examplePath(operation) {
  return operation.path.replace(/\{(\w+)\}/g, (_, name) => {
    const found = (operation.parameters ?? []).find((parameter) => parameter.name === name);
    const value = example(doc, found?.schema ?? {});
    return value === "text" ? name : value;
  });
}

function curl(operation) {
  const parts = [operation.method === "get" ? "curl" : `curl -X ${operation.method.toUpperCase()}`, `"$TOLLWIRE${examplePath(operation)}"`];
  if (operation.security) parts.push('-H "X-API-Key: $KEY"');
  if ((operation.parameters ?? []).some((parameter) => parameter.name === "Idempotency-Key")) parts.push('-H "Idempotency-Key: order-1-otp"');
  const body = bodyExample(operation);
  if (body) parts.push('-H "Content-Type: application/json"', `-d '${json(body)}'`);
  return parts.join(" \\\n  ");
}

function parameterList(operation, where, title) {
  const found = (operation.parameters ?? []).filter((parameter) => parameter.in === where);
  if (!found.length) return null;
  return [el("h4", {}, title), el("ul", { class: "fields" }, found.map((parameter) =>
    field(doc, parameter.name, { ...parameter.schema, description: parameter.description ?? parameter.schema.description }, parameter.required)))];
}

function answer(status, response) {
  const [type, content] = Object.entries(response.content ?? {})[0] ?? [];
  const isProblem = type === "application/problem+json";
  const codes = isProblem ? Object.entries(content.examples ?? {}).map(([name, one]) => el("li", {},
    el("a", { href: `/docs/errors#${name}` }, el("code", {}, name)), " ", resolve(doc, one).summary ?? "")) : null;
  const headers = Object.entries(response.headers ?? {}).map(([name, header]) => el("li", {}, el("code", {}, name), " ", ...inline(resolve(doc, header).description ?? "")));
  return el("details", { class: "answer", open: Number(status) < 300 },
    el("summary", {}, el("span", { class: `status s${status[0]}` }, status), " ",
      isProblem ? el("span", { class: "codes" }, codes.length === 1 ? codes[0].querySelector("code").textContent : `${codes.length} codes`) : response.description),
    isProblem ? el("ul", { class: "codes" }, codes) : null,
    !isProblem && content?.schema ? fields(doc, content.schema, { answered: true }) : null,
    headers.length ? el("details", { class: "headers" }, el("summary", {}, "Headers"), el("ul", {}, headers)) : null);
}

function tryIt(operation) {
  const path = el("input", { class: "path", spellcheck: "false", "aria-label": "Path" });
  path.value = examplePath(operation);
  const body = bodyExample(operation);
  const text = body ? el("textarea", { spellcheck: "false", rows: String(Math.min(12, json(body).split("\n").length + 1)), "aria-label": "Body" }) : null;
  if (text) text.value = json(body);
  const out = el("div", { class: "out" });
  const run = async () => {
    out.replaceChildren(el("p", {}, "…"));
    const headers = { ...(operation.security ? { "X-API-Key": key.value } : {}), ...(text ? { "Content-Type": "application/json" } : {}) };
    try {
      const got = await fetch(path.value, { method: operation.method.toUpperCase(), headers, body: text?.value });
      const raw = await got.text();
      let shown = raw, kind = "";
      try { shown = json(JSON.parse(raw)); kind = "json"; } catch { /* not JSON: shown as it is */ }
      out.replaceChildren(el("p", {}, el("span", { class: `status s${String(got.status)[0]}` }, String(got.status)), ` ${got.statusText}`), code(shown.slice(0, 20000), kind));
    } catch (error) {
      out.replaceChildren(el("p", {}, String(error)));
    }
  };
  return el("details", { class: "try" }, el("summary", {}, "Try it"),
    el("div", { class: "line" }, badge(operation.method), path, el("button", { type: "button", onclick: run }, "Send")), text, out);
}

function show(operation) {
  const success = Object.entries(operation.responses).find(([status]) => status.startsWith("2"));
  const content = success?.[1].content?.["application/json"];
  const scope = operation.security?.[0]?.ApiKey?.[0];
  const examples = el("div", { class: "fixed" },
    el("h5", {}, "Request"), code(curl(operation)),
    ...(content ? [el("h5", {}, `Answer ${success[0]}`), code(json(example(doc, content.schema)), "json")] : []),
    tryIt(operation));
  return el("section", { class: "operation", id: operation.operationId },
    el("div", { class: "words" },
      el("h3", {}, el("a", { href: `#${operation.operationId}` }, operation.summary)),
      el("p", { class: "route" }, badge(operation.method), el("code", {}, operation.path), scope ? el("span", { class: "scope" }, "scope ", el("code", {}, scope)) : null),
      ...paragraphs(operation.description),
      ...(parameterList(operation, "path", "Path") ?? []),
      ...(parameterList(operation, "query", "Query") ?? []),
      ...(parameterList(operation, "header", "Headers") ?? []),
      ...(operation.requestBody ? [el("h4", {}, "Body"), fields(doc, operation.requestBody.content["application/json"].schema)] : []),
      el("h4", {}, "Answers"),
      ...Object.entries(operation.responses).map(([status, response]) => answer(status, response))),
    el("div", { class: "examples" }, examples));
}

const main = document.getElementById("main");
const contents = document.getElementById("contents");
main.replaceChildren(el("section", { class: "intro" }, el("h1", {}, `${doc.info.title} API`, el("span", { class: "version" }, doc.info.version)),
  el("p", { class: "lead" }, doc.info.summary), ...paragraphs(doc.info.description)));
for (const tag of doc.tags) {
  const mine = operations.filter((operation) => operation.tags.includes(tag.name));
  if (!mine.length) continue;
  main.append(el("section", { class: "tag" }, el("h2", { id: tag.name.toLowerCase().replace(/\W+/g, "-") }, tag.name), ...paragraphs(tag.description)), ...mine.map(show));
  contents.append(el("h6", {}, tag.name), el("ul", {}, mine.map((operation) =>
    el("li", {}, el("a", { href: `#${operation.operationId}`, title: `${operation.method.toUpperCase()} ${operation.path}` }, badge(operation.method), el("span", {}, operation.summary))))));
}
document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase();
  for (const item of contents.querySelectorAll("li")) item.hidden = !(item.textContent + item.firstChild.title).toLowerCase().includes(words);
});
const seen = new IntersectionObserver((entries) => entries.forEach((entry) =>
  contents.querySelector(`a[href="#${CSS.escape(entry.target.id)}"]`)?.classList.toggle("here", entry.isIntersecting)), { rootMargin: "-20% 0px -70% 0px" });
main.querySelectorAll(".operation").forEach((section) => seen.observe(section));
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
