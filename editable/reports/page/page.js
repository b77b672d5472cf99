"use strict";

/* What a cell is sorted by: its first number where it begins with one ("−1.25 %", "+3 of 10"), else its text. */
function key(row, column) {
  const text = row.cells[column].textContent.trim();
  const found = text.replaceAll("−", "-").replaceAll(",", "").match(/^[<>≤≥±]?\s*([+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)/i);
  return found ? Number(found[1]) : text;
}

/* Numbers by size and before texts, texts by the alphabet, empty cells last. */
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, undefined, { numeric: true });
}

function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const empty = (row) => key(row, column) === "";
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => empty(a) - empty(b) || (down ? -1 : 1) * compare(key(a, column), key(b, column)));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  const frame = document.createElement("div");
  frame.className = "table";
  table.replaceWith(frame);
  frame.append(table);
  if (!table.tBodies.length) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, column));
    head.append(button);
  });
}

for (const image of document.querySelectorAll("main img")) {
  const open = () => {
    const dialog = document.createElement("dialog");
    dialog.append(image.cloneNode());
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  image.tabIndex = 0;
  image.addEventListener("click", open);
  image.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
}
