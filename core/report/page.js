"use strict";

// A cell that starts with a number, with or without a unit: "12", "-0.31 dB", "+4.2 %, better than theta".
const NUMBER = /^([+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf))(?:%?$|%?[\s,])/i;

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = (cell.dataset.sort ?? cell.textContent).trim();
  return text.toLowerCase() === "nan" ? "" : text;
}

function toNumber(text) {
  return Number(NUMBER.exec(text)[1].replace(/inf/i, "Infinity"));
}

function sortRows(rows, column, asText, sign) {
  const keys = new Map(rows.map((row) => [row, valueOf(row, column)]));
  const filled = [...keys.values()].filter((text) => text !== "");
  const numeric = !asText && filled.every((text) => NUMBER.test(text));
  return rows.sort((a, b) => {
    const [first, second] = [keys.get(a), keys.get(b)];
    if (first === "" || second === "") return (first === "") - (second === ""); // empty cells last, both ways
    if (!numeric) return sign * first.localeCompare(second, "en", { numeric: true });
    const [x, y] = [toNumber(first), toNumber(second)];
    return x === y ? 0 : sign * (x < y ? -1 : 1);
  });
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const body = table.tBodies[0];
      body.append(...sortRows([...body.rows], column, heading.dataset.sort === "text", sign));
    });
  });
}

function makeFilter(form) {
  const items = [...document.querySelectorAll("[data-task]")];
  const counted = [["ARTICLE", "card"], ["TR", "run"]];
  const update = () => {
    const terms = form.elements.words.value.toLowerCase().split(/\s+/);
    const task = form.elements.task.value;
    for (const item of items) {
      const text = item.textContent.toLowerCase();
      item.hidden = (task !== "" && item.dataset.task !== task) || !terms.every((term) => text.includes(term));
    }
    form.querySelector("output").textContent = counted.map(([tag, word]) => {
      const all = items.filter((item) => item.tagName === tag);
      return `${all.filter((item) => !item.hidden).length} of ${all.length} ${word}${all.length === 1 ? "" : "s"}`;
    }).join(", ");
  };
  form.addEventListener("input", update);
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
}

// A click on a figure shows it at its full size, to be scrolled on a small screen.
function makeEnlargeable(images) {
  const dialog = document.createElement("dialog");
  const close = document.createElement("button");
  const large = document.createElement("img");
  close.type = "button";
  close.textContent = "close";
  dialog.append(close, large);
  dialog.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  for (const image of images) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "enlarge";
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      large.src = image.src;
      large.alt = image.alt;
      dialog.showModal();
    });
  }
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("form.filter").forEach(makeFilter);
const figures = document.querySelectorAll("figure img");
if (figures.length) makeEnlargeable(figures);
// The gallery's links to reports below it end so; a page that was sent alone has no gallery to go back to.
const contents = document.querySelector("nav");
if (contents && location.hash === "#gallery") {
  const back = document.createElement("a");
  back.href = "../../gallery.html";
  back.textContent = "gallery";
  contents.prepend(back);
}
