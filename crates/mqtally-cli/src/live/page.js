"use strict";
// Fills the page from the views that the server sends. Text is only ever set as text.
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 180, LEFT = 52, TOP = 10, BOTTOM = HEIGHT - 22;
const COLOURS = ["one", "two dashed"];

function make(tag, attributes = {}, text) {
  const element = tag === "svg" || SHAPES.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
const SHAPES = new Set(["line", "polyline", "rect", "text"]);

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let silence = 0;
function say(text) {
  put(byId("said"), text);
  clearTimeout(silence);
  silence = setTimeout(() => put(byId("said"), ""), 10_000);
}

// Children of `parent` that stand for `items`, in their order: made where they are missing, removed where they have gone.
// Those that stay are not moved without need, because what is moved loses the focus.
function keyed(parent, items, key, create, update) {
  const wanted = new Set(items.map((item) => String(key(item))));
  for (const child of [...parent.children]) if (!wanted.has(child.dataset.key)) child.remove();
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    const child = known.get(name) || create(item);
    child.dataset.key = name;
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

function showState({ word, sentence, tone }, over) {
  const state = byId("state");
  state.className = `verdict ${tone}`;
  put(byId("word"), word);
  put(byId("sentence"), sentence);
  byId("over").hidden = !over;
  put(byId("over"), over || "");
  const heard = `${word}${over ? `. ${over}` : ""}`;
  if (state.dataset.heard !== heard) {
    put(byId("heard"), heard);
    state.dataset.heard = heard;
  }
}

function showFacts(facts) {
  keyed(byId("facts"), facts, ([name]) => name, ([name]) => {
    const row = make("div");
    row.append(make("dt", {}, name), make("dd"));
    return row;
  }, (row, [, value]) => put(row.lastChild, value));
}

function showFigures(figures) {
  keyed(byId("figures"), figures, (it) => it.name, (it) => {
    const box = make("div"), value = make("dd");
    value.append(make("span"), make("small"));
    box.append(make("dt", {}, it.name), value);
    return box;
  }, (box, it) => {
    box.className = it.is_wrong ? "wrong" : "";
    put(box.lastChild.firstChild, it.value);
    put(box.lastChild.lastChild, it.note);
  });
}

function short(value) {
  if (value === 0) return "0";
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
  return String(+value.toPrecision(3));
}

function ticks(plot, lowest, highest) {
  if (plot.is_logarithmic) {
    const from = Math.floor(Math.log10(lowest)), to = Math.max(from + 1, Math.ceil(Math.log10(highest)));
    return Array.from({ length: to - from + 1 }, (_, it) => 10 ** (from + it));
  }
  const raw = Math.max(highest, 1) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((it) => it * power >= raw) * power;
  return Array.from({ length: Math.ceil(Math.max(highest, 1) / step) + 1 }, (_, it) => it * step);
}

// Stretches of points without a gap.
function stretches(values) {
  const all = [[]];
  values.forEach((value, at) => value === null ? all.push([]) : all.at(-1).push([at, value]));
  return all.filter((stretch) => stretch.length > 0);
}

function drawPlot(figure, plot) {
  const svg = figure.querySelector("svg.plot"), width = Math.max(svg.clientWidth, 200), right = width - 8;
  const measured = plot.curves.flatMap((curve) => curve.values).filter((value) => value !== null && (value > 0 || !plot.is_logarithmic));
  const lowest = measured.length ? Math.min(...measured) : 1, highest = measured.length ? Math.max(...measured) : 1;
  const grid = ticks(plot, lowest, highest);
  const scale = plot.is_logarithmic ? Math.log10 : (value) => value;
  const [low, high] = [scale(grid[0]), scale(grid.at(-1))];
  const y = (value) => BOTTOM - (BOTTOM - TOP) * (scale(Math.max(value, grid[0])) - low) / (high - low);
  const x = (at) => LEFT + (right - LEFT) * at / Math.max(plot.points - 1, 1);
  const shapes = [];
  for (const [from, to] of plot.bands) {
    shapes.push(make("rect", { class: "band", x: x(from), y: TOP, width: Math.max(x(to) - x(from), 1.5), height: BOTTOM - TOP }));
  }
  for (const value of grid) {
    shapes.push(make("line", { class: "grid", x1: LEFT, x2: right, y1: y(value), y2: y(value) }));
    shapes.push(make("text", { class: "faint", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  // Many lines over the whole height would hide the curves.
  const markTop = plot.marks.length > 80 ? BOTTOM - 10 : TOP;
  let last = -Infinity;
  for (const at of plot.marks) {
    if (x(at) - last < 1) continue;
    last = x(at);
    shapes.push(make("line", { class: "mark", x1: last, x2: last, y1: markTop, y2: BOTTOM }));
  }
  plot.curves.forEach((curve, number) => {
    const shift = plot.points - curve.values.length;
    for (const stretch of stretches(curve.values)) {
      const dot = stretch.length === 1 ? " dot" : "";
      if (dot) stretch.push(stretch[0]);
      const points = stretch.map(([at, value]) => `${x(at + shift).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      shapes.push(make("polyline", { class: `curve ${COLOURS[number]}${dot}`, points, "stroke-linecap": "round" }));
    }
  });
  shapes.push(make("text", { class: "faint", x: LEFT, y: HEIGHT - 6 }, plot.ends[0]));
  shapes.push(make("text", { class: "faint", x: right, y: HEIGHT - 6, "text-anchor": "end" }, plot.ends[1]));
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.replaceChildren(...shapes);
  const told = plot.curves.map((curve) => {
    const known = curve.values.filter((value) => value !== null);
    if (known.length === 0) return `${curve.name}: nothing measured`;
    return `${curve.name}: ${short(known.at(-1))} ${plot.unit} at last, at most ${short(Math.max(...known))}`;
  });
  svg.setAttribute("aria-label", `${plot.name}. ${told.join("; ")}. ${plot.ends[0]} to ${plot.ends[1]}.`);
}

function createPlot(plot) {
  const figure = make("figure"), caption = make("figcaption", {}, plot.name), legend = make("div", { class: "legend" });
  const entry = (shape, name) => {
    const key = make("svg", { width: 22, height: 8, "aria-hidden": "true" }), item = make("span");
    key.append(shape);
    item.append(key, name);
    legend.append(item);
  };
  const stroke = (name) => make("line", { class: name, x1: 0, x2: 22, y1: 4, y2: 4 });
  plot.curves.forEach((curve, number) => entry(stroke(`curve ${COLOURS[number]}`), curve.name));
  if (plot.marks.length > 0) entry(stroke("mark"), "fault");
  if (plot.bands.length > 0) entry(make("rect", { class: "band", width: 22, height: 8 }), "broker away");
  caption.append(legend);
  figure.append(caption, make("svg", { class: "plot", role: "img" }));
  return figure;
}

function showPlots(plots) {
  const parent = byId("plots");
  const kind = (plot) => `${plot.name} ${plot.marks.length > 0} ${plot.bands.length > 0}`;
  keyed(parent, plots, kind, createPlot, () => {});
  [...parent.children].forEach((figure, number) => drawPlot(figure, plots[number]));
}

function columnOf(column) {
  const [kind, name] = Object.entries(column)[0];
  return { kind, name };
}

function createTable(table) {
  const section = make("section", { "aria-labelledby": `${table.id}-name` });
  section.append(make("h2", { id: `${table.id}-name`, tabindex: "-1" }, table.name), make("p", { class: "faint" }));
  const box = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": table.name });
  const grid = make("table"), head = make("thead"), row = make("tr");
  grid.append(make("caption", { class: "hidden" }, table.name));
  for (const column of table.columns.map(columnOf)) {
    row.append(make("th", { scope: "col", class: column.kind === "number" ? "number" : "" }, column.name));
  }
  head.append(row);
  grid.append(head, make("tbody"));
  box.append(grid);
  section.append(box);
  return section;
}

function createRow(table, row) {
  const line = make("tr");
  const classes = { number: "number", word: "nowrap", time: "nowrap", code: "code", action: "", text: "" };
  table.columns.map(columnOf).forEach(({ kind }, number) => {
    const cell = number === 0 ? make("th", { scope: "row" }) : make("td");
    cell.className = classes[kind];
    if (kind === "word") cell.append(make("span", { class: "word" }));
    if (kind === "action" && row.replay !== null) {
      const button = make("button", { type: "button" }, row.cells[number]);
      button.append(make("span", { class: "hidden" }, ` dead letter ${row.replay}`));
      button.addEventListener("click", () => replay(row.replay, button));
      cell.append(button);
    }
    line.append(cell);
  });
  return line;
}

function updateRow(table, line, row) {
  line.className = row.tone;
  row.cells.forEach((text, number) => {
    const cell = line.children[number], inner = cell.firstElementChild;
    put(inner?.tagName === "BUTTON" ? inner.firstChild : inner || cell, text);
  });
  const button = line.querySelector("button");
  if (button && row.is_asked) button.setAttribute("aria-disabled", "true");
}

function showTables(tables) {
  keyed(byId("tables"), tables, (table) => table.id, createTable, (section, table) => {
    const note = section.querySelector("p"), body = section.querySelector("tbody"), box = section.querySelector(".scroll");
    const text = table.rows.length > 0 ? table.note : table.empty;
    put(note, text);
    note.hidden = text === "";
    box.hidden = table.rows.length === 0;
    const held = body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
    const next = held && (held.nextElementSibling || held.previousElementSibling);
    keyed(body, table.rows, (row) => row.key, (row) => createRow(table, row), (line, row) => updateRow(table, line, row));
    // Who had the focus on what has gone goes on beside it.
    if (held && !held.isConnected) {
      const button = next && next.isConnected && next.querySelector("button");
      (button || section.querySelector("h2")).focus();
    }
  });
}

async function replay(number, button) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  say(`Asking for the replay of dead letter ${number}.`);
  try {
    const answer = await fetch("replay", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ number }),
    });
    say((await answer.text()).trim());
    if (!answer.ok) button.removeAttribute("aria-disabled");
  } catch {
    say(`No answer to the replay of dead letter ${number}; is it still running?`);
    button.removeAttribute("aria-disabled");
  }
}

let shown = null;
function show(view) {
  shown = view;
  document.title = `${view.state.word} · ${view.title}`;
  put(byId("title"), view.title);
  showState(view.state, view.over);
  showFacts(view.facts);
  showFigures(view.figures);
  showPlots(view.plots);
  showTables(view.tables);
}

function watch() {
  const events = new EventSource("events");
  events.onmessage = (message) => {
    const view = JSON.parse(message.data);
    show(view);
    if (view.over) events.close();
  };
  events.onerror = () => {
    const gone = events.readyState === EventSource.CLOSED;
    const sentence = gone ? "The server does not let this page in; open the URL that it printed." :
      "No connection to the server; trying again each second. What stands below is what was seen last.";
    showState({ word: "not connected", sentence, tone: "unknown" }, "");
    document.title = "not connected · mqtally live";
  };
}

// The token has done its work; it need not stay in the address bar and in the history.
if (location.search) history.replaceState(null, "", location.pathname);
// Curves are drawn for the width that they have; a scroll bar changes it, too.
new ResizeObserver(() => { if (shown) showPlots(shown.plots); }).observe(byId("plots"));
watch();
