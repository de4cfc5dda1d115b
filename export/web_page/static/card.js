// One photo on the page: the picture, its labels as buttons with bars, and what it took.

import { brightestPlace, drawPhoto } from "./heatmap.js";
import { bestFirst, isPresent } from "./results.js";
import { strings } from "./strings.js";

const SHOWN_LABELS = 6;

/** An element with properties, attributes by `attributes`, and children. */
export function element(tag, { attributes = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export class Card {
  constructor(name, onRemove) {
    this.name = name;
    this.note = element("p", { className: "note", textContent: strings.waiting });
    const remove = element("button", { type: "button", className: "remove", textContent: "×", attributes: { "aria-label": strings.remove(name) }, onclick: onRemove });
    const heading = element("h2", { textContent: name, title: name });
    this.content = element("div", { className: "card-content" }, this.note);
    this.element = element("article", { className: "card", attributes: { "aria-label": name, "aria-busy": "true" } }, element("div", { className: "card-head" }, heading, remove), this.content);
  }

  working() {
    this.note.textContent = strings.working;
  }

  /** One sentence in place of an answer. */
  fail(sentence) {
    this.element.removeAttribute("aria-busy");
    this.element.classList.add("failed");
    this.note.textContent = sentence;
    this.note.setAttribute("role", "alert");
  }

  /** `answer` is what the worker found; `labels` are names in the order of its scores. */
  show(answer, labels) {
    this.picture?.close(); // of another model's answer
    Object.assign(this, answer, { labels, order: bestFirst(answer.scores), pinned: undefined });
    this.element.removeAttribute("aria-busy");
    this.canvas = element("canvas", { width: this.picture.width, height: this.picture.height, attributes: { role: "img" } });
    this.caption = element("p", { className: "caption", attributes: { "aria-live": "polite" } });
    this.list = element("ul", { className: "labels", attributes: { "aria-label": strings.labelsOf(this.name) } });
    this.nothing = element("p", { className: "note", textContent: strings.noneIsPresent, hidden: true });
    this.rows = this.order.map((label) => this.row(label));
    this.list.append(...this.rows.map(({ item }) => item));
    this.all = element("button", { type: "button", className: "link all", attributes: { "aria-expanded": "false" }, onclick: () => this.toggleAll() });
    const times = element("p", { className: "times", textContent: strings.times(this.times) });
    this.content.replaceChildren(
      element("div", { className: "picture" }, this.canvas, this.caption),
      element("div", { className: "answer" }, this.nothing, this.list, this.all, times),
    );
    this.look(undefined);
  }

  row(label) {
    const fill = element("span", { className: "fill" });
    const tick = element("span", { className: "tick" });
    const present = element("span", { className: "visually-hidden" });
    const button = element(
      "button",
      { type: "button", attributes: { "aria-pressed": "false" } },
      element("span", { className: "name", textContent: this.labels[label] }),
      element("span", { className: "score", textContent: this.scores[label].toFixed(3) }),
      present,
      element("span", { className: "bar", attributes: { "aria-hidden": "true" } }, fill, tick),
    );
    fill.style.width = `${100 * this.scores[label]}%`;
    button.onpointerenter = (event) => event.pointerType !== "touch" && this.look(label);
    button.onpointerleave = (event) => event.pointerType !== "touch" && this.look(this.pinned);
    button.onfocus = () => button.matches(":focus-visible") && this.look(label);
    button.onblur = () => this.look(this.pinned);
    button.onclick = () => {
      this.pinned = this.pinned === label ? undefined : label;
      this.look(this.pinned);
    };
    if (!this.maps) button.disabled = true; // nothing to see: a plain list
    return { label, item: element("li", {}, button), button, tick, present };
  }

  /** Marks the labels whose scores reach `thresholds`; returns their names. */
  apply(thresholds) {
    let count = 0;
    for (const { label, item, tick, present } of this.rows) {
      const is = isPresent(this.scores[label], label, thresholds);
      item.classList.toggle("present", is);
      present.textContent = is ? strings.present : "";
      tick.style.left = `${100 * Math.min(1, Math.max(0, thresholds[label]))}%`;
      count += is;
    }
    this.nothing.hidden = count > 0;
    this.shownAtFirst = Math.min(this.rows.length, Math.max(SHOWN_LABELS, count));
    this.fold();
    return this.order.filter((label) => isPresent(this.scores[label], label, thresholds)).map((label) => this.labels[label]);
  }

  toggleAll() {
    this.all.setAttribute("aria-expanded", String(this.all.getAttribute("aria-expanded") !== "true"));
    this.fold();
  }

  fold() {
    const whole = this.all.getAttribute("aria-expanded") === "true";
    this.rows.forEach(({ item }, index) => (item.hidden = !whole && index >= this.shownAtFirst));
    this.all.hidden = this.shownAtFirst === this.rows.length;
    this.all.textContent = whole ? strings.fewerLabels : strings.allLabels(this.rows.length);
  }

  /** Shows the heat-map of a label, or of none. */
  look(label) {
    const map = label !== undefined && this.maps && this.mapOf(label);
    drawPhoto(this.canvas, this.picture, map);
    for (const row of this.rows) {
      row.button.setAttribute("aria-pressed", String(row.label === this.pinned));
      row.item.classList.toggle("looked-at", Boolean(map) && row.label === label);
    }
    const place = map && placeInWords(brightestPlace(map));
    this.canvas.setAttribute("aria-label", map ? strings.photoWithMap(this.name, this.labels[label], place) : strings.photo(this.name));
    this.caption.textContent = map ? strings.brightest(this.labels[label], place) : this.maps ? strings.pointAtALabel : "";
  }

  mapOf(label) {
    const { values, height, width } = this.maps;
    return { values: values.subarray(label * height * width, (label + 1) * height * width), height, width };
  }

  close() {
    this.picture?.close();
    this.element.remove();
  }
}

function placeInWords([row, column]) {
  if (row === 1 && column === 1) return strings.centre;
  return [strings.placeRows[row], strings.placeColumns[column]].filter(Boolean).join(" ");
}
