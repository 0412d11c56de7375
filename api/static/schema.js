// JSON Schemas as tables of fields, and as examples.

import { el, inline } from "/docs/dom.js";

const DEPTH_MAX = 6;

export function resolve(doc, schema) {
  while (schema && schema.$ref) {
    schema = schema.$ref.slice(2).split("/").reduce((at, part) => at[part], doc);
  }
  return schema ?? {};
}

// Without the "or null" that optional fields have; says whether it was there.
function essence(doc, schema) {
  const found = resolve(doc, schema);
  if (!found.anyOf) return { schema: found, nullable: false };
  const kinds = found.anyOf.filter((kind) => kind.type !== "null");
  const nullable = kinds.length < found.anyOf.length;
  if (kinds.length !== 1) return { schema: found, nullable };
  const inner = resolve(doc, kinds[0]);
  return { schema: { ...inner, description: found.description ?? inner.description }, nullable };
}

export function typeName(doc, schema) {
  const { schema: found, nullable } = essence(doc, schema);
  let name = found.const !== undefined ? JSON.stringify(found.const) : found.type ?? "any";
  if (found.anyOf) name = found.anyOf.map((kind) => typeName(doc, kind)).join(" or ");
  if (found.enum) name = "one of";
  if (found.format) name = found.format;
  if (found.type === "array") name = `list of ${typeName(doc, found.items ?? {})}`;
  if (found.type === "object" && found.title) name = "object";
  return nullable ? (found.enum ? `${name}, or null` : `${name} or null`) : name;
}

function limits(found) {
  const words = [];
  const range = (low, high, unit) => {
    if (low !== undefined && high !== undefined) words.push(`${low} to ${high}${unit}`);
    else if (low !== undefined) words.push(`at least ${low}${unit}`);
    else if (high !== undefined) words.push(`at most ${high}${unit}`);
  };
  range(found.minimum, found.maximum, "");
  const many = (most, word) => (most === 1 ? ` ${word}` : ` ${word}s`);
  range(found.minLength, found.maxLength, many(found.maxLength ?? found.minLength, "character"));
  range(found.minItems, found.maxItems, many(found.maxItems ?? found.minItems, "item"));
  if (found.default !== undefined && found.default !== null) words.push(`default ${JSON.stringify(found.default)}`);
  return words.join(", ");
}

export function field(doc, name, schema, required, depth = 0, answered = false) {
  const { schema: found } = essence(doc, schema);
  const own = resolve(doc, schema);
  const inner = children(doc, found, depth, answered);
  return el("li", { class: "field" },
    el("div", { class: "head" },
      el("code", { class: "name" }, name),
      el("span", { class: "type" }, typeName(doc, schema)),
      required && !answered ? el("span", { class: "required" }, "required") : null,
      limits(found) ? el("span", { class: "limits" }, limits(found)) : null),
    found.enum ? el("div", { class: "enum" }, found.enum.filter((one) => one !== null).map((one) => el("code", {}, String(one)))) : null,
    own.description || found.description ? el("p", {}, inline(own.description ?? found.description)) : null,
    inner);
}

function children(doc, found, depth, answered) {
  if (depth >= DEPTH_MAX) return null;
  if (found.type === "array") return children(doc, essence(doc, found.items ?? {}).schema, depth, answered);
  const names = Object.entries(found.properties ?? {});
  if (!names.length) return null;
  const list = el("ul", { class: "fields" }, names.map(([name, inner]) => field(doc, name, inner, found.required?.includes(name), depth + 1, answered)));
  return depth === 0 ? list : el("details", {}, el("summary", {}, `${names.length} fields`), list);
}

export function fields(doc, schema, { answered = false } = {}) {
  return children(doc, essence(doc, schema).schema, 0, answered);
}

const BY_FORMAT = { "date-time": "2026-11-21T10:00:00.123Z", uuid: "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", uri: "https://example.org/" };

export function example(doc, schema, { whole = true } = {}, depth = 0) {
  const { schema: found, nullable } = essence(doc, schema);
  if (found.const !== undefined) return found.const;
  if (found.examples?.length) return found.examples[0];
  if (found.default !== undefined && found.default !== null) return found.default;
  if (found.enum) return found.enum.find((one) => one !== null);
  if (found.type === "array") return depth > DEPTH_MAX ? [] : [example(doc, found.items ?? {}, { whole }, depth + 1)];
  if (found.type === "object") {
    const wanted = Object.entries(found.properties ?? {}).filter(([name]) => whole || found.required?.includes(name));
    return Object.fromEntries(wanted.map(([name, inner]) => [name, example(doc, inner, { whole }, depth + 1)]));
  }
  if (BY_FORMAT[found.format]) return BY_FORMAT[found.format];
  if (found.type === "integer" || found.type === "number") return found.minimum ?? 1;
  if (found.type === "boolean") return false;
  return nullable ? null : found.type === "string" ? "text" : null;
}
