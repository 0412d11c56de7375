// Making elements and the little Markdown that descriptions use. No innerHTML anywhere.

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\((\/[^)]*|https:[^)]*)\)/g;

export function inline(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(from, match.index));
    if (match[1] !== undefined) parts.push(el("code", {}, match[1]));
    else if (match[2] !== undefined) parts.push(el("strong", {}, match[2]));
    else parts.push(el("a", { href: match[4] }, match[3]));
    from = match.index + match[0].length;
  }
  parts.push(text.slice(from));
  return parts;
}

export function paragraphs(text) {
  return (text ?? "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) => el("p", {}, inline(part.trim())));
}

export function code(text, kind = "") {
  return el("pre", { class: `code ${kind}`, tabindex: "0" }, el("code", {}, ...(kind === "json" ? colours(text) : [text])));
}

const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?)/g;

function colours(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(TOKENS)) {
    parts.push(text.slice(from, match.index));
    if (match[1] !== undefined) parts.push(el("span", { class: match[2] ? "name" : "string" }, match[1]), match[2] ?? "");
    else parts.push(el("span", { class: match[3] !== undefined ? "word" : "number" }, match[0]));
    from = match.index + match[0].length;
  }
  parts.push(text.slice(from));
  return parts;
}
