"use strict";
// Reads values off all charts at the step under the pointer, turns the previews, and lists the sections.
const SVG = "http://www.w3.org/2000/svg";

const views = [...document.querySelectorAll(".panel")].map((panel) => {
  const svg = panel.querySelector("svg");
  const figures = JSON.parse(panel.querySelector("script").textContent);
  const group = svg.appendChild(document.createElementNS(SVG, "g"));
  const outputs = [...panel.querySelectorAll("output")];
  return { panel, svg, figures, group, outputs, last: outputs.map((output) => output.textContent) };
});

function nearest(steps, step) {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle; else high = middle;
  }
  return Math.abs(steps[high] - step) < Math.abs(step - steps[low]) ? high : low;
}

function written(value) {
  if (value === null) return "not finite";
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : value.toLocaleString("en", { maximumSignificantDigits: 7 });
}

function across({ x: [low, high], box: [left, , right] }, step) {
  return left + ((step - low) / (high - low)) * (right - left);
}

function up({ y: [low, high], log, box: [, top, , bottom] }, value) {
  const share = log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low);
  return bottom + Math.min(1, Math.max(0, share)) * (top - bottom);
}

function add(group, name, attributes, text) {
  const node = group.appendChild(document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
}

function stepAt({ svg, figures }, clientX) {
  const frame = svg.getBoundingClientRect();
  const [left, , right] = figures.box, [low, high] = figures.x;
  const x = ((clientX - frame.left) / frame.width) * svg.viewBox.baseVal.width;
  return snapped(figures, low + ((x - left) / (right - left)) * (high - low));
}

function snapped({ series }, step) {
  const { x } = series[0];
  return x.length ? x[nearest(x, step)] : step;
}

function point({ figures, group, outputs }, step) {
  const [left, top, right, bottom] = figures.box;
  const at = Math.min(right, Math.max(left, across(figures, step)));
  group.replaceChildren();
  add(group, "path", { class: "cursor", d: `M${at} ${top}V${bottom}` });
  figures.series.forEach(({ x, y }, index) => {
    if (!x.length) return;
    const i = nearest(x, step), value = y[i];
    outputs[index].textContent = written(value);
    if (value !== null && !figures.stacked)
      add(group, "path", { class: `dots s${index % 8}`, d: `M${across(figures, x[i])} ${up(figures, value)}h0` });
  });
  const middle = Math.min(right - 26, Math.max(left + 26, at));
  add(group, "text", { class: "at", x: middle, y: bottom + 15 }, `step ${step.toLocaleString("en")}`);
}

let frame = 0, current = null;
function pointAll(step) {
  current = step;
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => {
    for (const view of views) {
      if (step !== null) { point(view, snapped(view.figures, step)); continue; }
      view.group.replaceChildren();
      view.outputs.forEach((output, index) => { output.textContent = view.last[index]; });
    }
  });
}

for (const view of views) {
  const follow = (event) => pointAll(stepAt(view, event.clientX));
  view.svg.addEventListener("pointermove", follow);
  view.svg.addEventListener("pointerdown", follow);
  view.svg.addEventListener("pointerleave", () => pointAll(null));
  view.panel.addEventListener("blur", () => pointAll(null));
  view.panel.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key], { x } = view.figures.series[0];
    if (!move || !x.length) return;
    event.preventDefault();
    const i = current === null ? x.length - (move < 0 ? 0 : 1) : nearest(x, current);
    pointAll(x[Math.min(x.length - 1, Math.max(0, i + move))]);
  });
}

const slider = document.querySelector(".slider input");
if (slider) {
  const frames = [...document.querySelectorAll(".frames figure")];
  const titles = frames.map((figure) => figure.querySelector("figcaption").textContent.replace("after ", ""));
  const thumbs = frames.map((figure, index) => {
    const thumb = document.createElement("button");
    thumb.append(figure.querySelector("img").cloneNode(), titles[index]);
    thumb.addEventListener("click", () => show(index));
    return thumb;
  });
  const show = (shown) => {
    frames.forEach((figure, index) => figure.classList.toggle("shown", index === shown));
    thumbs.forEach((thumb, index) => thumb.setAttribute("aria-pressed", index === shown));
    document.querySelector(".slider output").textContent = titles[shown];
    slider.value = shown;
  };
  slider.addEventListener("input", () => show(slider.valueAsNumber));
  document.querySelector(".thumbs").append(...thumbs);
  show(frames.length - 1);
}

const links = document.querySelector("nav").appendChild(document.createElement("div"));
for (const section of document.querySelectorAll("section[id]")) {
  const link = links.appendChild(document.createElement("a"));
  link.href = `#${section.id}`;
  link.textContent = section.querySelector("h2").textContent;
}
addEventListener("beforeprint", () => { for (const fold of document.querySelectorAll("details")) fold.open = true; });
