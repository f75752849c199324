"use strict";
// Draws each chart when it comes near the window, in the colours that the reader prefers; sorts the table of trials.
const dark = matchMedia("(prefers-color-scheme: dark)"), coarse = matchMedia("(pointer: coarse)");

function coloured(value, style) {
  if (typeof value === "string") return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
  if (Array.isArray(value)) return value.map((item) => coloured(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, style)]));
}

const axis = {
  gridcolor: "var(--grid)", zerolinecolor: "var(--grid)", linecolor: "var(--line)", automargin: true,
  tickfont: { color: "var(--muted)" }, title: { font: { color: "var(--muted)" }, standoff: 8 }, exponentformat: "power",
};
const look = {
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 16, t: 12, b: 36, pad: 4 },
  font: { color: "var(--text)", size: 12 }, xaxis: axis, yaxis: axis, hovermode: "closest", bargap: 0.4,
  hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--line)", font: { color: "var(--text)" }, align: "left" },
  legend: { font: { color: "var(--muted)" }, bgcolor: "rgba(0,0,0,0)" },
};

function draw(figure) {
  const style = getComputedStyle(document.documentElement);
  const { data, layout } = coloured(JSON.parse(figure.querySelector("script").textContent), style);
  const template = { layout: coloured(look, style) };
  template.layout.font.family = getComputedStyle(document.body).fontFamily;
  const shown = { ...layout, template, autosize: true, dragmode: coarse.matches ? false : "zoom" };
  figure.drawn = true;
  return Plotly.react(figure.querySelector(".plot"), data, shown, { responsive: true, displayModeBar: false });
}

const charts = [...document.querySelectorAll(".chart")];
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting && !target.drawn) draw(target);
}, { rootMargin: "600px" });
for (const chart of charts) near.observe(chart);
dark.addEventListener("change", () => { for (const chart of charts) if (chart.drawn) draw(chart); });
addEventListener("beforeprint", () => { for (const chart of charts) if (!chart.drawn) draw(chart); });

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  return Number.isNaN(+a) || Number.isNaN(+b) ? a.localeCompare(b) : a - b;
}

for (const table of document.querySelectorAll(".sortable")) {
  const headings = [...table.querySelectorAll("th")], body = table.tBodies[0];
  headings.forEach((heading, index) => heading.querySelector("button").addEventListener("click", () => {
    const falls = heading.ariaSort === "ascending";
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.ariaSort = falls ? "descending" : "ascending";
    const value = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent.trim();
    const order = (a, b) => value(a) === "" || value(b) === "" || !falls ? compare(value(a), value(b)) : compare(value(b), value(a));
    body.append(...[...body.rows].sort(order));
  }));
}

const links = document.querySelector("nav").appendChild(document.createElement("div"));
for (const section of document.querySelectorAll("section[id]")) {
  const link = links.appendChild(document.createElement("a"));
  link.href = `#${section.id}`;
  link.textContent = section.querySelector("h2").textContent;
}
