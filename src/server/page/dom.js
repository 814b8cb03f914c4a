// The few things that every element needs of the document.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with attributes and children. A function is a listener, true an empty attribute, false and null none. */
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") e.addEventListener(key, value);
    else if (value !== false && value != null) e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children.filter(child => child != null));
  return e;
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon of the sprite in index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "ic");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Sets an attribute only where it differs: a live region is read again at every write. */
export function attr(e, key, value) {
  if (value == null || value === false) e.removeAttribute(key);
  else if (e.getAttribute(key) !== String(value)) e.setAttribute(key, String(value));
}

export function text(e, value) {
  if (e.textContent !== value) e.textContent = value;
}

/**
 * Makes the children of a list fit `items` and touches no child that may stay, so that focus and loaded pictures stay
 * too.
 * `make(item)` builds a child, `update(child, item, index)` brings it up to date.
 */
export function keyed(list, items, key, make, update) {
  const old = new Map([...list.children].map(child => [child.dataset.key, child]));
  let at = list.firstElementChild;
  items.forEach((item, index) => {
    const name = key(item);
    const child = old.get(name) ?? make(item);
    old.delete(name);
    child.dataset.key = name;
    if (child === at) at = at.nextElementSibling;
    else list.insertBefore(child, at);
    update(child, item, index);
  });
  for (const child of old.values()) child.remove();
}

/** One stop of the tab key for a whole list or toolbar: arrows, Home and End move inside. */
export function rove(root, selector) {
  const all = () => $$(selector, root).filter(e => !e.disabled && e.getClientRects().length);
  root.addEventListener("keydown", event => {
    const from = event.target.closest(selector);
    const items = all();
    const i = items.indexOf(from);
    if (i < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const move = {
      ArrowRight: 1,
      ArrowDown: row(items, i, 1),
      ArrowLeft: -1,
      ArrowUp: -row(items, i, -1),
      Home: -i,
      End: items.length - 1 - i,
    }[event.key];
    const next = items[i + (move ?? 0)];
    if (move === undefined || !next) return;
    event.preventDefault();
    next.focus();
  });
  root.addEventListener("focusin", event => settle(event.target.closest(selector)));
  const settle = chosen => {
    const items = all();
    const stop = items.includes(chosen) ? chosen : (items.find(e => e.tabIndex === 0) ?? items[0]);
    for (const e of items) e.tabIndex = e === stop ? 0 : -1;
  };
  return () => settle(null);
}

/** How many items further the one above or below is, in a list that wraps. */
function row(items, i, direction) {
  const box = items[i].getBoundingClientRect();
  for (let k = i + direction; k >= 0 && k < items.length; k += direction) {
    const other = items[k].getBoundingClientRect();
    if (Math.abs(other.top - box.top) > 4 && Math.abs(other.left - box.left) < box.width / 2) return Math.abs(k - i);
  }
  return 1;
}

/** Says a sentence to those who listen to the page; the same one twice is said twice. */
export function announce(sentence) {
  const status = $("#status");
  if (status.textContent === sentence) status.textContent = "";
  requestAnimationFrame(() => {
    status.textContent = sentence;
  });
}

/** Calls `run` once it has been quiet for so long. */
export function quiet(milliseconds, run) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...args), milliseconds);
  };
}
